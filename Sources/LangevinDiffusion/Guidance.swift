import LangevinTensor

/// Classifier-free guidance (arXiv:2207.12598, eq. 6): a network wrapped into one that goes further from the
/// negative prompt toward the prompt.
///
/// The wrapped network is called once, on the batch [x; x] of 2N rows, and must be conditioned on
/// [negative; prompt] in that order. At a scale of 1 or less there is nothing to guide: it is called on x
/// alone and must be conditioned on the prompt alone.
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

  /// The guided output, float32 [N, ..., C].
  ///
  /// Throws `DiffusionError.guidanceBatch` where the network does not return 2N rows.
  public func callAsFunction(_ x: Tensor, _ timestep: Float) throws -> Tensor {
    guard Self.isUsed(scale: scale) else { return try network(x, timestep) }
    let count = x.shape[0]
    let output = try network(Tensor.concatenated([x, x], axis: 0), timestep).cast(to: .float32)
    guard output.shape[0] == 2 * count else {
      throw DiffusionError.guidanceBatch(expected: 2 * count, got: output.shape[0])
    }
    let negative = try output.rows(0..<count)
    let positive = try output.rows(count..<2 * count)
    let guided = try Tensor.combination([(Float(1 - scale), negative), (Float(scale), positive)])
    if rescale == 0 { return guided }

    // Eq. 15 and 16 in one factor per image.
    let ratio = try deviation(positive) / deviation(guided)
    return try guided * ratio.affine(scale: Float(rescale), offset: Float(1 - rescale))
  }

  /// The standard deviation of each image, [N, 1, ..., 1].
  private func deviation(_ x: Tensor) throws -> Tensor {
    let axes = Array(1..<x.shape.rank)
    let centred = try x - x.reduced(.mean, axes: axes)
    return try centred.map(.square).reduced(.mean, axes: axes).map(.sqrt)
  }
}
