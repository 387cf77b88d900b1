import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Langevin
import LangevinJSON
import Logging
import NIOCore
import ServiceLifecycle

/// Where a server listens, what it draws with, and who may ask.
public struct ServerConfiguration: Sendable {
  /// A name or address of this machine.
  public var host = "127.0.0.1"
  /// 0 for any that is free.
  public var port = 7860
  /// Needed for every host that is not this machine's own.
  public var apiKey: String?
  /// Names by which clients may call the server, beside addresses and localhost.
  public var allowedHosts: [String] = []
  /// What it draws with.
  public var served: ServedModels
  /// One worker each, as `DeviceChoice` reads them.
  public var devices: [String]
  /// How many jobs may wait.
  public var queueLimit = 16
  /// How many pictures of jobs that wait and agree are drawn together; 1 for those of one job alone.
  public var batch = 4
  /// Seconds that SIGTERM leaves to the jobs that are there.
  public var drainSeconds = 30.0
  /// What pictures say that they were made by.
  public var version: String
  /// How the processes are started that draw; nil to draw in this one.
  public var drawingProcess: DrawingProcessCommand?
  /// What there is on this machine, as JSON.
  public var survey: @Sendable () async throws -> String = { "{}" }

  /// A server on loopback with these models.
  public init(served: ServedModels, devices: [String], version: String) {
    (self.served, self.devices, self.version) = (served, devices, version)
  }

  /// Whether only this machine can reach it.
  var isLoopback: Bool {
    host == "localhost" || host == "::1" || (host.hasPrefix("127.") && GuardMiddleware.isAddress(host))
  }

  /// Throws `ServerError`.
  func check() throws {
    guard isLoopback || !(apiKey ?? "").isEmpty else { throw ServerError.keyNeeded(host: host) }
    guard !served.models.isEmpty, !devices.isEmpty else { throw ServerError.nothingToDraw }
  }
}

/// Why a server does not start.
public enum ServerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Others could reach it, and nothing keeps them from drawing.
  case keyNeeded(host: String)
  case nothingToDraw
  /// The device cannot be used.
  case device(String, reason: String)
  /// The address cannot be listened at.
  case address(String, reason: String)

  /// One line that says what to change.
  public var description: String {
    switch self {
    case .keyNeeded(let host):
      "--host \(host) can be reached from other machines: give a key with --api-key or LANGEVIN_API_KEY"
    case .nothingToDraw: "there is no model or no device to serve"
    case .device(let name, let reason): "the device \(name) cannot be used: \(reason)"
    case .address(let address, let reason): "cannot listen at \(address): \(reason)"
    }
  }
}

/// Models that stay loaded, behind HTTP.
public struct Server: Sendable {
  let configuration: ServerConfiguration
  let catalog: Catalog
  let queue: JobQueue
  let metrics: Metrics
  let engines: [any Engine]
  private let logger: Logger

  /// Opens models and devices. Throws `ServerError`.
  public init(_ configuration: ServerConfiguration, logger: Logger) async throws {
    try configuration.check()
    let (catalog, metrics) = (Catalog(configuration.served), Metrics())
    var engines: [any Engine] = []
    for device in configuration.devices {
      do {
        engines.append(try await Self.engine(device, configuration, catalog, metrics))
      } catch {
        for engine in engines { await engine.stop() }
        throw ServerError.device(device, reason: "\(error)")
      }
    }
    self.init(configuration, catalog, metrics, engines, logger)
  }

  init(
    _ configuration: ServerConfiguration, _ catalog: Catalog, _ metrics: Metrics, _ engines: [any Engine],
    _ logger: Logger
  ) {
    (self.configuration, self.catalog, self.metrics) = (configuration, catalog, metrics)
    (self.engines, self.logger) = (engines, logger)
    queue = JobQueue(limit: configuration.queueLimit, batch: configuration.batch, metrics: metrics)
    metrics.set(workers: engines.count)
    for model in catalog.models {
      if case .failure(let failure) = model.opened {
        logger.warning("the model '\(model.name)' cannot be used: \(failure.message)")
      }
    }
  }

  private static func engine(
    _ device: String, _ configuration: ServerConfiguration, _ catalog: Catalog, _ metrics: Metrics
  ) async throws -> any Engine {
    guard let command = configuration.drawingProcess else {
      guard let choice = DeviceChoice(device) else { throw DeviceChoiceError.unknown(device) }
      return try LocalEngine(catalog, on: choice, version: configuration.version)
    }
    let setup = DrawingSetup(served: configuration.served, device: device, version: configuration.version)
    return try await ChildEngine(setup, command, metrics: metrics)
  }

  /// Everything that is answered.
  var router: Router<ServerContext> {
    let router = routes
    let paths = Dictionary(grouping: router.routes) { "\($0.path)" }
    for routes in paths.values {
      var methods = Set(routes.map(\.method))
      if methods.contains(.get) { methods.insert(.head) }
      let allowed = methods.map(\.rawValue).sorted().joined(separator: ", ")
      let names = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
      let others = names.compactMap { HTTPRequest.Method($0) }
      for method in others where !methods.contains(method) {
        router.on(routes[0].path, method: method) { request, _ -> Response in
          throw APIError(
            .methodNotAllowed, "\(request.uri.path) is there for \(allowed), not for \(method)",
            headers: [.allow: allowed])
        }
      }
    }
    return router
  }

