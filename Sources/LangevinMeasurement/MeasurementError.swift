import LangevinTensor

/// What a measurement cannot do, with what is needed to act on it.
public enum MeasurementError: Error, Sendable, CustomStringConvertible {
  /// The backend has no probe of its ceilings.
  case noProbe(device: String)
  /// None of the devices could be opened.
  case noDevice([String])
  /// A file of an earlier measurement.
  case unreadable(path: String, reason: String)

  /// What went wrong, in one line.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .noProbe(let device): "\(device) has no probe of its ceilings"
    case .noDevice(let reasons): "no device can be used: \(reasons.joined(separator: "; "))"
    case .unreadable(let path, let reason): "\(path) holds no measurement to compare: \(reason)"
    }
  }
}
