import Synchronization

/// Values that are computed once and kept in memory up to a limit: decoded pictures, latents, text states.
///
/// What is kept stays: training reads every picture once an epoch, and a cache that drops the oldest value
/// would then have dropped each one before it is asked for again. A cache belongs to one run; what its values
/// depend on besides the key, as weights that are not trained, has to stay the same.
public final class BoundedCache<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private struct State {
    var values: [Key: Value] = [:]
    var byteCount = 0
  }

  /// In bytes.
  public let limit: Int
  private let state = Mutex(State())

  /// An empty cache for this many bytes.
  public init(limit: Int) { self.limit = limit }

  /// What the kept values take.
  public var byteCount: Int { state.withLock { $0.byteCount } }

  /// The number of kept values.
  public var count: Int { state.withLock { $0.values.count } }

  /// The value that is kept, or else what `make` returns, which is kept if there is room for it.
  ///
  /// Two threads that ask for one key at the same time may both make it. Throws what `make` throws.
  public func value(for key: Key, byteCount: (Value) -> Int, make: () throws -> Value) rethrows -> Value {
    if let value = state.withLock({ $0.values[key] }) { return value }
    let value = try make()
    let size = byteCount(value)
    state.withLock { state in
      guard state.values[key] == nil, size <= limit - state.byteCount else { return }
      state.values[key] = value
      state.byteCount += size
    }
    return value
  }
}
