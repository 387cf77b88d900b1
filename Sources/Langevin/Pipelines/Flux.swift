import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// FLUX.1 dev and schnell, as diffusers' `FluxPipeline` runs them: a transformer along a flow, conditioned by T5's states
/// and CLIP's pooled vector.
///
/// Both are distilled. dev is told a scale of guidance, which costs no second call; schnell takes none. Neither has a
/// negative prompt.
public struct Flux: AutoencodedPipeline {
  /// Text to image, image to image and a part drawn anew are one pipeline.
  public static let classes = ["FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"]
  /// The first text encoder is CLIP's, the second T5.
  public static let components = [
    ComponentNeed("transformer", "FluxTransformer2DModel"), ComponentNeed("vae", "AutoencoderKL"),
    ComponentNeed("text_encoder", "CLIPTextModel"), ComponentNeed("text_encoder_2", "T5EncoderModel"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
    ComponentNeed("tokenizer_2", "T5TokenizerFast", "T5Tokenizer"), ComponentNeed("scheduler"),
  ]
  /// One picture to start from, at most.
  public static let options: Set<RequestOption> = [
    .batch, .prompt, .guidance, .preview, .steps, .sampler, .levels, .width, .height, .image, .mask, .canvas,
    .strength, .initialLatents, .tiling,
  ]
  /// Latent pixels of a side that both models were made for.
  private static let sampleSize = 128

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoders and transformer; the autoencoder keeps float32 where its
  /// config forces it. Latents and sampler arithmetic are float32 always.
  public let precision: DType
  let text: ClipTextStage
  let longText: T5TextStage
  let transformer: Checkpoint.Component
  let config: FluxTransformer2DConfig
  /// Between pixels and latents.
  public let autoencoder: AutoencoderStage
  let scheduler: SchedulerFile

  /// Reads configurations and tokenizers; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    text = try ClipTextStage(checkpoint, precision: precision)
    longText = try T5TextStage(checkpoint, "text_encoder_2", tokenizer: "tokenizer_2", precision: precision)
    transformer = try checkpoint.component("transformer")
    config = try FluxTransformer2DConfig(transformer.configuration)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    var scheduler = try SchedulerFile(json: checkpoint.scheduler)
    try scheduler.requireFlow()
    scheduler.noise.flowEnd = .lastStep
    self.scheduler = scheduler
    let channels = 4 * autoencoder.config.latentChannels
    try transformer.require(
      ("in_channels", config.inChannels, channels), ("out_channels", config.outChannels, channels),
      ("pooled_projection_dim", config.pooledChannels, text.config.hiddenSize),
      ("joint_attention_dim", config.textChannels, longText.config.hiddenSize))
  }

  /// dev: 28 steps of the scheduler's own sampler, guidance 3.5; schnell: 4 steps. Of a picture 0.6 of the schedule.
  public func resolve(_ asked: GenerationRequest) throws -> LatentRequest {
    let scale = autoencoder.scale
    let sizes = LatentSizes(side: Self.sampleSize * scale, multiple: 2 * scale, token: 2 * scale)
    var defaults = LatentDefaults(
      guidance: config.embedsGuidance ? 3.5 : 1, steps: config.embedsGuidance ? 28 : 4,
      sampler: scheduler.sampler ?? .euler, strength: 0.6)
    defaults.roundsStrengthUp = true
    var request = asked
    let isIdle = !config.embedsGuidance && asked.guidance.map { $0 > 1 } == true
    if isIdle { request.guidance = 1 }
    var resolved = try LatentRequest(request, or: defaults, scheduler, sizes, autoencoder)
    if isIdle {
      resolved.warnings.append("guidance has no effect: this model was distilled to do without it")
    }
    return resolved
  }

  /// Runs one text encoder after the other and, on a picture, the autoencoder's encoder.
  public func condition(_ request: LatentRequest, _ run: GenerationRun) throws -> JointPrompts {
    let prompts = run.request.prompts.map { Conditioned($0, negative: nil) }
    let pooled = try text.encode(prompts, .last, pooling: true, run)
    // As many tokens as each model was trained on.
    let states = try longText.encode(prompts, length: config.embedsGuidance ? 512 : 256, run)
    let inputs = try zip(states, pooled).map { states, pooled in
      guard let vector = pooled.prompt.pooled else {
        throw ModelError.notLoaded(model: text.component.className, part: "pooled vector")
      }
      return Conditioned.plain(JointConditioning(text: states.prompt, pooled: vector))
    }
    return JointPrompts(inputs: inputs, start: try autoencoder.encode(request, for: .latent, run))
  }

  /// Loads the transformer.
  public func denoiser(_ request: LatentRequest, _ conditioning: JointPrompts, _ run: GenerationRun) throws
    -> TrajectoryMaker
  {
    let weights = Weights(transformer.weights, on: device, as: precision, component: "transformer")
    let model = try run.load("transformer") { try FluxTransformer2DModel(config, weights) }
    // The network itself imitates guidance.
    let scale = config.embedsGuidance ? Float(request.guidance.scale) : nil
    return request.trajectories(
      conditioning, Guidance(scale: 1), scheduler.noise.prediction, autoencoder, run
    ) { [precision] input in
      { x, timestep in
        try model(
          x.cast(to: precision), timesteps: [Float](repeating: timestep, count: x.shape[0]), text: input.text,
          pooled: input.pooled, guidance: scale)
      }
    }
  }
}
