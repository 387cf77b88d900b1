import LangevinNN
import LangevinTensor

/// Shifts, scales and gates of each image's tokens, which a transformer makes of the time. arXiv:2212.09748, section 3.2.
struct Modulation: Sendable {
  /// Of each image, [N, R, C].
  let rows: Tensor

  /// `layerNorm(x) (1 + scale) + shift` of x [N, T, C], with these rows: of each image one operation, whose
  /// arithmetic is float32.
  func normalized(_ x: Tensor, shift: Int, scale: Int, epsilon: Float) throws -> Tensor {
    let images = try (0..<x.shape[0]).map { image in
      try x.rows(image..<image + 1).layerNorm(
        row(scale, of: image).affine(scale: 1, offset: 1), row(shift, of: image), epsilon: epsilon)
    }
    return try Tensor.concatenated(images, axis: 0)
  }

  /// `x + gate y`, all [N, T, C].
  func gated(_ y: Tensor, gate: Int, residual x: Tensor) throws -> Tensor {
    try x + y * rows.sliced(gate..<gate + 1, axis: 1)
  }

  /// One row of one image's modulation, [C]; a view.
  private func row(_ index: Int, of image: Int) throws -> Tensor {
    let (count, channels) = (rows.shape[1], rows.shape[2])
    let first = image * count + index
    return try rows.reshaped([-1, channels]).rows(first..<first + 1).reshaped([channels])
  }
}

/// What makes a block's modulation of the time embedding: `linear` of diffusers' adaptive norms.
struct ModulationProjection: Sendable {
  let linear: Linear
  let count: Int
  let path: String

  /// Of `count` rows of `channels` each.
  init(_ weights: Weights, channels: Int, count: Int) throws {
    path = weights.layerPath
    self.count = count
    linear = try Linear(weights["linear"], inputs: channels, outputs: count * channels)
  }

  /// The time embedding after its SiLU, [N, C].
  func callAsFunction(_ time: Tensor) throws -> Modulation {
    try layer(path) { Modulation(rows: try linear(time).reshaped([time.shape[0], count, time.shape[1]])) }
  }
}
