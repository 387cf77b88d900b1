import LangevinNN
import LangevinTensor

/// What every block's cross-attention looks at, [N, T, C] each.
struct WanContext: Sendable {
  let text: Tensor
  let image: Tensor?
}

/// A block of the transformer: self-attention, cross-attention and a perceptron.
struct WanTransformerBlock: Sendable {
  let table: Tensor
  let selfAttention: WanTransformerAttention
  let norm: LayerNormalization?
  let crossAttention: WanTransformerAttention
  let perceptron: Perceptron
  let epsilon: Float
  let path: String

  init(_ weights: Weights, _ config: WanTransformer3DConfig) throws {
    path = weights.layerPath
    epsilon = config.epsilon
    let channels = config.channels
    table = try weights.tensor("scale_shift_table", [1, 6, channels])
    selfAttention = try WanTransformerAttention(weights["attn1"], config, seesImage: false)
    norm =
      config.normalizesCrossAttention
      ? try LayerNormalization(weights["norm2"], channels: channels, epsilon: epsilon) : nil
    crossAttention = try WanTransformerAttention(
      weights["attn2"], config, seesImage: config.imageChannels != nil)
    perceptron = try Perceptron(
      weights["ffn"], channels: channels, inner: config.feedForwardChannels, activation: .geluTanh)
  }

  /// x [N, T, C], modulation [N, 6, C] -> [N, T, C].
  func callAsFunction(_ x: Tensor, modulation: Tensor, angles: RotaryAngles, context: WanContext) throws
    -> Tensor
  {
    try layer(path) {
      let rows = Modulation(rows: try table + modulation)
      var h = try rows.gated(
        selfAttention(rows.normalized(x, shift: 0, scale: 1, epsilon: epsilon), angles: angles), gate: 2,
        residual: x)
      h = try crossAttention(norm?(h) ?? h, context: context, residual: h)
      let moved = try perceptron(rows.normalized(h, shift: 3, scale: 4, epsilon: epsilon))
      return try rows.gated(moved, gate: 5, residual: h)
    }
  }
}

/// Attention whose queries and keys are normalised over all heads together.
struct WanTransformerAttention: Sendable {
  /// Keys and values, and the norm of the keys.
  struct Source: Sendable {
    let key: Linear
    let value: Linear
    let norm: RMSNormalization
  }

  let query: Linear
  let queryNorm: RMSNormalization
  let source: Source
  /// Of an image's states, which are attended to by themselves.
  let imageSource: Source?
  let output: Linear
  let heads: Int
  let path: String

  init(_ weights: Weights, _ config: WanTransformer3DConfig, seesImage: Bool) throws {
    path = weights.layerPath
    heads = config.headCount
    let channels = config.channels
    func linear(_ weights: Weights) throws -> Linear {
      try Linear(weights, inputs: channels, outputs: channels)
    }
    func norm(_ name: String) throws -> RMSNormalization {
      try RMSNormalization(weights[name], channels: channels, epsilon: config.epsilon)
    }
    query = try linear(weights["to_q"])
    queryNorm = try norm("norm_q")
    source = Source(
      key: try linear(weights["to_k"]), value: try linear(weights["to_v"]), norm: try norm("norm_k"))
    imageSource =
      seesImage
      ? Source(
        key: try linear(weights["add_k_proj"]), value: try linear(weights["add_v_proj"]),
        norm: try norm("norm_added_k")) : nil
    // Some files have it; nothing uses it.
    weights["norm_added_q"].skip()
    output = try linear(weights["to_out"][0])
  }

  /// x [N, T, C], each token turned by its place -> [N, T, C].
  func callAsFunction(_ x: Tensor, angles: RotaryAngles) throws -> Tensor {
    try layer(path) {
      let queries = try angles.turned(queryNorm(query(x)), heads: heads)
      let keys = try angles.turned(source.norm(source.key(x)), heads: heads)
      return try output(queries.attention(keys: keys, values: source.value(x), heads: heads))
    }
  }

  /// x [N, T, C] -> [N, T, C], plus the residual.
  func callAsFunction(_ x: Tensor, context: WanContext, residual: Tensor) throws -> Tensor {
    try layer(path) {
      let queries = try queryNorm(query(x))
      var mixed = try attend(queries, context.text, source)
      if let image = context.image, let imageSource {
        mixed = try mixed + attend(queries, image, imageSource)
      }
      return try output(mixed, residual: residual)
    }
  }

  private func attend(_ queries: Tensor, _ states: Tensor, _ source: Source) throws -> Tensor {
    try queries.attention(keys: source.norm(source.key(states)), values: source.value(states), heads: heads)
  }
}
