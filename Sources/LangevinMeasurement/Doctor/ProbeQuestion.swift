import Foundation
import Langevin

/// What is asked in a process of its own, because a driver may crash or hang instead of answering.
public enum ProbeQuestion: Sendable, Hashable {
  /// Whether a library loads.
  case load(String)
  /// Which platforms and devices there are.
  case list
  /// Whether `opencl:<index>` compiles and runs a small kernel.
  case device(Int)
  /// Whether the kernels that a folder asks for compile; see `KernelCompilation`.
  case compile(String)

  /// Reads what `arguments` wrote; nil where it is no question.
  public init?(arguments: [String]) {
    switch (arguments.first, arguments.count) {
    case ("list", 1): self = .list
    case ("load", 2): self = .load(arguments[1])
    case ("compile", 2): self = .compile(arguments[1])
    case ("device", 2):
      guard let index = Int(arguments[1]) else { return nil }
      self = .device(index)
    default: return nil
    }
  }

  /// As words of a command line.
  public var arguments: [String] {
    switch self {
    case .load(let library): ["load", library]
    case .list: ["list"]
    case .device(let index): ["device", "\(index)"]
    case .compile(let folder): ["compile", folder]
    }
  }

  /// Asks the drivers in this process.
  public func answer() -> ProbeAnswer {
    switch self {
    case .load(let library): ProbeAnswer(problem: InstalledDriver.loadProblem(of: library))
    case .list:
      ProbeAnswer(
        problem: OpenCLLoader.problem, platforms: OpenCLDevices.platforms(), devices: OpenCLDevices.all())
    case .device(let index): ProbeAnswer(problem: OpenCLDevices.problem(index: index))
    case .compile(let folder): ProbeAnswer(problem: KernelCompilation.work(in: URL(fileURLWithPath: folder)))
    }
  }
}

/// The answer, which the process writes as the last line of its standard output, in JSON.
public struct ProbeAnswer: Sendable, Codable {
  /// What is wrong; nil where nothing is.
  public var problem: String?
  /// Every platform that the loader lists.
  public var platforms: [PlatformDescription] = []
  /// Every device of these platforms, with what was probed of it.
  public var devices: [DeviceDescription] = []
  /// What the drivers wrote to standard error.
  public var words: String?
}

/// Asks questions by running the tool as `langevin probe …`.
struct Prober: Sendable {
  /// The tool, which answers in a process of its own.
  let executable: URL
  let environment: [String: String]
  /// Seconds; the first build of a kernel may take many.
  var patience = 90.0

  enum Failure: Error, CustomStringConvertible {
    case crashed(signal: Int32, words: String)
    case silent(status: Int32, words: String)
    case hung(seconds: Double)
    case notStarted(String)

    var description: String {
      switch self {
      case .crashed(let signal, let words):
        "the driver crashed with signal \(signal)" + (words.isEmpty ? "" : "; its last words: \(words)")
      case .silent(let status, let words):
        "the driver ended the process with status \(status)" + (words.isEmpty ? "" : ": \(words)")
      case .hung(let seconds): "the driver did not answer within \(Int(seconds)) s"
      case .notStarted(let reason): "the probing process did not start: \(reason)"
      }
    }
  }

  /// Throws `Failure`. `changes` are made to the environment.
  func ask(_ question: ProbeQuestion, changes: [String: String] = [:]) throws -> ProbeAnswer {
    let outcome: ChildProcess.Outcome
    do {
      outcome = try ChildProcess.run(
        executable, ["probe"] + question.arguments, environment: environment.merging(changes) { $1 },
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
