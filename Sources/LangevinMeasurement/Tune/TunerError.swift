import Langevin
import LangevinTensor

extension Device {
  /// Its backend, where that has parameters to tune. Throws `TunerError.nothingToTune`.
  public var tunable: any TunableBackend {
    get throws {
      guard let backend = backend as? any TunableBackend else {
        throw TunerError.nothingToTune(device: name)
      }
      return backend
    }
  }
}

/// Why nothing can be tuned.
public enum TunerError: Error, Sendable, CustomStringConvertible {
  case nothingToTune(device: String)

  /// One line that says what to do.
  public var description: String {
    switch self {
    case .nothingToTune(let device):
      "the device '\(device)' has no kernel parameters; `langevin devices` lists "
        + BackendRegistry.providers.filter { $0 is any TuningProvider }.map(\.title)
        .joined(separator: " and ") + " devices, which have"
    }
  }
}
