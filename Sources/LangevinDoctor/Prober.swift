import Foundation

/// The answer to a question, which a process writes as the last line of its standard output, in JSON.
public struct ProbeAnswer: Sendable, Codable {
  /// What is wrong; nil where nothing is.
  public var problem: String?
  /// What else was asked for, in JSON of the asker's own.
  public var content: String?
  /// What the drivers wrote to standard error.
  public var words: String?

  /// What is wrong, if anything is.
  public init(problem: String? = nil) { self.problem = problem }

  /// A value beside what is wrong. Throws `EncodingError`.
  public init(problem: String? = nil, _ content: some Encodable) throws {
    self.problem = problem
    self.content = String(decoding: try JSONEncoder().encode(content), as: UTF8.self)
  }

  /// The value. Throws `DecodingError` where there is none or it is another.
  public func content<Value: Decodable>(_ type: Value.Type) throws -> Value {
    try JSONDecoder().decode(type, from: Data((content ?? "").utf8))
  }
}

/// Asks drivers in processes of their own, because one may crash or hang instead of answering: runs the tool as
/// `langevin probe …`.
public struct Prober: Sendable {
  /// The tool, which answers.
  public let executable: URL
  /// Of the processes.
  public let environment: [String: String]
  /// Seconds; the first build of a kernel may take many.
  public let patience: Double

  /// A prober that runs this executable.
  public init(
    executable: URL, environment: [String: String] = ProcessInfo.processInfo.environment,
    patience: Double = 90
  ) {
    (self.executable, self.environment, self.patience) = (executable, environment, patience)
  }

  /// Why there is no answer.
  public enum Failure: Error, Sendable, CustomStringConvertible {
    case crashed(signal: Int32, words: String)
    case silent(status: Int32, words: String)
    case hung(seconds: Double)
    case notStarted(String)

    /// One line, with the driver's last words.
    public var description: String {
      switch self {
      case .crashed(let signal, let words):
        "the driver crashed with signal \(signal)"
          + (words.isEmpty ? "" : "; its last words: \(words)")
      case .silent(let status, let words):
        "the driver ended the process with status \(status)" + (words.isEmpty ? "" : ": \(words)")
      case .hung(let seconds): "the driver did not answer within \(Int(seconds)) s"
      case .notStarted(let reason): "the probing process did not start: \(reason)"
      }
    }

    /// Without what the driver said.
    public var short: String {
      switch self {
      case .crashed(let signal, _): "signal \(signal)"
      case .silent(let status, _): "status \(status)"
      case .hung, .notStarted: "\(self)"
      }
    }

    /// Whether the driver is to blame.
    public var isCrash: Bool {
      switch self {
      case .crashed(let signal, _):
        [SIGSEGV, SIGBUS, SIGILL, SIGABRT, SIGFPE, SIGSYS, SIGTRAP].contains(signal)
      // A driver that gives up calls exit.
      case .silent: true
      case .hung, .notStarted: false
      }
    }
  }

  /// Asks a question, with changes to the environment. Throws `Failure`.
  public func ask(_ question: [String], changes: [String: String] = [:]) throws -> ProbeAnswer {
    let outcome: ChildProcess.Outcome
    do {
      outcome = try ChildProcess.run(
        executable, ["probe"] + question, environment: environment.merging(changes) { $1 },
        patience: patience)
    } catch { throw Failure.notStarted("\(error)") }
    let words = outcome.errors.split(whereSeparator: \.isNewline).last.map(String.init) ?? ""
    guard !outcome.isTimedOut else { throw Failure.hung(seconds: patience) }
    if let signal = outcome.signal { throw Failure.crashed(signal: signal, words: words) }
    // Drivers chat on standard output too.
    guard let line = outcome.output.split(whereSeparator: \.isNewline).last,
      var answer = try? JSONDecoder().decode(ProbeAnswer.self, from: Data(line.utf8))
    else { throw Failure.silent(status: outcome.status, words: words) }
    answer.words = outcome.errors
    return answer
  }
}
