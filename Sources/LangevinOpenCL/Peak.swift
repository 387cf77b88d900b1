import COpenCL
import LangevinTensor

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
    let units = max(1, description.computeUnits)
    let isCPU = family == .cpu
    // A CPU's widest vector is not known for sure, and a vector of too many registers spills: both are tried.
    let variants = isCPU ? [(lanes: 16, chains: 12), (8, 12), (4, 12)] : [(lanes: 1, chains: 8), (4, 4)]
    let items = isCPU ? units * 4 : units * 2048
    var best = 0.0
    for (lanes, chains) in variants {
      let output = try pool.allocate(items * lanes * 4)
      var count = 1 << (isCPU ? 16 : 10)
      func run() throws -> Double {
        try seconds {
          try launch(
            probe(
              "fma_peak", lanes: lanes, chains: chains, span: 4, items: items,
              [.scratch(output), .float(0.75), .float(0.125), .int(count)]))
        }
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
      best = max(best, 2 * Double(lanes * chains) * Double(count) * Double(items) / fastest)
    }
    return best
  }

  /// Bytes per second, copied (read and written) or read.
  private func peakBandwidth() throws -> Double {
    let isCPU = family == .cpu
    let lanes = isCPU ? 16 : 4
    let span = isCPU ? 1 << 14 : 16
    // Past any cache, where the device has the room.
    let room = min(description.maxAllocation, description.globalMemory / 8)
    let step = lanes * 4 * span * (isCPU ? 1 : 256)
    let bytes = max(1, min(1 << (isCPU ? 27 : 29), room) / step) * step
    let source = try pool.allocate(bytes)
    let target = try pool.allocate(bytes)
    let items = bytes / (lanes * 4 * span)
    func run(_ kernel: String, _ arguments: [Argument]) throws -> Double {
      try seconds {
        try launch(probe(kernel, lanes: lanes, chains: 4, span: span, items: items, arguments))
      }
    }
    let copy: [Argument] = [.scratch(source), .scratch(target)]
    // Pages of fresh buffers come into being when they are first written.
    _ = try run("copy_peak", [.scratch(target), .scratch(source)])
    _ = try run("copy_peak", copy)
    _ = try run("read_peak", copy)
    var fastestCopy = Double.infinity
    var fastestRead = Double.infinity
    var spent = 0.0
    while spent < OpenCLBackend.longestTransfer {
      let (copied, read) = (try run("copy_peak", copy), try run("read_peak", copy))
      fastestCopy = min(fastestCopy, copied)
      fastestRead = min(fastestRead, read)
      spent += copied + read
    }
    return max(2 * Double(bytes) / fastestCopy, Double(bytes) / fastestRead)
  }

  private func probe(
    _ kernel: String, lanes: Int, chains: Int, span: Int, items: Int, _ arguments: [Argument]
  ) -> Launch {
    let isCPU = family == .cpu
    return Launch(
      kernel, .probe,
      [
        "TYPE": lanes == 1 ? "float" : "float\(lanes)", "CHAINS": chains, "SPAN": span,
        "BLOCKED": isCPU ? 1 : 0,
      ], global: [items], local: [isCPU ? 1 : 256], arguments)
  }

  /// Wall time from an empty queue to an empty queue.
  private func seconds(_ body: () throws -> Void) throws -> Double {
    let start = ContinuousClock.now
    try guarded("the probe of its ceilings") {
      try body()
      try check(clFinish(context.queue), "clFinish")
    }
    return (ContinuousClock.now - start) / .seconds(1)
  }
}
