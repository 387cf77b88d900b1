import CVectorMath
import Dispatch
import Glibc
import LangevinTensor
import Synchronization

extension CPUBackend: PeakMeasuring {
  /// One thread a core, each with loops of its own.
  public func measurePeak() throws -> PeakRates {
    PeakRates(flops: CPUBackend.peakFLOPS(), bandwidth: try peakBandwidth())
  }

  /// A run shorter than this is mostly the threads' start.
  private static let shortest = 0.02
  private static let runs = 6
  /// Counted seconds of the copies and sums: memory is shared, and its moments of peace are fewer.
  private static let longestTransfer = 0.4

  private static func peakFLOPS() -> Double {
    [16, 8, 4].map { lanes in
      var count = 1 << 20
      var seconds = multiplyAdds(lanes: lanes, count: count)
      while seconds < shortest {
        count *= 2
        seconds = multiplyAdds(lanes: lanes, count: count)
      }
      let fastest = (0..<runs).map { _ in multiplyAdds(lanes: lanes, count: count) }.min() ?? seconds
      return 24 * Double(lanes) * Double(count) * Double(coreCount) / min(fastest, seconds)
    }.max() ?? 0
  }

  /// Seconds for `count` rounds on every core.
  private static func multiplyAdds(lanes: Int, count: Int) -> Double {
    onEveryCore { worker in
      vm_peak_multiply_add(Int32(lanes), 0.75, 0.125 * Float(worker + 1), count)
    }
  }

  private static func onEveryCore(_ body: @Sendable (Int) -> Float) -> Double {
    // Results are looked at, so that no loop can be left out.
    let sum = Mutex(Float(0))
    let start = ContinuousClock.now
    DispatchQueue.concurrentPerform(iterations: coreCount) { worker in
      let value = body(worker)
      sum.withLock { $0 += value }
    }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    precondition(sum.withLock { $0.isFinite })
    return seconds
  }

  /// Bytes per second, copied (read and written) or read.
  private func peakBandwidth() throws -> Double {
    // Past the caches of any processor's core.
    let share = (1 << 27) / coreCount / 256 * 256
    let bytes = share * coreCount
    let source = try pool.scratch(bytes / 4)
    let target = try pool.scratch(bytes / 4)
    // Ranges are disjoint and the storages outlive the calls.
    nonisolated(unsafe) let (x, y) = (source.floats, target.floats)
    x.update(repeating: 1, count: bytes / 4)
    let copy: @Sendable (Int) -> Float = { worker in
      let start = worker * share / 4
      memcpy(y + start, x + start, share)
      return y[start]
    }
    let read: @Sendable (Int) -> Float = { vm_peak_read(x + $0 * share / 4, share / 4) }
    _ = CPUBackend.onEveryCore(copy)
    var (fastestCopy, fastestRead, spent) = (Double.infinity, Double.infinity, 0.0)
    while spent < CPUBackend.longestTransfer {
      let (copied, summed) = (CPUBackend.onEveryCore(copy), CPUBackend.onEveryCore(read))
      fastestCopy = min(fastestCopy, copied)
      fastestRead = min(fastestRead, summed)
      spent += copied + summed
    }
    withExtendedLifetime((source, target)) {}
    return max(2 * Double(bytes) / fastestCopy, Double(bytes) / fastestRead)
  }
}
