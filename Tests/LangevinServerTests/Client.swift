import Foundation
import LangevinJSON
import Testing

/// A client that can also misbehave: a socket of its own for each request.
struct Client: Sendable {
  let port: Int
  var headers: [String: String] = [:]

  struct Answer: Sendable {
    let status: Int
    let headers: [String: String]
    let body: Data

    var text: String { String(decoding: body, as: UTF8.self) }
    var json: StrictJSON {
      get throws { try StrictJSON(parsing: Array(body)) }
    }
    /// What an error says.
    var message: String { (try? json)?["error"]?["message"]?.string ?? "" }
  }

  struct Failed: Error {
    let reason: String
  }

  func get(_ path: String, _ headers: [String: String] = [:]) async throws -> Answer {
    try await send("GET", path, headers)
  }

  func post(_ path: String, _ body: String, _ headers: [String: String] = [:]) async throws -> Answer {
    try await send(
      "POST", path, ["Content-Type": "application/json"].merging(headers) { $1 }, Data(body.utf8))
  }

  func send(_ method: String, _ path: String, _ headers: [String: String] = [:], _ body: Data = Data())
    async throws
    -> Answer
  {
    let request =
      head(method, path, headers.merging(["Content-Length": "\(body.count)"]) { a, _ in a }) + body
    return try await raw(request)
  }

  func head(_ method: String, _ path: String, _ headers: [String: String]) -> Data {
    let all = ["Host": "127.0.0.1:\(port)", "Connection": "close"].merging(self.headers) { $1 }.merging(
      headers
    ) { $1 }
    let lines = all.map { "\($0): \($1)" }
    return Data(("\(method) \(path) HTTP/1.1\r\n" + lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
  }

  /// Sends bytes and reads until the server closes. `half` closes the own direction behind them.
  func raw(_ request: Data, half: Bool = false) async throws -> Answer {
    try await onThread {
      let socket = try Socket(port)
      try socket.send(request)
      if half { shutdown(socket.descriptor, Int32(SHUT_WR)) }
      return try Self.parse(socket.readAll())
    }
  }

  private static func parse(_ data: Data) throws -> Answer {
    guard let end = data.range(of: Data("\r\n\r\n".utf8)) else {
      throw Failed(reason: "no answer: \(String(decoding: data.prefix(200), as: UTF8.self))")
    }
    let lines = String(decoding: data[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
    let status = lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let pair = line.split(separator: ":", maxSplits: 1)
      if pair.count == 2 { headers[pair[0].lowercased()] = pair[1].trimmingCharacters(in: .whitespaces) }
    }
    var body = Data(data[end.upperBound...])
    if headers["transfer-encoding"] == "chunked" { body = dechunked(body) }
    guard let status else { throw Failed(reason: "no status: \(lines[0])") }
    return Answer(status: status, headers: headers, body: body)
  }

  private static func dechunked(_ data: Data) -> Data {
    var (result, rest) = (Data(), data)
    while let end = rest.range(of: Data("\r\n".utf8)),
      let size = Int(String(decoding: rest[..<end.lowerBound], as: UTF8.self), radix: 16), size > 0
    {
      result += rest[end.upperBound...].prefix(size)
      rest = Data(rest[end.upperBound...].dropFirst(size + 2))
    }
    return result
  }

  /// The job of an answer, until it has ended.
  func ended(_ answer: Answer) async throws -> StrictJSON {
    let id = try #require(answer.json["id"]?.string, "\(answer.text)")
    for _ in 0..<3000 {
      let json = try await get("/v1/jobs/\(id)").json
      if !["queued", "running"].contains(json["state"]?.string) { return json }
      try await Task.sleep(for: .milliseconds(20))
    }
    throw Failed(reason: "the job does not end")
  }
}

/// Runs what blocks outside of the threads that tasks share.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    Thread.detachNewThread { continuation.resume(with: Swift.Result { try body() }) }
  }
}

/// A connection to this machine.
final class Socket: Sendable {
  let descriptor: Int32

  init(_ port: Int) throws {
    signal(SIGPIPE, SIG_IGN)
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var patience = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else { throw Client.Failed(reason: "connect: \(errno)") }
  }

  deinit { close(descriptor) }

  func send(_ data: Data) throws {
    try data.withUnsafeBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
        guard count > 0 else {
          // The server may have answered and closed before it read everything.
          if errno == EPIPE || errno == ECONNRESET { return }
          throw Client.Failed(reason: "write: \(errno)")
        }
        rest = rest.dropFirst(count)
      }
    }
  }

  /// At most `limit` bytes, or until the server closes.
  func readAll(limit: Int = 1 << 28) throws -> Data {
    var result = Data()
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while result.count < limit {
      let count = read(descriptor, &chunk, min(chunk.count, limit - result.count))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { break }
      result.append(contentsOf: chunk[..<count])
    }
    return result
  }
}
