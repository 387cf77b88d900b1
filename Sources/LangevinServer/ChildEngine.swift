import Foundation

/// Draws in a process of its own. Where that ends by itself, one order is lost, and the next one gets a new process.
actor ChildEngine: Engine {
  nonisolated let device: String
  private let setup: DrawingSetup
  private let command: DrawingProcessCommand
  private let metrics: Metrics
  /// The process that runs, also while it starts.
  private var child: DrawingChild?
  private var number = 0
  private var isStopped = false

  /// Starts the process. Throws `Failure` where it cannot use the device.
  init(_ setup: DrawingSetup, _ command: DrawingProcessCommand, metrics: Metrics) async throws {
    signal(SIGPIPE, SIG_IGN)
    let child = try DrawingChild(command)
    device = try await Self.setUp(child, setup, command)
    (self.setup, self.command, self.metrics, self.child) = (setup, command, metrics, child)
  }

  /// Of the process that runs now.
  var processID: Int32? { child?.processID }

  /// Returns the device's name. Where that fails, the process is ended.
  private static func setUp(
    _ child: DrawingChild, _ setup: DrawingSetup, _ command: DrawingProcessCommand
  ) async throws -> String {
    child.send(setup)
    let answer = await child.within(seconds: command.startPatience) { await child.next() }
    if case .ready(let device)? = answer { return device }
    var failure = child.death()
    if case .failed(let reason)? = answer { failure = reason }
    child.end()
    throw failure
  }

  func draw(_ orders: [Order], report: @escaping @Sendable (DrawingEvent, Int) -> Void) async throws {
    var isNew = false
    while true {
      guard !isStopped else { throw Failure("the server is stopping; this job was not drawn") }
      if let child, child.isDead { forget(child) }
      let child: DrawingChild
      if let running = self.child {
        child = running
      } else {
        (child, isNew) = (try await start(), true)
      }
      // It may have been cancelled while the process started.
      try Task.checkCancellation()
      let heard = Flag()
      switch await follow(child, orders, heard, report) {
      case .done: return
      case .cancelled: throw CancellationError()
      case .failed(let failure): throw failure
      case .ready, .event, nil: break
      }
      let death = child.death()
      forget(child)
      // One that ended before it began on this order, perhaps while it had nothing to do, costs no job.
      guard !heard.isSet, !isNew, !Task.isCancelled else { throw death }
    }
  }

  private func start() async throws -> DrawingChild {
    let child = try DrawingChild(command)
    self.child = child
    do {
      // Not given up half-way where the job is cancelled: the next one needs the process too.
      _ = try await Task { [setup, command] in try await Self.setUp(child, setup, command) }.value
    } catch {
      if self.child === child { self.child = nil }
      throw error
    }
    return child
  }

  /// Of a process that has ended.
  private func forget(_ child: DrawingChild) {
    guard self.child === child else { return }
    self.child = nil
    metrics.countCrash()
  }

  /// Returns how the orders ended; nil where the process did. `heard` is set once it says anything of them.
  private func follow(
    _ child: DrawingChild, _ orders: [Order], _ heard: Flag,
    _ report: @escaping @Sendable (DrawingEvent, Int) -> Void
  ) async -> DrawingAnswer? {
    number += 1
    let number = number
    let hasEnded = Flag()
    defer { hasEnded.set() }
    child.send(DrawingCommand.draw(orders, number: number))
    return await withTaskCancellationHandler {
      // Reading goes on after a cancellation, until the child says that it has stopped: what it still answers must
      // not be taken for an answer to the next order.
      await Task { () -> DrawingAnswer? in
        while let answer = await child.next() {
          heard.set()
          guard case .event(let event, let order) = answer else { return answer }
          if orders.indices.contains(order) { report(event, order) }
        }
        return nil
      }.value
    } onCancel: {
      child.send(DrawingCommand.cancel(number: number))
      Task { [patience = command.patience] in
        try? await Task.sleep(for: .seconds(patience))
        // A driver that hangs would keep all jobs waiting.
        if !hasEnded.isSet { child.end() }
      }
    }
  }

  func stop() async {
    isStopped = true
    child?.kill()
    child = nil
  }
}
