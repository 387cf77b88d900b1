import LangevinNN
import LangevinTensor

/// The denoising network of FLUX.1 dev and schnell: diffusers' `FluxTransformer2DModel`.
///
/// Tokens are 2x2 latent pixels, turned by their row and column. They attend to each other and to the text's, at first with
/// weights of their own, then as one sequence; time, pooled text and guidance shift, scale and gate every block.
public struct FluxTransformer2DModel: Sendable {
  /// What the network was built from.
  public let config: FluxTransformer2DConfig
  let time: TimestepEmbedding
  let guidance: TimestepEmbedding?
  let pooledText: EmbeddingPerceptron
  let tokens: Linear
  let context: Linear
  let blocks: [JointTransformerBlock]
  let singleBlocks: [FluxSingleTransformerBlock]
  /// Scale and shift of the output.
  let outputModulation: ModulationProjection
  let projection: Linear
  let path: String

  /// Loads the whole network under diffusers' names, one tensor after the other. Throws `WeightError`.
  public init(_ config: FluxTransformer2DConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let (channels, embedder) = (config.channels, weights["time_text_embed"])
    func sinusoids(_ name: String) throws -> TimestepEmbedding {
      try TimestepEmbedding(
        embedder[name], sinusoid: Sinusoid(channels: 256, flipped: true, shift: 0), outputs: channels)
    }
    time = try sinusoids("timestep_embedder")
    guidance = config.embedsGuidance ? try sinusoids("guidance_embedder") : nil
    pooledText = try EmbeddingPerceptron(
      embedder["text_embedder"], inputs: config.pooledChannels, outputs: channels)
    tokens = try Linear(weights["x_embedder"], inputs: config.inChannels, outputs: channels)
    context = try Linear(weights["context_embedder"], inputs: config.textChannels, outputs: channels)
    let kind = JointTransformerBlock.Kind(
      heads: config.headCount, headSize: config.headSize, normalizesHeads: true)
    blocks = try (0..<config.layerCount).map {
      try JointTransformerBlock(weights["transformer_blocks"][$0], kind)
    }
    singleBlocks = try (0..<config.singleLayerCount).map {
      try FluxSingleTransformerBlock(weights["single_transformer_blocks"][$0], config)
    }
    outputModulation = try ModulationProjection(weights["norm_out"], channels: channels, count: 2)
    projection = try Linear(weights["proj_out"], inputs: channels, outputs: config.outChannels)
    try weights.finish()
  }

  /// latent [N, H, W, inChannels / 4], one timestep an image (0...1000), text [N, T, textChannels], pooled
  /// [N, pooledChannels], the scale of guidance where the model was distilled for it -> the velocity
  /// [N, H, W, outChannels / 4].
  ///
  /// All are in the dtype of the weights. Throws `ModelError.invalidInput` where counts differ, or the latent's
  /// extents are not even.
  public func callAsFunction(
    _ latent: Tensor, timesteps: [Float], text: Tensor, pooled: Tensor, guidance: Float? = nil
  ) throws -> Tensor {
    let shape = latent.shape
    try require(
      shape.rank == 4 && 4 * shape[3] == config.inChannels,
      "the latent is \(shape), the network takes [N, H, W, \(config.inChannels / 4)]")
    let (rows, columns) = (shape[1] / 2, shape[2] / 2)
    try require(
      rows > 0 && columns > 0 && shape[1] % 2 == 0 && shape[2] % 2 == 0,
      "a latent of \(shape[1])x\(shape[2]): its extents must be multiples of 2")
    // A token has its channels first, then its pixels' rows and columns.
    let packed = try latent.reshaped([shape[0], rows, 2, columns, 2, shape[3]])
      .transposed([0, 1, 3, 5, 2, 4]).reshaped([shape[0], rows * columns, config.inChannels])
    let output = try self(
      packed, rows: rows, columns: columns, timesteps: timesteps, text: text, pooled: pooled,
      guidance: guidance)
    return try output.reshaped([shape[0], rows, columns, -1, 2, 2]).transposed([0, 1, 4, 2, 5, 3])
      .reshaped([shape[0], shape[1], shape[2], config.outChannels / 4])
  }

  /// The same of packed latents [N, rows * columns, inChannels] -> [N, rows * columns, outChannels].
  public func callAsFunction(
    _ packed: Tensor, rows: Int, columns: Int, timesteps: [Float], text: Tensor, pooled: Tensor,
    guidance scale: Float? = nil
  ) throws -> Tensor {
    try check(packed, rows * columns, timesteps, text, pooled, scale)
    let length = text.shape[1]
    return try layer(path) {
      var conditions = try pooledText(pooled)
      if let guidance, let scale {
        let scales = [Float](repeating: 1000 * scale, count: timesteps.count)
        conditions = try guidance(scales, residual: conditions, activation: .identity)
      }
      let embedding = try time(timesteps, residual: conditions, activation: .silu)
      func angles(unturned: Int) throws -> RotaryAngles {
        try RotaryAngles(
          extents: [1, rows, columns], channels: config.axisChannels, unturned: unturned, on: packed.device)
      }
      let places = try angles(unturned: 0)
      var (h, states) = (try tokens(packed), try context(text))
      for block in blocks {
        let next = try block(h, text: states, time: embedding, angles: places)
        (h, states) = (next.picture, try bounded(next.text ?? states))
      }
      let allPlaces = try angles(unturned: length)
      var all = try Tensor.concatenated([states, h], axis: 1)
      for block in singleBlocks { all = try bounded(block(all, time: embedding, angles: allPlaces)) }
      h = try all.sliced(length..<length + rows * columns, axis: 1)
      return try projection(
        outputModulation(embedding).normalized(h, shift: 1, scale: 0, epsilon: 1e-6))
    }
  }

  /// In float16 the reference keeps what would become infinite at float16's greatest number.
  private func bounded(_ x: Tensor) throws -> Tensor {
    x.dtype == .float16 ? try x.clamped(-65504, 65504) : x
  }

  private func check(
    _ packed: Tensor, _ count: Int, _ timesteps: [Float], _ text: Tensor, _ pooled: Tensor, _ scale: Float?
  ) throws {
    let images = packed.shape[0]
    try require(
      packed.shape == [images, count, config.inChannels],
      "the tokens are \(packed.shape), the network takes [N, \(count), \(config.inChannels)]")
    try require(timesteps.count == images, "\(timesteps.count) timesteps for \(images) images")
    try require(
      text.shape.rank == 3 && text.shape[0] == images && text.shape[2] == config.textChannels,
      "the text is \(text.shape), the network takes [\(images), T, \(config.textChannels)]")
    try require(
      pooled.shape == [images, config.pooledChannels],
      "the pooled text is \(pooled.shape), the network takes [\(images), \(config.pooledChannels)]")
    try require(
      (scale != nil) == config.embedsGuidance,
      config.embedsGuidance ? "it needs a scale of guidance" : "it takes no scale of guidance")
  }

  private func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
    if !condition { throw ModelError.invalidInput(model: "FluxTransformer2DModel", reason: reason()) }
  }
}
