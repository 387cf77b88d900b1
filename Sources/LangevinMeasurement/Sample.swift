import Foundation

/// Repeated measurements of one quantity, summed up by order statistics: machines are noisy, and a mean is
/// drawn by one bad run.
public struct Sample: Sendable, Hashable, Codable {
  /// In ascending order; never empty.
  public let values: [Double]

  /// Nil where nothing was measured.
  public init?(_ values: [Double]) {
    guard !values.isEmpty else { return nil }
    self.values = values.sorted()
  }

  /// The middle value, or the mean of the two in the middle.
  public var median: Double { quantile(0.5) }
  /// Half of all values lie between the quartiles.
  public var quartiles: (lower: Double, upper: Double) { (quantile(0.25), quantile(0.75)) }
  /// The distance between the quartiles, relative to the median.
  public var spread: Double { median == 0 ? 0 : (quartiles.upper - quartiles.lower) / median }

  /// The value below which the fraction `p` (0 to 1) lies, between neighbours by linear interpolation.
  public func quantile(_ p: Double) -> Double {
    let position = min(max(p, 0), 1) * Double(values.count - 1)
    let below = Int(position)
    let above = min(below + 1, values.count - 1)
    return values[below] + (position - Double(below)) * (values[above] - values[below])
  }
}

/// Waits until this process computes nothing, at most a second. OpenBLAS's threads spin for 2^28 cycles after their
/// last product, a tenth of a second, and take the cores from whatever is timed next on another device.
func waitUntilIdle() {
  func busySeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
  for _ in 0..<100 {
    let before = busySeconds()
    Thread.sleep(forTimeInterval: 0.01)
    if busySeconds() - before < 0.001 { return }
  }
}
