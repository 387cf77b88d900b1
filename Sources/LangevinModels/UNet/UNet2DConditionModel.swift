import LangevinNN
import LangevinTensor

/// The denoising network of Stable Diffusion 1.x and 2.x. arXiv:2112.10752.
public struct UNet2DConditionModel: Sendable {
  /// What the network was built from.
  public let config: UNet2DConditionConfig
  let convIn: Convolution
  let timeEmbedding: TimestepEmbedding
  let downBlocks: [UNetDownBlock]
  let midBlock: UNetMidBlock
  let upBlocks: [UNetUpBlock]
  let normOut: GroupNormalization
  let convOut: Convolution
  let path: String

  /// Loads the whole network under diffusers' names. Throws `WeightError`.
  public init(_ config: UNet2DConditionConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let channels = config.blockOutChannels
    let last = channels.count - 1
    func attention(_ level: Int, onlyCross: Bool) -> Transformer2D.Shape {
      Transformer2D.Shape(
        channels: channels[level], contextChannels: config.crossAttentionChannels[level],
        heads: config.headCounts[level], depth: config.transformerLayers[level], groups: config.normGroups,
        onlyCrossAttention: onlyCross)
    }
    func block(_ level: Int, extra: Int = 0, attends: Bool) -> UNetBlockShape {
      UNetBlockShape(
        layers: config.layersPerBlock[level] + extra, timeChannels: config.timeChannels,
        groups: config.normGroups,
        epsilon: config.normEpsilon,
        attention: attends ? attention(level, onlyCross: config.onlyCrossAttention[level]) : nil)
    }

    convIn = try Convolution(
      weights["conv_in"], inputs: config.inChannels, outputs: channels[0], kernel: config.convInKernel)
    timeEmbedding = try TimestepEmbedding(
      weights["time_embedding"],
      sinusoid: Sinusoid(channels: channels[0], flipped: config.flipSinToCos, shift: config.frequencyShift),
      outputs: config.timeChannels)

    // The channels of every skip tensor, in the order in which the way down makes them.
    var skips = [channels[0]]
    downBlocks = try channels.indices.map { level in
      let shape = block(level, attends: config.downAttention[level])
      skips += Array(repeating: channels[level], count: shape.layers + (level < last ? 1 : 0))
      return try UNetDownBlock(
        weights["down_blocks"][level], shape, inputs: channels[max(level - 1, 0)], outputs: channels[level],
        downsamplePadding: level < last ? config.downsamplePadding : nil)
    }
    midBlock = try UNetMidBlock(
      weights["mid_block"], block(last, attends: false), attention: attention(last, onlyCross: false))
    upBlocks = try channels.indices.map { i in
      let level = last - i
      let shape = block(level, extra: 1, attends: config.upAttention[i])
      let own = Array(skips.suffix(shape.layers).reversed())
      skips.removeLast(shape.layers)
      return try UNetUpBlock(
        weights["up_blocks"][i], shape, inputs: channels[min(level + 1, last)], skips: own,
        outputs: channels[level], upsamples: level > 0)
    }
    normOut = try GroupNormalization(
      weights["conv_norm_out"], channels: channels[0], groups: config.normGroups, epsilon: config.normEpsilon)
    convOut = try Convolution(
      weights["conv_out"], inputs: channels[0], outputs: config.outChannels, kernel: config.convOutKernel)
    try weights.finish()
  }

  /// latent [N, h, w, inChannels], one timestep an image, context [N, T, crossAttentionChannels] ->
  /// the network's output (noise, velocity or sample, as it was trained) [N, h, w, outChannels].
  ///
  /// Latent and context are in the dtype of the weights. Throws `ModelError.invalidInput` where counts differ or
  /// the latent's size is not a multiple of `config.sizeMultiple`.
  public func callAsFunction(_ latent: Tensor, timesteps: [Float], context: Tensor) throws -> Tensor {
    try check(latent, timesteps, context)
    return try layer(path) {
      let time = try timeEmbedding(timesteps)
      var h = try convIn(latent)
      var skips = [h]
      for block in downBlocks { h = try block(h, time: time, context: context, skips: &skips) }
      h = try midBlock(h, time: time, context: context)
      for block in upBlocks { h = try block(h, time: time, context: context, skips: &skips) }
      h = try normOut(h, activation: .silu)
      return try convOut(h)
    }
  }

  private func check(_ latent: Tensor, _ timesteps: [Float], _ context: Tensor) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: "UNet2DConditionModel", reason: reason()) }
    }
    let shape = latent.shape
    try require(
      shape.rank == 4 && shape[3] == config.inChannels,
      "the latent is \(shape), the network takes [N, h, w, \(config.inChannels)]")
    let multiple = config.sizeMultiple
    try require(
      shape[1] > 0 && shape[2] > 0 && shape[1] % multiple == 0 && shape[2] % multiple == 0,
      "a latent of \(shape[1])x\(shape[2]): height and width must be multiples of \(multiple)")
    try require(timesteps.count == shape[0], "\(timesteps.count) timesteps for \(shape[0]) images")
    try require(
      context.shape.rank == 3 && context.shape[0] == shape[0]
        && config.crossAttentionChannels.allSatisfy { $0 == context.shape[2] },
      "the context is \(context.shape), the network takes [\(shape[0]), T, \(config.crossAttentionChannels[0])]"
    )
  }
}
