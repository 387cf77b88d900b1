import Foundation
import HTTPTypes
import Hummingbird
import Langevin
import LangevinJSON
import LangevinTensor
import Logging
import NIOCore

/// What routes know of a request beside itself.
struct ServerContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  /// The client's address.
  let client: String
  let channel: any Channel

  init(source: Source) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
    client = channel.remoteAddress?.ipAddress ?? "-"
  }
}

/// Outermost: makes JSON of every error, counts, and logs one line a request.
struct FrontMiddleware: RouterMiddleware {
  typealias Context = ServerContext
  let metrics: Metrics
  let logger: Logger

  func handle(
    _ request: Request, context: ServerContext, next: (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    let start = ContinuousClock.now
    var response: Response
    do {
      response = try await next(request, context)
    } catch let error as APIError {
      response = error.response
    } catch is CancellationError {
      // The client is gone; nobody reads this.
      response = APIError(.init(code: 499), "the client went away").response
    } catch let error as HTTPError {
      let path = request.uri.path.shortened(to: 80)
      response =
        APIError(
          error.status,
          error.body
            ?? (error.status == .notFound ? "there is no \(request.method) \(path)" : "\(error.status)")
        ).response
    } catch {
      response = APIError(.internalServerError, "\(error)").response
    }
    // It may have left a body unread: a client that keeps the connection would find it closed.
    if response.status.code >= 400 { response.headers[.connection] = "close" }
    response.headers[HTTPField.Name("X-Content-Type-Options")!] = "nosniff"
    if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
    let route = context.endpointPath ?? "other"
    metrics.countRequest(request.method.rawValue, route, status: response.status.code)
    let elapsed = (ContinuousClock.now - start) / .milliseconds(1)
    // A browser asks for progress again and again.
    let level: Logger.Level = route == "/health" || route == "/metrics" ? .debug : .info
    logger.log(
      level: level, "\(request.method) \(request.uri.path.shortened(to: 200)) \(response.status.code)",
      metadata: [
        "method": "\(request.method)", "path": "\(request.uri.path.shortened(to: 200))",
        "status": "\(response.status.code)", "milliseconds": "\((elapsed * 10).rounded() / 10)",
        "client": "\(context.client)",
      ])
    return response
  }
}

/// Who may ask: requests to names that are this server's, of pages that it served, and with the key where there is one.
struct GuardMiddleware: RouterMiddleware {
  typealias Context = ServerContext
  let key: APIKey?
  /// Beside addresses and localhost, in small letters.
  let hosts: Set<String>

  func handle(
    _ request: Request, context: ServerContext, next: (Request, ServerContext) async throws -> Response
  ) async throws -> Response {
    let authority = request.head.authority ?? ""
    // A page of another site can have its name resolve to this machine, and then talk to it (DNS rebinding). An
    // address as a name cannot be rebound.
    guard let host = Self.host(authority), isOwn(host) else {
      throw APIError(
        .forbidden,
        "the host '\(authority.shortened(to: 80))' is not this server's name; --allow-host adds one")
    }
    if let origin = request.headers[.origin], !isSame(origin, authority) {
      throw APIError(.forbidden, "a page of '\(origin.shortened(to: 80))' may not use this server")
    }
    if let key, !Self.isOpen(request.uri.path), !key.isIn(request.headers) {
      throw APIError(
        .unauthorized, "the API key is missing or wrong: send 'Authorization: Bearer KEY'",
        headers: [.wwwAuthenticate: "Bearer"])
    }
    return try await next(request, context)
  }

  /// What shows nothing and does nothing.
  private static func isOpen(_ path: String) -> Bool {
    path == "/health" || PageFile.paths.contains(path)
  }

  /// Without the port; nil for what is no host.
  static func host(_ authority: String) -> String? {
    if authority.hasPrefix("[") {
      guard let end = authority.firstIndex(of: "]") else { return nil }
      let rest = authority[end...].dropFirst()
      guard rest.isEmpty || rest.first == ":" else { return nil }
      return String(authority[authority.index(after: authority.startIndex)..<end])
    }
    let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let host = parts.first, !host.isEmpty else { return nil }
    return host.lowercased()
  }

  private func isOwn(_ host: String) -> Bool {
    host == "localhost" || hosts.contains(host) || Self.isAddress(host)
  }

  /// IPv4 or IPv6.
  static func isAddress(_ host: String) -> Bool {
    var buffer = [UInt8](repeating: 0, count: 16)
    return inet_pton(AF_INET, host, &buffer) == 1 || inet_pton(AF_INET6, host, &buffer) == 1
  }

  private func isSame(_ origin: String, _ authority: String) -> Bool {
    ["http://", "https://"].contains { origin.lowercased() == $0 + authority.lowercased() }
  }
}

/// A secret that clients send as OpenAI's do, or as the password of HTTP's basic scheme, as A1111's do.
struct APIKey: Sendable {
  private let key: [UInt8]

  init(_ key: String) { self.key = Array(key.utf8) }

  func isIn(_ headers: HTTPFields) -> Bool {
    guard let given = headers[.authorization] else { return false }
    let parts = given.split(separator: " ", maxSplits: 1)
    guard parts.count == 2 else { return false }
    let value = parts[1].trimmingCharacters(in: .whitespaces)
    switch parts[0].lowercased() {
    case "bearer": return matches(Array(value.utf8))
    case "basic":
      guard let pair = Data(base64Encoded: value), let colon = pair.firstIndex(of: UInt8(ascii: ":")) else {
        return false
      }
      return matches(Array(pair[pair.index(after: colon)...]))
    default: return false
    }
  }

  /// In a time that depends on what was given alone.
  func matches(_ given: [UInt8]) -> Bool {
    guard !key.isEmpty else { return false }
    var difference: UInt8 = key.count == given.count ? 0 : 1
    for (index, byte) in given.enumerated() { difference |= byte ^ key[index % key.count] }
    return difference == 0
  }
}

/// A request's body, within limits.
struct BodyReader: Sendable {
  let limit: Int
  /// However slowly it comes.
  var patience = Duration.seconds(60)

  /// Throws `APIError`: 413 where it is larger, 408 where it does not come, 400 where it breaks off.
  func bytes(_ body: RequestBody, _ headers: HTTPFields) async throws -> [UInt8] {
    let tooLarge = APIError(
      .contentTooLarge, "the body is larger than \(ByteCount.text(limit))", headers: [.connection: "close"])
    let told = headers[.contentLength].flatMap { Int($0) } ?? 0
    // Many clients read no answer before they have sent all of it.
    let most = 4 * limit
    if told > most { throw tooLarge }
    return try await withThrowingTaskGroup(of: [UInt8].self) { group in
      group.addTask {
        var bytes: [UInt8] = []
        var count = 0
        do {
          for try await chunk in body {
            count += chunk.readableBytes
            guard count <= most else { throw tooLarge }
            if max(count, told) <= limit {
              bytes.append(contentsOf: chunk.readableBytesView)
            } else {
              bytes = []
            }
          }
        } catch let error as APIError {
          throw error
        } catch {
          throw APIError.badRequest("the body breaks off after \(count) bytes")
        }
        guard max(count, told) <= limit else { throw tooLarge }
        guard count >= told else {
          throw APIError.badRequest("the body breaks off after \(count) of \(told) bytes")
        }
        return bytes
      }
      group.addTask { [patience] in
        try await Task.sleep(for: patience)
        throw APIError(
          .requestTimeout, "the body did not come within \(patience)", headers: [.connection: "close"])
      }
      defer { group.cancelAll() }
      return try await group.next() ?? []
    }
  }
}
