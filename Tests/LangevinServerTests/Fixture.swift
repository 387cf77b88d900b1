import Foundation
import Langevin
import Logging
import Synchronization
import Testing

@testable import LangevinServer

/// One after the other: each has a server to itself, and some count seconds.
@Suite(.serialized) enum ServerSuites {}

/// Runs a server on a free port in this process, for as long as `body` takes.
///
/// - Parameters:
///   - engines: what draws; nil for the shipped model on the CPU.
///   - change: of the configuration.
func withServer(
  engines: [any Engine]? = nil, _ change: (inout ServerConfiguration) -> Void = { _ in },
  _ body: (Client, Server) async throws -> Void
) async throws {
  var configuration = ServerConfiguration(
    served: ServedModels(models: [try DefaultModel.url.path]), devices: ["cpu"], version: "langevin test")
  configuration.port = 0
  change(&configuration)
  let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  let server =
    if let engines {
      Server(configuration, Catalog(configuration.served), Metrics(), engines, logger)
    } else {
      try await Server(configuration, logger: logger)
    }
  let (addresses, address) = AsyncStream.makeStream(of: String.self)
  let (stops, stop) = AsyncStream.makeStream(of: Never.self)
  let running = Task {
    try await server.run(
      until: {
        for await _ in stops {}
        return .soon
      }, ready: { address.yield($0) })
  }
  var iterator = addresses.makeAsyncIterator()
  let told = await iterator.next()
  let port = try #require(told?.split(separator: ":").last.flatMap { Int($0) })
  var failure: (any Error)?
  do { try await body(Client(port: port), server) } catch { failure = error }
  stop.finish()
  try await running.value
  if let failure { throw failure }
}

/// Draws nothing until it is told to, then one picture of one pixel for each that was ordered.
final class GatedEngine: Engine {
  let device = "gate"
  private let state = Mutex<(isOpen: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))
  let drawn = Mutex<[String]>([])
  /// The prompts of what was drawn together.
  let batches = Mutex<[[String]]>([])
  let isStopped = Flag()

  func open() {
    let waiting = state.withLock { state in
      state.isOpen = true
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  func draw(_ orders: [Order], report: @escaping @Sendable (DrawingEvent, Int) -> Void) async throws {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOpen = state.withLock { state in
          if !state.isOpen && !Task.isCancelled { state.waiting.append(continuation) }
          return state.isOpen || Task.isCancelled
        }
        if isOpen { continuation.resume() }
      }
    } onCancel: {
      for continuation in state.withLock({ state in
        defer { state.waiting = [] }
        return state.waiting
      }) { continuation.resume() }
    }
    try Task.checkCancellation()
    batches.withLock { $0.append(orders.map(\.prompt)) }
    for (number, order) in orders.enumerated() {
      if order.prompt == "faulty" { throw Failure("it is faulty") }
      drawn.withLock { $0.append(order.prompt) }
      for image in 0..<order.count {
        report(.step(1, of: 1, image: image), number)
        let picture = try Picture(width: 1, height: 1, pixels: [1, 2, 3])
        let drawn = DrawnPicture(
          png: try picture.png(), seed: order.seed + UInt64(image), width: 1, height: 1, text: order.prompt)
        report(.picture(drawn, image: image), number)
      }
    }
  }

  func stop() async { isStopped.set() }
}

extension Engine {
  /// One order alone.
  func draw(_ order: Order, report: @escaping @Sendable (DrawingEvent) -> Void) async throws {
    try await draw([order]) { event, _ in report(event) }
  }
}

extension Picture {
  /// In base64, of one colour.
  static func base64(width: Int = 64, height: Int = 64, _ colour: [UInt8] = [200, 40, 40]) throws -> String {
    let pixels = (0..<width * height).flatMap { _ in colour }
    return try Picture(width: width, height: height, pixels: pixels).png().base64EncodedString()
  }
}
