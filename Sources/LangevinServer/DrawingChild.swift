import Foundation

/// How a drawing process is started.
public struct DrawingProcessCommand: Sendable {
  /// The program.
  public var executable: URL
  /// What makes it call `DrawingProcess.run`.
  public var arguments: [String]
  /// Seconds that a cancelled job has to stop in; then the process is ended, and the next job gets a new one.
  public var patience = 60.0
  /// Seconds that it has to open its device in.
  public var startPatience = 300.0

  /// A program and its arguments.
  public init(executable: URL, arguments: [String]) {
    (self.executable, self.arguments) = (executable, arguments)
  }
}

/// A drawing process and the pipes to it.
final class DrawingChild: Sendable {
  private let process: Process
  private let input: Pipe
  private let answers: AsyncStream<DrawingAnswer>
  private let hasEnded = Flag()
  private let isKilled = Flag()
  /// A process that reads nothing keeps this queue waiting, and not who sends.
  private let outbox = DispatchQueue(label: "langevin.drawing-process")

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
      if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) }
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

  /// Returns at once. What is sent to a process that has ended is lost: `next` says that it has.
  func send(_ message: some Encodable & Sendable) {
    outbox.async { [self] in
      guard let line = try? JSONEncoder().encode(message) + Data("\n".utf8) else { return end() }
      _ = Descriptor.write(line, to: input.fileHandleForWriting.fileDescriptor)
    }
  }

  /// Because the server stops.
  func kill() {
    isKilled.set()
    end()
  }

  func end() { if process.isRunning { Foundation.kill(process.processIdentifier, SIGKILL) } }

  /// Ends it where `body` takes longer.
  func within<Result: Sendable>(
    seconds: Double, _ body: @Sendable () async throws -> Result
  ) async rethrows -> Result {
    let timer = Task {
      try await Task.sleep(for: .seconds(seconds))
      end()
    }
    defer { timer.cancel() }
    return try await body()
  }

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
