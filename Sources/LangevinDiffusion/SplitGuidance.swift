import Foundation
import LangevinTensor
import Synchronization

extension ClassifierFreeGuidance {
  /// A network for the batch [x; x] whose halves are computed at the same time on two devices: the negative's on `other`,
  /// the prompt's where x is.
  ///
  /// Each network is conditioned on tensors of its device. Tensors go from device to device while neither computes, so
  /// that one thread at a time uses a device. Output float32 [2N, ..., C], on x's device. The network throws what either
  /// throws.
  public static func split(
    negative: @escaping Network, on other: Device, prompt: @escaping Network
  ) -> Network {
    { x, timestep in
      let count = x.shape[0] / 2
      let there = try x.rows(0..<count).copied(to: other)
      let here = try x.rows(count..<2 * count)
      func finished(_ network: Network, _ x: Tensor) throws -> Tensor {
        let output = try network(x, timestep).cast(to: .float32)
        try output.device.backend.synchronize()
        return output
      }
      let (first, second) = try atOnce({ try finished(negative, there) }, { try finished(prompt, here) })
      return try .concatenated([first.copied(to: x.device), second], axis: 0)
    }
  }
}

/// Runs `other` on a thread of its own beside `body`, and waits for both. Throws what either throws.
private func atOnce(
  _ other: @escaping () throws -> Tensor, _ body: () throws -> Tensor
) throws -> (Tensor, Tensor) {
  // It has ended before this returns.
  nonisolated(unsafe) let other = other
  let answer = Answer()
  let thread = Thread { answer.put(Result { try other() }) }
  // As much as the main thread has on most systems; others get a fraction of it.
  thread.stackSize = 8 << 20
  thread.start()
  let own = Result { try body() }
  return try (answer.wait().get(), own.get())
}

/// What a thread found.
private final class Answer: Sendable {
  private let result = Mutex<Result<Tensor, any Error>?>(nil)
  private let isThere = DispatchSemaphore(value: 0)

  func put(_ found: Result<Tensor, any Error>) {
    result.withLock { $0 = found }
    isThere.signal()
  }

  func wait() -> Result<Tensor, any Error> {
    while true {
      isThere.wait()
      if let found = result.withLock({ $0 }) { return found }
    }
  }
}
