import LangevinNN
import LangevinTensor

/// What a UNet's cross-attention looks at.
struct UNetContext: Sendable {
  /// The context's tokens, [N, S, C].
  var tokens: Tensor
  /// [N, 1, S], added to the scores: 0, or a large negative number for a token that is hidden.
  var bias: Tensor?
  /// By the name of the cross-attention in the checkpoint.
  var imagePrompts: [String: [AddedAttention]] = [:]
  /// Outputs of cross-attentions that one call keeps for others.
  var outputs: CrossAttentionOutputs?
  /// Which share of the pixels of pictures of this size self-attention sees less of; 0 for none.
  var merging: (ratio: Double, height: Int, width: Int) = (0, 0, 0)
}

/// Pixels that attend to the context and to each other at once: the context has keys and values of its own, which
/// stand before the pixels'. `SimpleCrossAttnDownBlock2D`'s; arXiv:2112.10741, section 3.
struct AddedContextAttention: Sendable {
  struct Shape: Sendable, Hashable {
    var channels: Int
    var contextChannels: Int
    var heads: Int
    var groups: Int
    /// Pixels do not see each other.
    var onlyContext = false
    var contextNorm: UNetContextNorm?
  }

  let norm: GroupNormalization
  let contextNorm: ContextNormalization?
  let query: Linear
  let contextKey: Linear
  let contextValue: Linear
  let key: Linear?
  let value: Linear?
  let output: Linear
  let heads: Int
  let path: String

  enum ContextNormalization: Sendable {
    case layer(LayerNormalization)
    case group(GroupNormalization)
  }

  init(_ weights: Weights, _ shape: Shape) throws {
    let (channels, source) = (shape.channels, shape.contextChannels)
    path = weights.layerPath
    norm = try GroupNormalization(
      weights["group_norm"], channels: channels, groups: shape.groups, epsilon: 1e-5)
    let weightsOfNorm = weights["norm_cross"]
    contextNorm = try shape.contextNorm.map {
      switch $0 {
      case .layer: .layer(try LayerNormalization(weightsOfNorm, channels: source))
      case .group:
        .group(
          try GroupNormalization(
            weightsOfNorm, channels: source, groups: UNetContextNorm.groups, epsilon: 1e-5))
      }
    }
    query = try Linear(weights["to_q"], inputs: channels, outputs: channels)
    contextKey = try Linear(weights["add_k_proj"], inputs: source, outputs: channels)
    contextValue = try Linear(weights["add_v_proj"], inputs: source, outputs: channels)
    key = shape.onlyContext ? nil : try Linear(weights["to_k"], inputs: channels, outputs: channels)
    value = shape.onlyContext ? nil : try Linear(weights["to_v"], inputs: channels, outputs: channels)
    output = try Linear(weights["to_out.0"], inputs: channels, outputs: channels)
    heads = shape.heads
  }

  /// x [N, H, W, C], context [N, S, contextChannels] -> [N, H, W, C].
  func callAsFunction(_ x: Tensor, context: UNetContext) throws -> Tensor {
    let pixels = try x.reshaped([x.shape[0], x.shape[1] * x.shape[2], x.shape[3]])
    return try layer(path) {
      let source = try normalized(context.tokens)
      let h = try norm(pixels)
      var keys = try contextKey(source)
      var values = try contextValue(source)
      if let key, let value {
        keys = try Tensor.concatenated([keys, key(h)], axis: 1)
        values = try Tensor.concatenated([values, value(h)], axis: 1)
      }
      let mask = try context.bias.map { bias in
        let visible = keys.shape[1] - bias.shape[2]
        return try bias.padded(before: [0, 0, 0], after: [0, 0, visible])
          .broadcast(to: [x.shape[0], pixels.shape[1], keys.shape[1]])
      }
      let mixed = try query(h).attention(keys: keys, values: values, heads: heads, mask: mask)
      return try output(mixed, residual: pixels).reshaped(x.shape)
    }
  }

  private func normalized(_ context: Tensor) throws -> Tensor {
    switch contextNorm {
    case nil: context
    case .layer(let norm): try norm(context)
    case .group(let norm): try norm(context)
    }
  }
}
