import LangevinNN
import LangevinTensor

/// The denoising network of Stable Diffusion 3 and 3.5 (arXiv:2403.03206): diffusers' `SD3Transformer2DModel`.
///
/// Tokens are patches of the latent, which attend to each other and to the text's; time and pooled text shift, scale and
/// gate every block. Statistics of norms and the modulation of what they normalise are one operation in float32.
public struct SD3Transformer2DModel: Sendable {
  /// What the network was built from.
  public let config: SD3Transformer2DConfig
  let patches: PatchEmbedding
  /// What is added to each place's token, [maximumPositions, maximumPositions, C].
  let positions: Tensor
  let time: TimestepEmbedding
  let pooledText: EmbeddingPerceptron
  let context: Linear
  let blocks: [JointTransformerBlock]
  /// Scale and shift of the output.
  let outputModulation: ModulationProjection
  let projection: Linear
  let path: String

  /// Loads the whole network under diffusers' names, one tensor after the other. Throws `WeightError`.
  public init(_ config: SD3Transformer2DConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let (channels, side) = (config.channels, config.maximumPositions)
    let embedder = weights["time_text_embed"]
    patches = try PatchEmbedding(
      weights["pos_embed"]["proj"], inputs: config.inChannels, outputs: channels, patch: config.patch)
    positions = try weights["pos_embed"].tensor("pos_embed", [1, side * side, channels])
      .reshaped([side, side, channels])
    time = try TimestepEmbedding(
      embedder["timestep_embedder"], sinusoid: Sinusoid(channels: 256, flipped: true, shift: 0),
      outputs: channels)
    pooledText = try EmbeddingPerceptron(
      embedder["text_embedder"], inputs: config.pooledChannels, outputs: channels)
    context = try Linear(weights["context_embedder"], inputs: config.textChannels, outputs: channels)
    blocks = try (0..<config.layerCount).map { index in
      let kind = JointTransformerBlock.Kind(
        heads: config.headCount, headSize: config.headSize, normalizesHeads: config.normalizesHeads,
        attendsTwice: config.dualAttentionLayers.contains(index), isLast: index == config.layerCount - 1)
      return try JointTransformerBlock(weights["transformer_blocks"][index], kind)
    }
    outputModulation = try ModulationProjection(weights["norm_out"], channels: channels, count: 2)
    projection = try Linear(
      weights["proj_out"], inputs: channels, outputs: config.patch * config.patch * config.outChannels)
    try weights.finish()
  }

  /// latent [N, H, W, inChannels], one timestep an image (0...1000), text [N, T, textChannels], pooled
  /// [N, pooledChannels] -> the velocity [N, H, W, outChannels].
  ///
  /// All are in the dtype of the weights. Throws `ModelError.invalidInput` where counts differ, or the latent's
  /// extents are not multiples of the patch's or have more tokens than there are positions.
  public func callAsFunction(_ latent: Tensor, timesteps: [Float], text: Tensor, pooled: Tensor) throws
    -> Tensor
  {
    try check(latent, timesteps, text, pooled)
    let (images, patch) = (latent.shape[0], config.patch)
    let (rows, columns) = (latent.shape[1] / patch, latent.shape[2] / patch)
    return try layer(path) {
      let embedding = try time(timesteps, residual: pooledText(pooled), activation: .silu)
      var h = try patches(latent) + places(rows, columns)
      var states = try Optional(context(text))
      for block in blocks {
        guard let known = states else { break }
        (h, states) = try block(h, text: known, time: embedding)
      }
      h = try outputModulation(embedding).normalized(h, shift: 1, scale: 0, epsilon: 1e-6)
      let pixels = try projection(h).reshaped([images, rows, columns, patch, patch, config.outChannels])
      return try pixels.transposed([0, 1, 3, 2, 4, 5])
        .reshaped([images, rows * patch, columns * patch, config.outChannels])
    }
  }

  /// Of the middle of the positions, [1, rows * columns, C].
  private func places(_ rows: Int, _ columns: Int) throws -> Tensor {
    let (top, left) = ((config.maximumPositions - rows) / 2, (config.maximumPositions - columns) / 2)
    return try positions.rows(top..<top + rows).sliced(left..<left + columns, axis: 1)
      .reshaped([1, rows * columns, config.channels])
  }

  private func check(_ latent: Tensor, _ timesteps: [Float], _ text: Tensor, _ pooled: Tensor) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: "SD3Transformer2DModel", reason: reason()) }
    }
    let (shape, patch, most) = (latent.shape, config.patch, config.maximumPositions)
    try require(
      shape.rank == 4 && shape[3] == config.inChannels,
      "the latent is \(shape), the network takes [N, H, W, \(config.inChannels)]")
    try require(
      shape[1] > 0 && shape[2] > 0 && shape[1] % patch == 0 && shape[2] % patch == 0,
      "a latent of \(shape[1])x\(shape[2]): its extents must be multiples of \(patch)")
    let longest = max(shape[1], shape[2]) / patch
    try require(longest <= most, "\(longest) tokens along an axis, the network has \(most) positions")
    try require(timesteps.count == shape[0], "\(timesteps.count) timesteps for \(shape[0]) images")
    try require(
      text.shape.rank == 3 && text.shape[0] == shape[0] && text.shape[2] == config.textChannels,
      "the text is \(text.shape), the network takes [\(shape[0]), T, \(config.textChannels)]")
    try require(
      pooled.shape == [shape[0], config.pooledChannels],
      "the pooled text is \(pooled.shape), the network takes [\(shape[0]), \(config.pooledChannels)]")
  }
}
