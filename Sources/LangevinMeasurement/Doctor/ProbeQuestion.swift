import Foundation
import Langevin
import LangevinDoctor

/// What `langevin probe` is asked: `compile FOLDER`, or a question of a provider behind its name.
public enum ProbeQuestion {
  /// Whether the kernels that a folder asks for compile; see `KernelCompilation`.
  case compile(String)
  case ofProvider(any ExaminedProvider, [String])

  /// Reads the words of a command line; nil where they are no question of anybody.
  public init?(arguments: [String]) {
    guard let first = arguments.first else { return nil }
    let rest = Array(arguments.dropFirst())
    if first == "compile", rest.count == 1 {
      self = .compile(rest[0])
    } else if let provider = BackendRegistry.provider(first) as? any ExaminedProvider {
      self = .ofProvider(provider, rest)
    } else {
      return nil
    }
  }

  /// Asks the drivers in this process; nil where the provider knows no such question.
  public func answer() -> ProbeAnswer? {
    switch self {
    case .compile(let folder):
      ProbeAnswer(problem: KernelCompilation.work(in: URL(fileURLWithPath: folder)))
    case .ofProvider(let provider, let question): provider.answer(question)
    }
  }
}
