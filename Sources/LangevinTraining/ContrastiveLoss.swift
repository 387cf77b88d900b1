import LangevinTensor

/// How well pictures and texts find each other within a batch, float32 [1]: the mean over both directions of the cross
/// entropy of cosines times `exp(logScale)`. arXiv:2103.00020, figure 3.
///
/// `images` and `texts` are float32 [N, C] of length 1, a pair a row; `logScale` has one element.
public func contrastiveLoss(_ images: Tensor, _ texts: Tensor, logScale: Tensor) throws -> Tensor {
  let scale = try logScale.cast(to: .float32).map(.exp)
  let scores = try images.matmul(texts, right: .transposed) * scale
  let own = try (images * texts).reduced(.sum, axes: [1]) * scale
  let (count, ones) = (images.shape[0], Array(0..<2))
  let toTexts = try logSumExp(scores) - own.reshaped([count, 1])
  let toImages = try logSumExp(scores.transposed([1, 0])) - own.reshaped([count, 1])
  return try ((toTexts + toImages) * 0.5).reduced(.mean, axes: ones).reshaped([1])
}

/// [M, N] -> [M, 1]; the largest number is taken out first, which changes nothing but the range.
private func logSumExp(_ x: Tensor) throws -> Tensor {
  let largest = try x.untraced.reduced(.maximum, axes: [1]).reshaped([x.shape[0], 1])
  let sum = try (x - largest).map(.exp).reduced(.sum, axes: [1]).reshaped([x.shape[0], 1])
  return try sum.map(.log) + largest
}
