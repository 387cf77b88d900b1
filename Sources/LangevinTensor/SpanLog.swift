import Synchronization

/// The host's time line: nanoseconds since the first use in this process, from a clock that never steps.
public enum HostClock {
  private static let origin = SuspendingClock.now

  /// The host's monotonic clock, in nanoseconds.
  public static var now: UInt64 {
    let (seconds, attoseconds) = origin.duration(to: .now).components
    return UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000
  }
}

/// When the host was in a stage or a layer.
public struct HostSpan: Sendable, Hashable {
  /// What a span stands for.
  public enum Kind: String, Sendable, Hashable, Codable { case stage, layer }
  /// Whether a stage of the generation or a layer of a network.
  public var kind: Kind
  /// A stage's name or a layer's path.
  public var name: String
  /// How many spans enclose it.
  public var depth: Int
  /// When the span began, in `HostClock`'s nanoseconds.
  public var start: UInt64
  /// When the span ended, in `HostClock`'s nanoseconds.
  public var end: UInt64

  /// How long the span took, in nanoseconds.
  public var duration: UInt64 { end - start }

  /// A span of these bounds.
  public init(kind: Kind, name: String, depth: Int, start: UInt64, end: UInt64) {
    self.kind = kind
    self.name = name
    self.depth = depth
    self.start = start
    self.end = end
  }
}

/// Collects the spans of `stage` and `layer` while it is `current`; without one they cost a nil check.
public final class SpanLog: Sendable {
  /// Set for the duration of a recording.
  @TaskLocal public static var current: SpanLog?

  private struct State {
    var depth = 0
    var spans: [HostSpan] = []
  }
  private let state = Mutex(State())

  /// A log without spans.
  public init() {}

  /// Finished spans in the order in which they began.
  public var spans: [HostSpan] {
    state.withLock { $0.spans }.sorted { ($0.start, $0.depth) < ($1.start, $1.depth) }
  }

  func span<R>(_ kind: HostSpan.Kind, _ name: String, _ body: () throws -> R) rethrows -> R {
    let depth = state.withLock { state in
      defer { state.depth += 1 }
      return state.depth
    }
    let start = HostClock.now
    defer {
      let span = HostSpan(kind: kind, name: name, depth: depth, start: start, end: HostClock.now)
      state.withLock { state in
        state.depth -= 1
        state.spans.append(span)
      }
    }
    return try body()
  }
}
