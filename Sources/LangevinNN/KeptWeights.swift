import Synchronization

/// Parameters as a network holds them, kept for the next time that it is built: those that do not change are then read,
/// converted and packed once. Of one network, in one precision, on one device.
public final class KeptWeights: Sendable {
  private let isKept: @Sendable (String) -> Bool
  private let entries = Mutex<[String: Parameters.Entry]>([:])

  /// Keeps the parameters of these full names.
  public init(where isKept: @escaping @Sendable (_ name: String) -> Bool) { self.isKept = isKept }

  subscript(name: String) -> Parameters.Entry? {
    get { isKept(name) ? entries.withLock { $0[name] } : nil }
    set { if isKept(name) { entries.withLock { $0[name] = newValue } } }
  }
}
