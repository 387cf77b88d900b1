import LangevinNN
import LangevinTensor

/// unCLIP's prior: a transformer that guesses the clean image embedding in a noisy one, given a text.
/// arXiv:2204.06125, section 2.2.
///
/// Its tokens are the text's hidden states, the text embedding, the timestep, the noisy embedding, and a learned
/// query whose output is the guess.
public struct PriorTransformer: Sendable {
  /// What the network was built from.
  public let config: PriorTransformerConfig
  let projectIn: Linear
  let projectionNorm: LayerNormalization?
  let projection: Linear
  let textProjection: Linear?
  let sinusoid: Sinusoid
  let time1: Linear
  let time2: Linear
  /// The positions' embeddings, [1, P, C].
  let positions: Tensor
  /// The learned token whose output is the prediction, [1, 1, C].
  let query: Tensor?
  let normIn: LayerNormalization?
  let blocks: [PriorBlock]
  let normOut: LayerNormalization
  let projectOut: Linear
  let mean: Tensor
  let deviation: Tensor
  let dtype: DType
  let device: Device
  let path: String
  private let recomputes: Bool

  /// Loads the whole network under diffusers' names. Throws `WeightError`.
  public init(_ config: PriorTransformerConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    (dtype, device) = (weights.dtype, weights.device)
    recomputes = weights.recomputes
    let channels = config.channels
    projectIn = try Linear(weights["proj_in"], inputs: config.embeddingChannels, outputs: channels)
    projectionNorm =
      config.normalizesProjection
      ? try LayerNormalization(weights["embedding_proj_norm"], channels: config.projectionChannels) : nil
    projection = try Linear(weights["embedding_proj"], inputs: config.projectionChannels, outputs: channels)
    textProjection =
      config.takesText
      ? try Linear(
        weights["encoder_hidden_states_proj"], inputs: config.embeddingChannels, outputs: channels) : nil
    sinusoid = Sinusoid(channels: channels, flipped: true, shift: 0)
    let time = weights["time_embedding"]
    time1 = try Linear(time["linear_1"], inputs: channels, outputs: config.timeChannels)
    time2 = try Linear(time["linear_2"], inputs: config.timeChannels, outputs: channels)
    positions = try weights.tensor(
      "positional_embedding", [1, config.embeddingCount + config.additionalEmbeddings, channels])
    query = config.hasQuery ? try weights.tensor("prd_embedding", [1, 1, channels]) : nil
    normIn =
      config.normalizesInput ? try LayerNormalization(weights["norm_in"], channels: channels) : nil
    blocks = try (0..<config.layerCount).map {
      try PriorBlock(weights["transformer_blocks"][$0], channels: channels, heads: config.headCount)
    }
    normOut = try LayerNormalization(weights["norm_out"], channels: channels)
    projectOut = try Linear(
      weights["proj_to_clip_embeddings"], inputs: channels, outputs: config.outputChannels)
    mean = try weights.tensor("clip_mean", [1, config.outputChannels])
    deviation = try weights.tensor("clip_std", [1, config.outputChannels])
    try weights.finish()
  }

  /// A noisy embedding x, [N, embeddingChannels] or [N, S, embeddingChannels]; a timestep an image; the embedding
  /// to condition on, [N, projectionChannels] or [N, P, projectionChannels]; the text's hidden states
  /// [N, T, embeddingChannels]; and what `attentionMask` gives -> the guess, [N, outputChannels] with a learned
  /// query, else [N, S, outputChannels].
  ///
  /// All are in the dtype of the weights. Without a mask every token sees every other: the reference is causal
  /// only where it has one. Throws `ModelError.invalidInput` where shapes do not fit.
  public func callAsFunction(
    _ x: Tensor, timesteps: [Float], embedding: Tensor, text: Tensor? = nil, mask: Tensor? = nil
  ) throws -> Tensor {
    let noisy = try tokens(x, "the noisy embedding", channels: config.embeddingChannels)
    let condition = try tokens(embedding, "the embedding", channels: config.projectionChannels)
    let count = noisy.shape[0]
    try require(timesteps.count == count, "\(timesteps.count) timesteps for \(count) embeddings")
    try require(condition.shape[0] == count, "\(condition.shape[0]) conditions for \(count) embeddings")
    try require(
      (text != nil) == config.takesText,
      "the text's hidden states are \(text == nil ? "missing" : "not taken")")
    if let text {
      try require(
        text.shape.rank == 3 && text.shape[0] == count && text.shape[2] == config.embeddingChannels,
        "the text is \(text.shape), the network takes [\(count), T, \(config.embeddingChannels)]")
    }
    return try layer(path) {
      let leading = [
        try text.flatMap { text in try textProjection.map { try $0(text) } },
        try projection(projectionNorm?(condition) ?? condition), try timeTokens(timesteps),
      ].compactMap { $0 }
      let first = leading.reduce(0) { $0 + $1.shape[1] }
      let ends = try query.map { [try $0.broadcast(to: [count, 1, config.channels])] } ?? []
      var h = try Tensor.concatenated(leading + [projectIn(noisy)] + ends, axis: 1)
      h = try h + positions(of: h.shape[1], leading: first)
      if let normIn { h = try normIn(h) }
      if let mask {
        let length = h.shape[1]
        try require(
          mask.shape == [count, length, length], "the mask is \(mask.shape) for \(count) x \(length) tokens")
      }
      for block in blocks { h = try h.recomputing(if: recomputes) { try block($0, mask: mask) } }
      let last = h.shape[1]
      let results = try h.sliced(query == nil ? first..<last : last - 1..<last, axis: 1)
      let guess = try projectOut(normOut(results))
      return query == nil ? guess : try guess.reshaped([count, config.outputChannels])
    }
  }