  /// What paths do that are asked with a method that they have.
  var routes: Router<ServerContext> {
    let router = Router(context: ServerContext.self, options: .autoGenerateHeadEndpoints)
    router.add(middleware: FrontMiddleware(metrics: metrics, logger: logger))
    router.add(
      middleware: GuardMiddleware(
        key: configuration.apiKey.map { APIKey($0) },
        hosts: Set((configuration.allowedHosts + [configuration.host]).map { $0.lowercased() })))
    let drawing = Drawing(catalog, queue)
    ServiceRoutes(
      drawing: drawing, metrics: metrics, devices: engines.map(\.device), version: configuration.version,
      survey: Survey(configuration.survey)
    ).add(to: router)
    JobRoutes(drawing: drawing).add(to: router)
    OpenAIRoutes(drawing: drawing).add(to: router)
    A1111Routes(drawing).add(to: router)
    return router
  }

  /// Serves until `stop` says so, then lets jobs end.
  ///
  /// - Parameters:
  ///   - stop: returns when the server shall stop, and how.
  ///   - ready: told the address, once requests are answered.
  ///
  /// Throws `ServerError.address`.
  public func run(
    until stop: @escaping @Sendable () async -> Stop, ready: @escaping @Sendable (String) -> Void
  )
    async throws
  {
    var quiet = logger
    quiet.logLevel = .error
    let host = configuration.host
    let application = Application(
      router: router,
      server: .http1(
        configuration: .init(additionalChannelHandlers: [Departure()], idleTimeout: .seconds(60))),
      configuration: ApplicationConfiguration(
        address: .hostname(host, port: configuration.port), backlog: 1024,
        availableConnectionsDelegate: MaximumAvailableConnections(1024)),
      onServerRunning: { channel in
        let port = channel.localAddress?.port ?? 0
        ready("http://\(host.contains(":") ? "[\(host)]" : host):\(port)")
      }, logger: quiet)
    let group = ServiceGroup(
      configuration: ServiceGroupConfiguration(services: [application], logger: quiet))
    let workers = Task {
      await withTaskGroup(of: Void.self) { tasks in
        for engine in engines {
          tasks.addTask { await Worker(engine: engine, queue: queue, metrics: metrics).run() }
        }
      }
    }
    let serving = Task { try await group.run() }
    let (ends, ended) = AsyncStream.makeStream(of: Result<Void, any Error>.self)
    Task { ended.yield(await serving.result) }
    let isStopping = Flag()
    let stopping = Task {
      let way = await stop()
      isStopping.set()
      await end(way)
      await group.triggerGracefulShutdown()
      // Whoever still sends a request then is cut off.
      try? await Task.sleep(for: .milliseconds(300))
      serving.cancel()
      // No request may keep the server from stopping, whatever it waits for.
      try? await Task.sleep(for: .milliseconds(200))
      ended.yield(.success(()))
    }
    for await end in ends {
      // Where it was told to stop, an error was to be.
      if case .failure(let error) = end, !isStopping.isSet {
        stopping.cancel()
        for engine in engines { await engine.stop() }
        await queue.drain()
        await workers.value
        throw ServerError.address("\(host):\(configuration.port)", reason: Self.reason(of: error))
      }
      break
    }
    stopping.cancel()
    await queue.drain()
    await queue.abort(all: true)
    for engine in engines { await engine.stop() }
    await workers.value
  }

  /// Why an address cannot be listened at, in the system's words alone.
  private static func reason(of error: any Error) -> String {
    guard let code = (error as? IOError)?.errnoCode else { return "\(error)" }
    return String(cString: strerror(code)) + (code == EADDRINUSE ? "; give another --port" : "")
  }

  /// How to stop.
  public enum Stop: Sendable {
    /// What waits is handed back at once, and what is drawn gets a second.
    case soon
    /// All jobs that are there are drawn first.
    case drained
  }

  private func end(_ way: Stop) async {
    await queue.drain()
    if way == .soon { await queue.abort(all: false) }
    let patience = way == .soon ? 1.0 : configuration.drainSeconds
    let start = Date()
    while Date().timeIntervalSince(start) < patience {
      let depth = await queue.depth
      if depth.waiting + depth.running == 0 { break }
      try? await Task.sleep(for: .milliseconds(20))
    }
    await queue.abort(all: true)
    // Answers get a moment to leave.
    try? await Task.sleep(for: .milliseconds(100))
  }
}

extension Server {
  /// What it serves, for the line that says so: `emoji-diffusion on opencl:0`.
  public var summary: String {
    let names = catalog.models.map { model in
      if case .failure = model.opened { model.name + " (cannot be used)" } else { model.name }
    }
    return "\(names.joined(separator: ", ")) on \(engines.map(\.device).joined(separator: ", "))"
  }
}
