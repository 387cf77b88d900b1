import LangevinNN
import LangevinTensor

/// The denoising network of Stable Diffusion 1.x, 2.x and XL (arXiv:2112.10752, arXiv:2307.01952), and of
/// unCLIP's decoders (arXiv:2204.06125): a UNet that looks at a context, and may take class labels, pooled
/// text and sizes.
public struct UNet2DConditionModel: Sendable {
  /// What the network was built from.
  public let config: UNet2DConditionConfig
  let embeddings: UNetEmbeddings
  let contextProjection: Linear?
  let backbone: UNetBackbone
  let dtype: DType
  let device: Device
  let path: String

  /// Loads the whole network under diffusers' names. Throws `WeightError`.
  public init(_ config: UNet2DConditionConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    (dtype, device) = (weights.dtype, weights.device)
    embeddings = try UNetEmbeddings(weights, config.embeddings, model: Self.name)
    contextProjection = try config.contextInputChannels.map {
      try Linear(weights["encoder_hid_proj"], inputs: $0, outputs: config.crossAttentionChannels[0])
    }
    backbone = try UNetBackbone(weights, config.backbone)
    try weights.finish()
  }

  /// latent [N, h, w, inChannels], one timestep an image, context [N, T, crossAttentionChannels] ->
  /// the network's output (noise, velocity or sample, as it was trained) [N, h, w, outChannels].
  ///
  /// Latent and context are in the dtype of the weights. Throws `ModelError.invalidInput` where counts differ
  /// or the latent's size is not a multiple of `config.sizeMultiple`.
  public func callAsFunction(_ latent: Tensor, timesteps: [Float], context: Tensor) throws -> Tensor {
    try self(latent, timesteps: timesteps, conditioning: UNetConditioning(context: context))
  }

  /// As above, with whatever else the network is conditioned on. Throws `ModelError.invalidInput` also where
  /// a part of the conditioning is missing, or is there and the network has no use for it, or where what is
  /// added does not fit.
  public func callAsFunction(
    _ latent: Tensor, timesteps: [Float], conditioning: UNetConditioning,
    additions: UNetAdditions = UNetAdditions()
  ) throws -> Tensor {
    try config.check(
      latent.shape, timesteps: timesteps.count, context: conditioning.context.shape, model: Self.name)
    try config.check(additions, latent: latent.shape, model: Self.name)
    return try layer(path) {
      let time = try embeddings(
        timesteps, classLabels: conditioning.classLabels, textTime: conditioning.textTime,
        condition: conditioning.timestepCondition)
      let tokens = try contextProjection?(conditioning.context) ?? conditioning.context
      var context = UNetContext(
        tokens: tokens, bias: try bias(conditioning), imagePrompts: additions.imagePrompts,
        outputs: additions.crossAttention)
      if let level = config.downBlocks.firstIndex(of: .crossAttention) {
        context.merging = (additions.mergedTokens, latent.shape[1] >> level, latent.shape[2] >> level)
      }
      return try backbone(latent, time: time, context: context, additions: additions)
    }
  }

  static let name = "UNet2DConditionModel"

  /// What the reference adds to the scores of hidden tokens.
  private static let hidden: Float = -10_000

  private func bias(_ conditioning: UNetConditioning) throws -> Tensor? {
    guard let mask = conditioning.contextMask else { return nil }
    let (images, tokens) = (conditioning.context.shape[0], conditioning.context.shape[1])
    try require(config.takesContextMask, "it takes no context mask")
    try require(
      mask.count == images && mask.allSatisfy { $0.count == tokens },
      "the context mask does not have \(tokens) flags for each of \(images) images")
    let values = mask.flatMap { $0.map { $0 ? 0 : Self.hidden } }
    return try Tensor(values, [images, 1, tokens], on: device).cast(to: dtype)
  }

  private func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
    if !condition { throw ModelError.invalidInput(model: Self.name, reason: reason()) }
  }
}
