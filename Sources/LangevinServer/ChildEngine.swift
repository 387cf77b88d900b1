import Foundation
import Synchronization

/// Draws in a process of its own. Where that ends by itself, one order is lost, and the next one gets a new process.
actor ChildEngine: Engine {
  nonisolated let device: String
  private let setup: DrawingSetup
  private let command: DrawingProcessCommand
  private let metrics: Metrics
  private var child: DrawingChild?
  private var number = 0
  private var isStopped = false

  /// Starts the process. Throws `Failure` where it cannot use the device.
  init(_ setup: DrawingSetup, _ command: DrawingProcessCommand, metrics: Metrics) async throws {
    signal(SIGPIPE, SIG_IGN)
    let (child, device) = try await Self.start(setup, command)
    (self.setup, self.command, self.metrics, self.child, self.device) = (
      setup, command, metrics, child, device
    )
  }

  /// Of the process that runs now.
  var processID: Int32? { child?.processID }

  private static func start(_ setup: DrawingSetup, _ command: DrawingProcessCommand) async throws -> (
    DrawingChild, device: String
  ) {
    let child = try DrawingChild(command)
    if child.send(setup) {
      switch await child.next() {
      case .ready(let device): return (child, device)
      case .failed(let failure): throw failure
      default: break
      }
    }
    let death = child.death()
    child.kill()
    throw death
  }

  func draw(_ order: Order, report: @escaping @Sendable (DrawingEvent) -> Void) async throws {
    guard !isStopped else { throw Failure("the server is stopping") }
    let child: DrawingChild
    if let running = self.child, !running.isDead {
      child = running
    } else {
      // Not given up half-way where the job is cancelled: nobody would end the process.
      child = try await Task { [setup, command] in try await Self.start(setup, command) }.value.0
      self.child = child
    }
    number += 1
    let number = number
    defer {
      if child.isDead {
        self.child = nil
        if !isStopped { metrics.countCrash() }
      }
    }
    let hasEnded = Flag()
    defer { hasEnded.set() }
    try await withTaskCancellationHandler {
      // Reading goes on after a cancellation, until the child says that it has stopped.
      try await Task { try await Self.follow(child, order, number, report) }.value
    } onCancel: {
      _ = child.send(DrawingCommand.cancel(number: number))
      Task { [patience = command.patience] in
        try? await Task.sleep(for: .seconds(patience))
        // A driver that hangs would keep all jobs waiting.
        if !hasEnded.isSet { child.end() }
      }
    }
  }

  private static func follow(
    _ child: DrawingChild, _ order: Order, _ number: Int, _ report: @Sendable (DrawingEvent) -> Void
  ) async throws {
    guard child.send(DrawingCommand.draw(order, number: number)) else { throw child.death() }
    while let answer = await child.next() {
      switch answer {
      case .event(let event): report(event)
      case .done: return
      case .cancelled: throw CancellationError()
      case .failed(let failure): throw failure
      case .ready: break
      }
    }
    throw child.death()
  }

  func stop() async {
    isStopped = true
    child?.kill()
    child = nil
  }
}

/// How a drawing process is started.
public struct DrawingProcessCommand: Sendable {
  /// The program.
  public var executable: URL
  /// What makes it call `DrawingProcess.run`.
  public var arguments: [String]
  /// Seconds that a cancelled job has to stop in; then the process is ended, and the next job gets a new one.
  public var patience = 60.0

  /// A program and its arguments.
  public init(executable: URL, arguments: [String]) {
    (self.executable, self.arguments) = (executable, arguments)
  }
}

/// A drawing process and the pipes to it.
private final class DrawingChild: Sendable {
  private let process: Process
  private let input: Pipe
  private let answers: AsyncStream<DrawingAnswer>
  private let hasEnded = Flag()
  private let isKilled = Flag()
  private let writing = Mutex(())

  init(_ command: DrawingProcessCommand) throws {
    let process = Process()
    process.executableURL = command.executable
    process.arguments = command.arguments
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    let ended = DispatchSemaphore(value: 0)
    process.terminationHandler = { _ in ended.signal() }
    do { try process.run() } catch { throw Failure("the drawing process does not start: \(error)") }
    let (answers, continuation) = AsyncStream.makeStream(of: DrawingAnswer.self)
    (self.process, self.input, self.answers) = (process, input, answers)
    Thread.detachNewThread { [hasEnded] in
      let lines = LineReader(output.fileHandleForReading.fileDescriptor)
      while let line = lines.next(), let answer = try? JSONDecoder().decode(DrawingAnswer.self, from: line) {
        continuation.yield(answer)
      }
      withExtendedLifetime(output) {}
      // Whatever stopped it from answering, it is of no more use.
      Foundation.kill(process.processIdentifier, SIGKILL)
      ended.wait()
      hasEnded.set()
      continuation.finish()
    }
  }

  var processID: Int32 { process.processIdentifier }
  var isDead: Bool { hasEnded.isSet }

  /// The next answer; nil where the process has ended.
  func next() async -> DrawingAnswer? {
    var iterator = answers.makeAsyncIterator()
    return await iterator.next()
  }

  /// Returns whether the process can still read.
  func send(_ message: some Encodable) -> Bool {
    guard !hasEnded.isSet, let line = try? JSONEncoder().encode(message) + Data("\n".utf8) else {
      return false
    }
    return writing.withLock { _ in Descriptor.write(line, to: input.fileHandleForWriting.fileDescriptor) }
  }

  /// Because the server stops.
  func kill() {
    isKilled.set()
    end()
  }

  func end() { Foundation.kill(process.processIdentifier, SIGKILL) }

  /// What became of it.
  func death() -> Failure {
    if isKilled.isSet { return Failure("the server is stopping; this job was not drawn") }
    let how =
      process.isRunning
      ? "answers nothing"
      : process.terminationReason == .uncaughtSignal
        ? "was ended by signal \(process.terminationStatus)"
        : "ended with status \(process.terminationStatus)"
    return Failure(
      "the process that draws \(how), perhaps in the device's driver; this job is lost, the next one gets a new process"
    )
  }
}
