import Dispatch
import Foundation
import Synchronization

/// Makes what will be needed next on a thread of its own, a few values ahead.
///
/// Nothing of it needs to be saved where a value is a function of its input, as a batch is of its samples'
/// numbers.
public final class Prefetcher<Value: Sendable>: Sendable {
  private let channel: Channel<Value>

  /// - Parameters:
  ///   - inputs: what the values are made from, in their order; may be endless.
  ///   - ahead: the most values that are made, or being made, and not yet taken; at least 1.
  ///   - make: called on one thread, for one input after another; not called any more once it has thrown.
  public init<Inputs: Sequence & Sendable>(
    _ inputs: Inputs, ahead: Int = 2, _ make: @escaping @Sendable (Inputs.Element) throws -> Value
  ) {
    let channel = Channel<Value>(room: max(ahead, 1))
    self.channel = channel
    // The thread holds the channel only, so that letting go of the prefetcher ends it.
    let thread = Thread {
      for input in inputs {
        guard channel.awaitRoom() else { return }
        let result = Result { try make(input) }
        channel.put(result)
        if case .failure = result { return }
      }
      channel.put(nil)
    }
    thread.name = "prefetch"
    thread.start()
  }

  deinit { channel.stop() }

  /// The value of the next input, as soon as it is made; nil behind the last, behind an error, and after
  /// `stop`.
  ///
  /// Throws what `make` threw, when the values before it have been taken.
  public func next() throws -> Value? { try channel.take() }

  /// Has no further value made. A value that is being made is not interrupted.
  public func stop() { channel.stop() }
}

/// A queue of bounded length between two threads.
private final class Channel<Value: Sendable>: Sendable {
  private struct State {
    var results: [Result<Value, any Error>] = []
    var isStopped = false
  }

  private let state = Mutex(State())
  /// Counts places; counted up from 0, since a semaphore may not end lower than it began.
  private let room = DispatchSemaphore(value: 0)
  private let filled = DispatchSemaphore(value: 0)

  init(room count: Int) { for _ in 0..<count { room.signal() } }

  /// False once nobody wants a value any more.
  func awaitRoom() -> Bool {
    room.wait()
    return state.withLock { !$0.isStopped }
  }

  /// Nil says that there is no more.
  func put(_ result: Result<Value, any Error>?) {
    if let result { state.withLock { if !$0.isStopped { $0.results.append(result) } } }
    filled.signal()
  }

  func take() throws -> Value? {
    filled.wait()
    let result = state.withLock { state in
      state.results.isEmpty ? nil : state.results.removeFirst()
    }
    // Stopped, or at the end: so it is for whoever else asks.
    guard let result else {
      filled.signal()
      return nil
    }
    if case .failure = result {
      filled.signal()
    } else {
      room.signal()
    }
    return try result.get()
  }

  func stop() {
    state.withLock { state in
      state.isStopped = true
      state.results = []
    }
    room.signal()
    filled.signal()
  }
}