  /// What each token may look at: those before it, and of the text only what is `visible` (a row an image, one
  /// flag for each of the `embeddingCount` tokens; padding is not). To be added to the scores, [N, S, S].
  ///
  /// Throws `ModelError.invalidInput` for rows of another length.
  public func attentionMask(visible: [[Bool]]) throws -> Tensor {
    let length = config.embeddingCount + config.additionalEmbeddings
    // The reference's numbers, which float16 holds too; twice hidden is hidden twice.
    let hidden: Float = -10_000
    var values: [Float] = []
    values.reserveCapacity(visible.count * length * length)
    for row in visible {
      try require(
        row.count == config.embeddingCount, "\(row.count) flags for \(config.embeddingCount) tokens of text")
      let padding = row.map { $0 ? 0 : hidden } + [Float](repeating: 0, count: config.additionalEmbeddings)
      for token in 0..<length {
        for key in 0..<length { values.append(padding[key] + (key > token ? hidden : 0)) }
      }
    }
    return try Tensor(values, [visible.count, length, length], on: device).cast(to: dtype)
  }

  /// A sampled embedding [N, outputChannels] in CLIP's own units, in float32: the network works with embeddings
  /// of mean 0 and deviation 1.
  public func postProcess(_ embedding: Tensor) throws -> Tensor {
    try layer(path) {
      try embedding.cast(to: .float32) * deviation.cast(to: .float32) + mean.cast(to: .float32)
    }
  }

  /// A token of each timestep, [N, 1, C].
  private func timeTokens(_ timesteps: [Float]) throws -> Tensor {
    let count = timesteps.count
    let values = timesteps.flatMap { sinusoid($0) }
    let x = try Tensor(values, [count, 1, config.channels], on: device).cast(to: dtype)
    return try time2(time1(x, activation: config.timeActivation))
  }

  /// Where the checkpoint has positions of the noisy tokens alone, the others get zeros.
  private func positions(of length: Int, leading: Int) throws -> Tensor {
    let known = positions.shape[1]
    if known >= length {
      try require(known == length, "\(length) tokens for \(known) positions")
      return positions
    }
    let trailing = query == nil ? 0 : 1
    try require(leading + known + trailing == length, "\(length) tokens for \(known) positions")
    return try positions.padded(before: [0, leading, 0], after: [0, trailing, 0])
  }

  private func tokens(_ x: Tensor, _ name: String, channels: Int) throws -> Tensor {
    let shape = x.shape
    try require(
      (2...3).contains(shape.rank) && shape[-1] == channels,
      "\(name) is \(shape), the network takes [N, \(channels)] or [N, T, \(channels)]")
    return shape.rank == 3 ? x : try x.reshaped([shape[0], 1, channels])
  }

  private func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
    if !condition { throw ModelError.invalidInput(model: "PriorTransformer", reason: reason()) }
  }
}

/// Self-attention and a perceptron, each normalised before and added after.
struct PriorBlock: Sendable {
  let norm1: LayerNormalization
  let attention: MultiHeadAttention
  let norm3: LayerNormalization
  let expand: Linear
  let contract: Linear
  let path: String

  init(_ weights: Weights, channels: Int, heads: Int) throws {
    path = weights.layerPath
    norm1 = try LayerNormalization(weights["norm1"], channels: channels)
    attention = try MultiHeadAttention(
      weights["attn1"], channels: channels, heads: heads, bias: true, names: .diffusers)
    norm3 = try LayerNormalization(weights["norm3"], channels: channels)
    expand = try Linear(weights["ff"]["net"][0]["proj"], inputs: channels, outputs: 4 * channels)
    contract = try Linear(weights["ff"]["net"][2], inputs: 4 * channels, outputs: channels)
  }

  /// [N, T, C] -> [N, T, C].
  func callAsFunction(_ x: Tensor, mask: Tensor?) throws -> Tensor {
    try layer(path) {
      let h = try attention(norm1(x), mask: mask, residual: x)
      return try contract(expand(norm3(h), activation: .gelu), residual: h)
    }
  }
}
