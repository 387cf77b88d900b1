import LangevinTensor

/// Classifier-free guidance (arXiv:2207.12598, eq. 6): a network wrapped into one that goes further from the
/// negative prompt toward the prompt.
///
/// The wrapped network is called once, on the batch [x; x] of 2N rows, and must be conditioned on
/// [negative; prompt] in that order. At a scale of 1 or less there is nothing to guide: it is called on x
/// alone and must be conditioned on the prompt alone.
///
/// Of a network that returns twice x's channels, the second half being its variance's mix, the first half is guided
/// and the prompt's second half goes with it, as unCLIP's and GLIDE's reference does.
public struct ClassifierFreeGuidance {
  /// Conditioned on [negative; prompt].
  public var network: Network
  /// The weight w of the paper: 1 is the prompt alone, more goes further.
  public var scale: Double
  /// Share of the output whose standard deviation is brought back to the unguided one's: phi of
  /// arXiv:2305.08891, eq. 16. 0 is off; the paper uses 0.7.
  public var rescale: Double

  /// Guidance of this scale around a network.
  public init(scale: Double, rescale: Double = 0, _ network: @escaping Network) {
    self.scale = scale
    self.rescale = rescale
    self.network = network
  }

  /// Whether this scale needs the negative prompt's half of the batch.
  public static func isUsed(scale: Double) -> Bool { scale > 1 }

  /// The guided output, float32 [N, ..., C] or [N, ..., 2C] as the network's.
  ///
  /// Throws `DiffusionError.guidanceBatch` where the network does not return 2N rows.
  public func callAsFunction(_ x: Tensor, _ timestep: Float) throws -> Tensor {
    guard Self.isUsed(scale: scale) else {
      return try network(x, timestep).cast(to: .float32)
    }
    let count = x.shape[0]
    let output = try network(Tensor.concatenated([x, x], axis: 0), timestep).cast(to: .float32)
    guard output.shape[0] == 2 * count else {
      throw DiffusionError.guidanceBatch(expected: 2 * count, got: output.shape[0])
    }
    let negative = try output.rows(0..<count).splittingVariance(of: x).mean
    let (positive, variance) = try output.rows(count..<2 * count).splittingVariance(of: x)
    var guided = try Tensor.combination([(Float(1 - scale), negative), (Float(scale), positive)])
    if rescale != 0 {
      // Eq. 15 and 16 in one factor per image.
      let ratio = try deviation(positive) / deviation(guided)
      guided = try guided * ratio.affine(scale: Float(rescale), offset: Float(1 - rescale))
    }
    return if let variance { try Tensor.concatenated([guided, variance], axis: -1) } else { guided }
  }

  /// The standard deviation of each image, [N, 1, ..., 1].
  private func deviation(_ x: Tensor) throws -> Tensor {
    let axes = Array(1..<x.shape.rank)
    let centred = try x - x.reduced(.mean, axes: axes)
    return try centred.map(.square).reduced(.mean, axes: axes).map(.sqrt)
  }
}

/// Guidance only where it helps: two denoisers, of which `guided` is called at noise levels within `interval`, and
/// `plain`, the same network without guidance, at all others. arXiv:2404.07724, eq. 6.
public struct GuidanceInterval: Denoiser {
  /// Called within the interval.
  public var guided: any Denoiser
  /// The denoiser that is called at noise levels outside the interval.
  public var plain: any Denoiser
  /// In sigma / alpha (`NoiseLevel.noiseToSignal`): above its lower and up to its upper bound there is guidance.
  public var interval: ClosedRange<Double>

  /// Guidance within an interval of sigma / alpha.
  public init(_ guided: any Denoiser, outside plain: any Denoiser, interval: ClosedRange<Double>) {
    self.guided = guided
    self.plain = plain
    self.interval = interval
  }

  /// What the level's denoiser guesses.
  public func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    try chosen(level).denoised(x, at: level)
  }

  /// What the level's denoiser guesses.
  public func guess(_ x: Tensor, at level: NoiseLevel) throws -> Guess {
    try chosen(level).guess(x, at: level)
  }

  private func chosen(_ level: NoiseLevel) -> any Denoiser {
    level.noiseToSignal > interval.lowerBound && level.noiseToSignal <= interval.upperBound ? guided : plain
  }
}
