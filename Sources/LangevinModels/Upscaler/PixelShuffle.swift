import LangevinTensor

extension Tensor {
  /// `x` where it is positive, else `slope x`, for a slope in 0...1.
  func leakyReLU(_ slope: Float) throws -> Tensor { try maximum(self * slope) }

  /// [N, H, W, C f f] -> [N, f H, f W, C]: the f by f channels of each C become pixels (arXiv:1609.05158, eq.
  /// 4).
  func pixelShuffled(_ factor: Int) throws -> Tensor {
    guard factor > 1 else { return self }
    let (n, h, w, c) = (shape[0], shape[1], shape[2], shape[3] / (factor * factor))
    return try reshaped([n, h, w, c, factor, factor]).transposed([0, 1, 4, 2, 5, 3])
      .reshaped([n, h * factor, w * factor, c])
  }

  /// The inverse: [N, f H, f W, C] -> [N, H, W, C f f].
  func pixelUnshuffled(_ factor: Int) throws -> Tensor {
    guard factor > 1 else { return self }
    let (n, h, w, c) = (shape[0], shape[1] / factor, shape[2] / factor, shape[3])
    return try reshaped([n, h, factor, w, factor, c]).transposed([0, 1, 3, 5, 2, 4])
      .reshaped([n, h, w, c * factor * factor])
  }
}
