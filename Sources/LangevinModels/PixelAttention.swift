import LangevinNN
import LangevinTensor

/// Self-attention over all pixels of a picture, added to it: `AttnDownBlock2D`'s, and the autoencoders'.
struct PixelAttention: Sendable {
  struct Shape: Sendable, Hashable {
    var channels: Int
    var heads: Int
    /// Nil: what is attended to is not normalised.
    var groups: Int?
    var epsilon: Float
  }

  let norm: GroupNormalization?
  let attention: MultiHeadAttention
  let path: String

  /// Takes today's names of the projections and those of early diffusers.
  init(_ weights: Weights, _ shape: Shape) throws {
    path = weights.layerPath
    norm = try shape.groups.map {
      try GroupNormalization(
        weights["group_norm"], channels: shape.channels, groups: $0, epsilon: shape.epsilon)
    }
    attention = try MultiHeadAttention(
      weights, channels: shape.channels, heads: shape.heads, bias: true,
      names: weights.contains("proj_attn") ? .earlyDiffusers : .diffusers)
  }

  /// [N, H, W, C] -> [N, H, W, C].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let pixels = try x.reshaped([x.shape[0], x.shape[1] * x.shape[2], x.shape[3]])
    return try layer(path) {
      try attention(norm?(pixels) ?? pixels, residual: pixels).reshaped(x.shape)
    }
  }
}
