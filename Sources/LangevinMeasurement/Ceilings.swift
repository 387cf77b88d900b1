import LangevinTensor

/// What a device can do at most, as it showed in a short probe. Speeds are given as fractions of it.
public struct Ceilings: Codable, Sendable, Hashable {
  /// float32 FLOP/s of multiply-adds that stay in registers.
  public var flops: Double
  /// Bytes per second, read plus written, of blocks larger than the caches.
  public var bandwidth: Double

  /// Ceilings of these rates: float32 FLOP/s and bytes/s.
  public init(flops: Double, bandwidth: Double) {
    self.flops = flops
    self.bandwidth = bandwidth
  }

  /// Probes a device's own backend; well under two seconds. Throws `MeasurementError.noProbe` for a backend
  /// that cannot, and `TensorError`.
  public static func measure(on device: Device) throws -> Ceilings {
    guard let backend = device.backend as? any PeakMeasuring else {
      throw MeasurementError.noProbe(device: device.name)
    }
    waitUntilIdle()
    let peak = try backend.measurePeak()
    return Ceilings(flops: peak.flops, bandwidth: peak.bandwidth)
  }

  /// The fraction of the device's best that so much work in so many seconds is: of the arithmetic's ceiling or
  /// of the memory's, whichever of them binds (the roofline, doi:10.1145/1498765.1498785).
  public func fraction(flops work: Double, bytes: Double, seconds: Double) -> Double {
    guard seconds > 0 else { return 0 }
    return max(work / flops, bytes / bandwidth) / seconds
  }
}
