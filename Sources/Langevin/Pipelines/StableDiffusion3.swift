import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// Stable Diffusion 3 and 3.5 (arXiv:2403.03206), as diffusers' `StableDiffusion3Pipeline` runs them: a transformer along
/// a flow, conditioned by two CLIP text encoders and T5, the largest of all networks, which a folder may lack.
public struct StableDiffusion3: AutoencodedPipeline {
  /// Text to image, image to image and a part drawn anew are one pipeline.
  public static let classes = [
    "StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline",
  ]
  /// Without the third text encoder and its tokenizer.
  public static let components = [
    ComponentNeed("transformer", "SD3Transformer2DModel"), ComponentNeed("vae", "AutoencoderKL"),
    ComponentNeed("text_encoder", "CLIPTextModelWithProjection"),
    ComponentNeed("text_encoder_2", "CLIPTextModelWithProjection"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
    ComponentNeed("tokenizer_2", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  /// One picture to start from, at most.
  public static let options: Set<RequestOption> = [
    .batch, .prompt, .negativePrompt, .guidance, .guidanceRescale, .guidanceInterval, .preview, .steps,
    .sampler, .levels, .width, .height, .image, .mask, .canvas, .strength, .initialLatents, .tiling,
  ]
  /// Tokens of a prompt for T5, padding included.
  static let textLength = 256

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoders and transformer; the autoencoder keeps float32 where its
  /// config forces it. Latents and sampler arithmetic are float32 always.
  public let precision: DType
  let texts: [ClipTextStage]
  let longText: T5TextStage?
  let transformer: Checkpoint.Component
  let config: SD3Transformer2DConfig
  /// Between pixels and latents.
  public let autoencoder: AutoencoderStage
  let scheduler: SchedulerFile

  /// Reads configurations and tokenizers; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    texts = [
      try ClipTextStage(checkpoint, precision: precision),
      try ClipTextStage(checkpoint, "text_encoder_2", tokenizer: "tokenizer_2", precision: precision),
    ]
    let hasT5 = checkpoint.contains("text_encoder_3") || checkpoint.contains("tokenizer_3")
    longText =
      hasT5
      ? try T5TextStage(checkpoint, "text_encoder_3", tokenizer: "tokenizer_3", precision: precision) : nil
    transformer = try checkpoint.component("transformer")
    config = try SD3Transformer2DConfig(transformer.configuration)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    scheduler = try SchedulerFile(json: checkpoint.scheduler)
    try scheduler.requireFlow()
    try check()
  }

  /// Components that do not fit each other.
  private func check() throws {
    let channels = autoencoder.config.latentChannels
    try transformer.require(
      ("in_channels", config.inChannels, channels), ("out_channels", config.outChannels, channels),
      ("pooled_projection_dim", config.pooledChannels, texts.reduce(0) { $0 + $1.config.projectionSize }),
      ("joint_attention_dim", config.textChannels, longText?.config.hiddenSize ?? config.textChannels))
    let width = texts.reduce(0) { $0 + $1.config.hiddenSize }
    guard width <= config.textChannels else {
      throw ModelError.unsupported(
        model: transformer.className, key: "joint_attention_dim", value: "\(config.textChannels)",
        supported: ["\(width) and more"])
    }
  }

  /// 28 steps of the scheduler's own sampler, guidance 7; of a picture 0.6 of the schedule.
  public func resolve(_ request: GenerationRequest) throws -> LatentRequest {
    let scale = autoencoder.scale
    var defaults = LatentDefaults(
      guidance: 7, steps: 28, sampler: scheduler.sampler ?? .euler, strength: 0.6)
    defaults.roundsStrengthUp = true
    let token = scale * config.patch
    let sizes = LatentSizes(side: config.sampleSize * scale, multiple: token, token: token)
    var resolved = try LatentRequest(request, or: defaults, scheduler, sizes, autoencoder)
    let limit = config.maximumPositions * config.patch * scale
    guard max(resolved.width, resolved.height) <= limit else {
      throw GenerationError.badRequest(
        "width and height must be at most \(limit) for this model, got \(resolved.width)x\(resolved.height)")
    }
    if longText == nil {
      resolved.warnings.append(
        "the folder has no text_encoder_3: prompts are read by the two CLIP encoders, and not by T5")
    }
    return resolved
  }

  /// Runs one text encoder after the other and, on a picture, the autoencoder's encoder.
  public func condition(_ request: LatentRequest, _ run: GenerationRun) throws -> JointPrompts {
    let prompts = run.request.prompts(request.guidance)
    let encoded = try texts.map { try $0.encode(prompts, .penultimate, run) }
    let long = try longText?.encode(prompts, length: Self.textLength, run)
    let inputs = try prompts.indices.map { index in
      let (first, second) = (encoded[0][index].all, encoded[1][index].all)
      // The negative, where there is one, comes first.
      let parts = try first.indices.map { try joined(first[$0], second[$0], long?[index].all[$0]) }
      return Conditioned(parts[parts.count - 1], negative: parts.count > 1 ? parts[0] : nil)
    }
    return JointPrompts(inputs: inputs, start: try autoencoder.encode(request, for: .latent, run))
  }

  /// The states of CLIP's encoders beside each other, with zeros up to the width of T5's, before those of T5; without it
  /// zeros stand in their place.
  private func joined(
    _ first: ClipTextStage.Encoded, _ second: ClipTextStage.Encoded, _ long: Tensor?
  ) throws -> JointConditioning {
    guard let a = first.pooled, let b = second.pooled else {
      throw ModelError.notLoaded(model: texts[0].component.className, part: "text_projection")
    }
    let states = try ClipTextStage.joined(first, second)
    let width = config.textChannels - states.shape[2]
    let wide = try states.padded(before: [0, 0, 0], after: [0, 0, width])
    let rest =
      try long
      ?? .fill(
        0, [1, Self.textLength, config.textChannels], dtype: states.dtype, on: states.device)
    return JointConditioning(
      text: try Tensor.concatenated([wide, rest], axis: 1), pooled: try Tensor.concatenated([a, b], axis: 1))
  }

  /// Loads the transformer.
  public func denoiser(_ request: LatentRequest, _ conditioning: JointPrompts, _ run: GenerationRun) throws
    -> TrajectoryMaker
  {
    let weights = Weights(transformer.weights, on: device, as: precision, component: "transformer")
    let model = try run.load("transformer") { try SD3Transformer2DModel(config, weights) }
    return request.trajectories(
      conditioning, request.guidance, scheduler.noise.prediction, autoencoder, run
    ) { [precision] input in
      { x, timestep in
        try model(
          x.cast(to: precision), timesteps: [Float](repeating: timestep, count: x.shape[0]), text: input.text,
          pooled: input.pooled)
      }
    }
  }
}
