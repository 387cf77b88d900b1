import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor

/// Stable Diffusion XL (arXiv:2307.01952): two text encoders, pooled text and sizes beside the context.
public struct StableDiffusionXL: Pipeline {
  /// Text to image and image to image are one pipeline.
  public static let classes = ["StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"]
  /// The refiner, which has no first text encoder, is not among them.
  public static let components = [
    ComponentNeed("unet", "UNet2DConditionModel"), ComponentNeed("vae", "AutoencoderKL"),
    ComponentNeed("text_encoder", "CLIPTextModel"),
    ComponentNeed("text_encoder_2", "CLIPTextModelWithProjection"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
    ComponentNeed("tokenizer_2", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  /// The options that Stable Diffusion takes.
  public static let options = StableDiffusion.options

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoders and UNet; the autoencoder keeps float32 where its config
  /// forces it.
  public let precision: DType
  let texts: [ClipTextStage]
  let unet: Checkpoint.Component
  let unetConfig: UNet2DConditionConfig
  let autoencoder: AutoencoderStage
  let schedule: SchedulerFile
  /// Whether without a negative prompt the context that is steered away from is zero, rather than that of no words.
  let zeroesEmptyNegative: Bool

  /// Reads configurations and tokenizers; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    self.checkpoint = checkpoint
    self.device = device
    self.precision = precision
    texts = [
      try ClipTextStage(checkpoint),
      try ClipTextStage(checkpoint, "text_encoder_2", tokenizer: "tokenizer_2"),
    ]
    unet = try checkpoint.unet
    unetConfig = try UNet2DConditionConfig(unet.configuration)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    schedule = try SchedulerFile(json: checkpoint.scheduler)
    zeroesEmptyNegative = checkpoint.index["force_zeros_for_empty_prompt"] != .bool(false)
    guard checkpoint.index["requires_aesthetics_score"] != .bool(true) else {
      throw CheckpointError.unsupported(
        path: checkpoint.url.path, found: "requires_aesthetics_score = true", supported: ["false"])
    }
  }

  /// 30 steps of the scheduler's own sampler, guidance 5, the size that the UNet was made for; of a picture 0.3 of
  /// the schedule.
  public func fill(_ request: inout GenerationRequest) throws {
    request.guidance = request.guidance ?? 5
    request.steps = request.steps ?? 30
    request.sampler = request.sampler ?? schedule.sampler ?? .euler
    if !request.images.isEmpty { request.strength = request.strength ?? 0.3 }
    let size = unetConfig.sampleSize * autoencoder.scale
    try request.fillSize((size, size), multiple: autoencoder.scale * unetConfig.sizeMultiple)
  }

  /// The schedule and the latent's shape.
  public func plan(_ request: GenerationRequest) throws -> LatentPlan {
    try LatentPlan(request, schedule, scale: autoencoder.scale, channels: autoencoder.config.latentChannels)
  }

  /// A line for each setting that has no effect in this request, and for sizes that do not fit.
  public func warnings(_ plan: LatentPlan) -> [String] {
    plan.warnings(madeFor: unetConfig.sampleSize * autoencoder.scale)
  }

  /// Context and pooled text of each prompt, as (negative, prompt) where guided; and the picture to start from.
  public struct Conditioning {
    let contexts: [Tensor]
    let pooled: [Tensor]
    let posterior: DiagonalGaussian?
  }

  /// Runs one text encoder after the other and, on a picture, the autoencoder's encoder.
  public func condition(_ plan: LatentPlan, _ run: GenerationRun) throws -> Conditioning {
    let request = plan.request
    let rows = request.prompts.map { plan.isGuided ? [request.negativePrompt, $0] : [$0] }
    let encoded = try texts.map { try $0.encode(rows, .penultimate, as: precision, run) }
    let zeroes = plan.isGuided && request.negativePrompt.isEmpty && zeroesEmptyNegative
    func negativeZeroed(_ x: Tensor) throws -> Tensor {
      guard zeroes else { return x }
      let zero = try Tensor.fill(0, x.shape.replacing(axis: 0, with: 1), dtype: x.dtype, on: x.device)
      return try Tensor.concatenated([zero, x.rows(1..<2)], axis: 0)
    }
    var contexts: [Tensor] = []
    var pooled: [Tensor] = []
    for (first, second) in zip(encoded[0], encoded[1]) {
      guard let embeds = second.pooled else { preconditionFailure("the second encoder has a projection") }
      contexts.append(
        try negativeZeroed(Tensor.concatenated(try matched(first.states, second.states), axis: -1)))
      pooled.append(try negativeZeroed(embeds))
    }
    return Conditioning(
      contexts: contexts, pooled: pooled, posterior: try autoencoder.encode(plan, run))
  }

  /// Both encoders' states must have as many tokens: their tokenizers differ in padding alone.
  private func matched(_ a: Tensor, _ b: Tensor) throws -> [Tensor] {
    guard a.shape[1] == b.shape[1] else {
      throw GenerationError.badRequest(
        "the prompt is \(a.shape[1]) tokens for the first text encoder and \(b.shape[1]) for the second")
    }
    return [a, b]
  }

  /// Loads the UNet, guided where the plan is.
  public func denoiser(_ plan: LatentPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  {
    let weights = Weights(unet.weights, on: device, as: precision, component: "unet")
    let model = try run.load("unet") { try UNet2DConditionModel(unetConfig, weights) }
    let dtype = precision
    guard let width = plan.request.width, let height = plan.request.height else {
      preconditionFailure("the request was not filled")
    }
    // Original height and width, the crop's top and left, target height and width.
    let sizes = [height, width, 0, 0, height, width].map { Float($0) }
    return { image in
      let prompt = plan.request.prompt(of: image)
      return plan.trajectory(image, schedule, conditioning.posterior, autoencoder) { x, timestep in
        let count = x.shape[0]
        // Without guidance in this step it is the prompt's row alone, the last.
        func own(_ rows: Tensor) throws -> Tensor { try rows.rows(rows.shape[0] - count..<rows.shape[0]) }
        let parts = UNetConditioning(
          context: try own(conditioning.contexts[prompt]),
          textTime: UNetTextTime(
            textEmbeds: try own(conditioning.pooled[prompt]), timeIDs: Array(repeating: sizes, count: count)))
        return try model(
          x.cast(to: dtype), timesteps: Array(repeating: timestep, count: count), conditioning: parts)
      }
    }
  }

  /// Loads the autoencoder's decoder.
  public func decoder(_ plan: LatentPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
  {
    try autoencoder.decoder(run)
  }

  /// Loads TAESD where the folder has it, else the autoencoder's decoder.
  public func previewer(_ plan: LatentPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ guess: Tensor, _ image: Int) throws -> Tensor
  {
    try autoencoder.previewer(run)
  }
}
