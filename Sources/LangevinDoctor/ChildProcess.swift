import Foundation

/// A command that is run to its end.
public enum ChildProcess {
  /// How it ended, and what it wrote.
  public struct Outcome: Sendable {
    /// The exit code.
    public let status: Int32
    /// The signal that ended it.
    public let signal: Int32?
    /// Whether it was killed for want of patience.
    public let isTimedOut: Bool
    /// All of standard output.
    public let output: String
    /// All of standard error.
    public let errors: String
  }

  /// Runs a command, and kills it after `patience` seconds. Throws where it does not start.
  public static func run(
    _ executable: URL, _ arguments: [String], environment: [String: String], patience: Double
  ) throws -> Outcome {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.environment = environment
    process.standardInput = FileHandle.nullDevice
    let output = try scratch()
    let errors = try scratch()
    process.standardOutput = output
    process.standardError = errors
    let ended = DispatchSemaphore(value: 0)
    process.terminationHandler = { _ in ended.signal() }
    try process.run()
    let isTimedOut = ended.wait(timeout: .now() + patience) == .timedOut
    if isTimedOut {
      kill(process.processIdentifier, SIGKILL)
      ended.wait()
    }
    return Outcome(
      status: process.terminationStatus,
      signal: process.terminationReason == .uncaughtSignal ? process.terminationStatus : nil,
      isTimedOut: isTimedOut, output: try text(output), errors: try text(errors))
  }

  /// A file without a name: unlike a pipe it never fills up, and unlike a named one it never stays behind.
  private static func scratch() throws -> FileHandle {
    guard let file = tmpfile() else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    defer { fclose(file) }
    return FileHandle(fileDescriptor: dup(fileno(file)), closeOnDealloc: true)
  }

  private static func text(_ file: FileHandle) throws -> String {
    try file.seek(toOffset: 0)
    return String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
  }
}
