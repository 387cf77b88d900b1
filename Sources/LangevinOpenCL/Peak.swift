import COpenCL
import LangevinTensor

/// How a set's kernels reach a device's ceilings.
struct PeakProbe: Sendable {
  /// Vector widths that are tried for arithmetic, each with as many chains as hide its latency.
  let variants: [(lanes: Int, chains: Int)]
  /// Work-items of an arithmetic launch, and how often each repeats at first.
  let items, firstCount: Int
  /// Vector width of copies and sums, and vectors of a work-item.
  let lanes, span: Int
  /// Work-items of a work-group.
  let group: Int
  /// Whether a work-item's vectors lie side by side, else those of neighbours do.
  let isBlocked: Bool
  /// Bytes that are past any cache.
  let largestBuffer: Int
}

extension OpenCLBackend: PeakMeasuring {
  /// Runs the probe family in several vector widths; work grows until a launch takes long enough to time.
  public func measurePeak() throws -> PeakRates {
    try synchronize()
    defer { releaseCachedMemory() }
    return PeakRates(flops: try peakFLOPS(), bandwidth: try peakBandwidth())
  }

  /// A launch shorter than this is mostly overhead.
  private static let shortest = 0.02
  /// Counted seconds of each variant.
  private static let longest = 0.15
  /// Counted seconds of the copies and sums: memory is shared, and its moments of peace are fewer.
  private static let longestTransfer = 0.4

  /// Measures the float32 FLOP/s that multiply-adds in registers reach.
  private func peakFLOPS() throws -> Double {
    let peak = kernels.peak
    var best = 0.0
    for (lanes, chains) in peak.variants {
      let output = try pool.allocate(peak.items * lanes * 4)
      var count = peak.firstCount
      func run() throws -> Double {
        try seconds(
          FMAPeakKernel(y: output, a: 0.75, b: 0.125, count: count), lanes: lanes, chains: chains, span: 4,
          items: peak.items)
      }
      // The first builds the kernel, and wakes the device.
      _ = try run()
      var last = try run()
      while last < OpenCLBackend.shortest, count < 1 << 28 {
        count *= last * 8 < OpenCLBackend.shortest ? 8 : 2
        last = try run()
      }
      var spent = last
      var fastest = last
      while spent < OpenCLBackend.longest {
        last = try run()
        spent += last
        fastest = min(fastest, last)
      }
      best = max(best, 2 * Double(lanes * chains) * Double(count) * Double(peak.items) / fastest)
    }
    return best
  }

  /// Bytes per second, copied (read and written) or read.
  private func peakBandwidth() throws -> Double {
    let peak = kernels.peak
    // Past any cache, where the device has the room.
    let room = min(description.maxAllocation, description.globalMemory / 8)
    let itemBytes = peak.lanes * 4 * peak.span
    let step = itemBytes * peak.group
    let bytes = max(1, min(peak.largestBuffer, room) / step) * step
    let source = try pool.allocate(bytes)
    let target = try pool.allocate(bytes)
    func run(_ kernel: some Kernel) throws -> Double {
      try seconds(kernel, lanes: peak.lanes, chains: 4, span: peak.span, items: bytes / itemBytes)
    }
    let (copy, read) = (CopyPeakKernel(x: source, y: target), ReadPeakKernel(x: source, y: target))
    // Pages of fresh buffers come into being when they are first written.
    _ = try run(CopyPeakKernel(x: target, y: source))
    _ = try run(copy)
    _ = try run(read)
    var fastestCopy = Double.infinity
    var fastestRead = Double.infinity
    var spent = 0.0
    while spent < OpenCLBackend.longestTransfer {
      let times = (copied: try run(copy), read: try run(read))
      fastestCopy = min(fastestCopy, times.copied)
      fastestRead = min(fastestRead, times.read)
      spent += times.copied + times.read
    }
    return max(2 * Double(bytes) / fastestCopy, Double(bytes) / fastestRead)
  }

  /// Wall time from an empty queue to an empty queue.
  private func seconds(_ kernel: some Kernel, lanes: Int, chains: Int, span: Int, items: Int) throws
    -> Double
  {
    let peak = kernels.peak
    let program = Program.peak(lanes: lanes, chains: chains, span: span, isBlocked: peak.isBlocked)
    let start = ContinuousClock.now
    try guarded("the probe of its ceilings") { queue in
      try queue.launch(kernel, program, global: [items], local: [peak.group])
      try queue.finish()
    }
    return (ContinuousClock.now - start) / .seconds(1)
  }
}
