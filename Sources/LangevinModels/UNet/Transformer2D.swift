import LangevinNN
import LangevinTensor

/// Self-attention over the pixels, cross-attention to the context, and a gated perceptron, in `depth` blocks.
/// arXiv:2112.10752, section 3.3.
struct Transformer2D: Sendable {
  let norm: GroupNormalization
  let projectIn: Linear
  let blocks: [TransformerBlock]
  let projectOut: Linear
  let path: String

  struct Shape: Sendable, Hashable {
    var channels: Int
    var contextChannels: Int
    var heads: Int
    var depth: Int
    var groups: Int
    /// The first attention looks at the context too.
    var onlyCrossAttention = false
  }

  /// The projections may be stored as Linear or as 1x1 convolutions: over channels-last pixels they are the same.
  init(_ weights: Weights, _ shape: Shape) throws {
    let channels = shape.channels
    path = weights.layerPath
    norm = try GroupNormalization(weights["norm"], channels: channels, groups: shape.groups, epsilon: 1e-6)
    projectIn = try Linear(weights["proj_in"], inputs: channels, outputs: channels)
    blocks = try (0..<shape.depth).map { try TransformerBlock(weights["transformer_blocks"][$0], shape) }
    projectOut = try Linear(weights["proj_out"], inputs: channels, outputs: channels)
  }

  /// x [N, H, W, C], context [N, S, contextChannels] -> [N, H, W, C].
  func callAsFunction(_ x: Tensor, context: UNetContext) throws -> Tensor {
    let (height, width) = (x.shape[1], x.shape[2])
    let pixels = try x.reshaped([x.shape[0], height * width, x.shape[3]])
    let merging = context.merging
    let isMerged = merging.ratio > 0 && (merging.height, merging.width) == (height, width)
    return try layer(path) {
      var h = try projectIn(norm(pixels))
      for block in blocks {
        let merged =
          isMerged ? try TokenMerging(h, height: height, width: width, ratio: merging.ratio) : nil
        h = try block(h, context: context, merging: merged)
      }
      return try projectOut(h, residual: pixels).reshaped(x.shape)
    }
  }
}

struct TransformerBlock: Sendable {
  let norm1: LayerNormalization
  let attention1: MultiHeadAttention
  let norm2: LayerNormalization
  let attention2: MultiHeadAttention
  let norm3: LayerNormalization
  let feedForward: FeedForward
  let onlyCrossAttention: Bool
  /// The second attention's name in the checkpoint.
  let crossAttention: String
  let path: String

  init(_ weights: Weights, _ shape: Transformer2D.Shape) throws {
    let channels = shape.channels
    onlyCrossAttention = shape.onlyCrossAttention
    path = weights.layerPath
    crossAttention = weights["attn2"].path
    norm1 = try LayerNormalization(weights["norm1"], channels: channels)
    attention1 = try MultiHeadAttention(
      weights["attn1"], channels: channels, contextChannels: onlyCrossAttention ? shape.contextChannels : nil,
      heads: shape.heads, bias: false, names: .diffusers)
    norm2 = try LayerNormalization(weights["norm2"], channels: channels)
    attention2 = try MultiHeadAttention(
      weights["attn2"], channels: channels, contextChannels: shape.contextChannels, heads: shape.heads,
      bias: false, names: .diffusers)
    norm3 = try LayerNormalization(weights["norm3"], channels: channels)
    feedForward = try FeedForward(weights["ff"], channels: channels)
  }

  /// x [N, T, C], context [N, S, contextChannels] -> [N, T, C].
  func callAsFunction(_ x: Tensor, context: UNetContext, merging: TokenMerging? = nil) throws -> Tensor {
    try layer(path) {
      let own = onlyCrossAttention ? context.tokens : nil
      var h =
        if let merging { try x + merging.unmerge(attention1(merging.merge(norm1(x)), context: own)) } else {
          try attention1(norm1(x), context: own, residual: x)
        }
      let added = context.imagePrompts[crossAttention] ?? []
      if let outputs = context.outputs {
        let found = try outputs(crossAttention) {
          try attention2(norm2(h), context: context.tokens, added: added)
        }
        h = try h + found
      } else {
        h = try attention2(norm2(h), context: context.tokens, residual: h, added: added)
      }
      return try feedForward(norm3(h), residual: h)
    }
  }
}
