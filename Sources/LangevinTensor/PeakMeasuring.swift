/// What a device reached in a probe made of nothing but arithmetic, or nothing but memory traffic: the
/// ceilings that an operation's speed is a fraction of.
public struct PeakRates: Sendable, Hashable {
  /// float32 multiply-adds held in registers, on all cores or units; FLOP/s, two a multiply-add.
  public var flops: Double
  /// Bytes read plus bytes written per second over blocks larger than the caches, the better of a copy and a
  /// sum. Operations on less data than the caches hold can be faster.
  public var bandwidth: Double

  /// Peaks of these rates: float32 FLOP/s and bytes/s.
  public init(flops: Double, bandwidth: Double) {
    self.flops = flops
    self.bandwidth = bandwidth
  }
}

/// A backend that can measure its device's ceilings.
public protocol PeakMeasuring: Backend {
  /// Takes well under two seconds, and waits for what is queued first. The best of several runs counts, as
  /// other work on the machine only ever slows one down. Throws `TensorError`.
  func measurePeak() throws -> PeakRates
}
