/// What a measurement cannot do, with what is needed to act on it.
public enum MeasurementError: Error, Sendable, CustomStringConvertible {
  /// The backend has no probe of its ceilings.
  case noProbe(device: String)

  /// One line.
  public var description: String {
    switch self {
    case .noProbe(let device): "\(device) has no probe of its ceilings"
    }
  }
}
