import Foundation
import LangevinServer
import Synchronization

/// Ctrl-C and SIGTERM of a command that serves; a second one ends the process at once.
final class StopSignals: Sendable {
  private let signals: AsyncStream<Int32>
  /// They work as long as they are kept. Nothing reads them, so that threads cannot disagree.
  private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

  init() {
    let (signals, continuation) = AsyncStream.makeStream(of: Int32.self)
    self.signals = signals
    let count = Counter()
    sources = [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        // Children end with the pipes to them.
        if count.next() > 1 { _exit(128 + number) }
        continuation.yield(number)
      }
      source.resume()
      return source
    }
  }

  /// The first signal, and what it means.
  func next() async -> Server.Stop {
    for await number in signals { return number == SIGTERM ? .drained : .soon }
    return .soon
  }
}

private final class Counter: Sendable {
  private let count = Atomic(0)
  func next() -> Int { count.add(1, ordering: .relaxed).newValue }
}
