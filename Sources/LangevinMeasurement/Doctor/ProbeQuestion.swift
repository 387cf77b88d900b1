import Foundation
import Langevin
import LangevinDoctor
import LangevinTensor

/// What `langevin probe` is asked: `compile FOLDER`, `self-test DEVICE`, or a question of a provider behind its name.
public enum ProbeQuestion {
  /// Whether the kernels that a folder asks for compile; see `KernelCompilation`.
  case compile(String)
  /// What becomes of a device that is tried; see `SelfTest`.
  case selfTest(ListedDevice)
  case ofProvider(any ExaminedProvider, [String])

  /// Reads the words of a command line; nil where they are no question of anybody.
  public init?(arguments: [String]) {
    guard let first = arguments.first else { return nil }
    let rest = Array(arguments.dropFirst())
    if first == "compile", rest.count == 1 {
      self = .compile(rest[0])
    } else if first == "self-test", rest.count == 1 {
      guard let device = BackendRegistry.devices.first(where: { $0.name == rest[0] }) else { return nil }
      self = .selfTest(device)
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
    case .selfTest(let device): try? ProbeAnswer(SelfTest.run(on: device))
    case .ofProvider(let provider, let question): provider.answer(question)
    }
  }
}
