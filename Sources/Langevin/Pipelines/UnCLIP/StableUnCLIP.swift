import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A stable unCLIP request with everything derived from it.
public struct StableUnCLIPPlan {
  /// Of the latents; its request has no pictures, for the latents start from noise.
  public let latent: LatentPlan
  /// The prior's levels; nil where embeddings come from pictures.
  public let prior: Schedule?
  /// A timestep of the embeddings' own schedule, from 0.
  public let noiseLevel: Int
  /// Of the embedding at that level.
  public let embeddingLevel: NoiseLevel
}

/// Stable Diffusion 2.1 that is conditioned on noised image embeddings beside the text: what its two pipelines share.
struct StableUnCLIPStage: Sendable {
  let text: ClipTextStage
  let unet: Checkpoint.Component
  let unetConfig: UNet2DConditionConfig
  let autoencoder: AutoencoderStage
  let schedule: SchedulerFile
  let normalizer: Checkpoint.Component
  let noisingSchedule: NoiseSchedule

  static let components = [
    ComponentNeed("image_normalizer", "StableUnCLIPImageNormalizer"),
    ComponentNeed("image_noising_scheduler"), ComponentNeed("unet", "UNet2DConditionModel"),
    ComponentNeed("vae", "AutoencoderKL"), ComponentNeed("text_encoder", "CLIPTextModel"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  static let options: Set<RequestOption> = [
    .prompt, .negativePrompt, .guidance, .steps, .sampler, .eta, .width, .height, .initialLatents,
    .noiseLevel,
  ]

  init(_ checkpoint: Checkpoint, precision: DType) throws {
    text = try ClipTextStage(checkpoint)
    unet = try checkpoint.unet
    unetConfig = try UNet2DConditionConfig(unet.configuration)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    schedule = try SchedulerFile(json: checkpoint.scheduler)
    normalizer = try checkpoint.component("image_normalizer")
    noisingSchedule = try NoiseSchedule(json: checkpoint.scheduler(named: "image_noising_scheduler"))
  }

  /// The reference's settings; the size is the model's, whatever pictures there are.
  func fill(_ request: inout GenerationRequest) throws {
    request.guidance = request.guidance ?? 10
    request.steps = request.steps ?? 20
    request.sampler = request.sampler ?? .ddim
    request.noiseLevel = request.noiseLevel ?? 0
    let size = unetConfig.sampleSize * autoencoder.scale
    (request.width, request.height) = (request.width ?? size, request.height ?? size)
    try request.fillSize((size, size), multiple: autoencoder.scale * unetConfig.sizeMultiple)
  }

  /// Of a filled request. Throws `GenerationError.badRequest` for a noise level that the schedule does not have.
  func plan(_ request: GenerationRequest, prior: Schedule?) throws -> StableUnCLIPPlan {
    let alphas = try noisingSchedule.alphasCumprod()
    let level = request.noiseLevel ?? 0
    guard alphas.indices.contains(level) else {
      throw GenerationError.badRequest(
        "noise level must be 0 to \(alphas.count - 1) for this model, got \(level)")
    }
    var latent = request
    latent.images = []
    return StableUnCLIPPlan(
      latent: try LatentPlan(
        latent, schedule, scale: autoencoder.scale, channels: autoencoder.config.latentChannels),
      prior: prior, noiseLevel: level,
      embeddingLevel: NoiseLevel(timestep: Float(level), alphaCumprod: alphas[level]))
  }

  /// What the UNet takes for class labels, float32 [1, 2 D] for each image's embedding [1, D]: the embedding with
  /// noise around CLIP's mean, and a sinusoid of how much noise it is.
  func labels(_ embeddings: [Tensor], _ plan: StableUnCLIPPlan, _ run: GenerationRun) throws -> [Tensor] {
    let weights = Weights(normalizer.weights, on: run.device, as: .float32, component: "image_normalizer")
    let config = try normalizer.configuration
    let model = try run.load("image normalizer") { try StableUnCLIPImageNormalizer(config, weights) }
    let level = plan.embeddingLevel
    return try embeddings.enumerated().map { image, embedding in
      let noise = try run.noise(embedding.shape, image: image, stream: 1)
      return try stage("noise the embedding") {
        let noisy = try Tensor.combination([
          (Float(level.alpha), model.scale(embedding)), (Float(level.sigma), noise),
        ])
        return try model.classLabels(model.unscale(noisy), noiseLevel: plan.noiseLevel)
      }
    }
  }

  /// The context of each prompt, (negative, prompt) where guided.
  func contexts(_ plan: StableUnCLIPPlan, as dtype: DType, _ run: GenerationRun) throws -> [Tensor] {
    let request = plan.latent.request
    let prompts = request.prompts.isEmpty ? [""] : request.prompts
    let rows = prompts.map { plan.latent.isGuided ? [request.negativePrompt, $0] : [$0] }
    return try text.encode(rows, .last, as: dtype, run).map(\.states)
  }

  /// Loads the UNet; the closure gives the trajectory of image k. The negative half has an embedding of zeros.
  func denoiser(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, as dtype: DType, _ run: GenerationRun
  ) throws -> (_ image: Int) throws -> Trajectory {
    let weights = Weights(unet.weights, on: run.device, as: dtype, component: "unet")
    let model = try run.load("unet") { try UNet2DConditionModel(unetConfig, weights) }
    return { image in
      let context = conditioning.contexts[plan.latent.request.prompt(of: image)]
      var labels = conditioning.labels[image]
      if plan.latent.isGuided {
        labels = try Tensor.concatenated([Tensor.fill(0, labels.shape, on: run.device), labels], axis: 0)
      }
      let vectors = try labels.cast(to: dtype)
      var trajectory = plan.latent.trajectory(image, schedule, nil, autoencoder) { x, timestep in
        // Without guidance in this step it is the prompt's row alone, the last.
        let rows = context.shape[0] - x.shape[0]..<context.shape[0]
        let input = UNetConditioning(
          context: try context.rows(rows), classLabels: .vectors(try vectors.rows(rows)))
        let timesteps = [Float](repeating: timestep, count: x.shape[0])
        return try model(x.cast(to: dtype), timesteps: timesteps, conditioning: input)
      }
      trajectory.stream = 2
      return trajectory
    }
  }
}

/// What the prompts and embeddings of a stable unCLIP request became.
public struct StableUnCLIPConditioning {
  /// What the UNet attends to, for each prompt.
  let contexts: [Tensor]
  /// The class label of each image: its noised embedding and the noise level.
  let labels: [Tensor]
}

/// Stable unCLIP from a text: a prior makes an image embedding of the prompt, which joins the text in Stable Diffusion
/// 2.1. diffusers' `StableUnCLIPPipeline`.
public struct StableUnCLIP: Pipeline {
  /// The class of model_index.json.
  public static let classes = ["StableUnCLIPPipeline"]
  /// The prior with a text encoder of its own, and Stable Diffusion's.
  public static let components =
    [
      ComponentNeed("prior_tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
      ComponentNeed("prior_text_encoder", "CLIPTextModelWithProjection"),
      ComponentNeed("prior", "PriorTransformer"), ComponentNeed("prior_scheduler"),
    ] + StableUnCLIPStage.components
  /// The negative prompt is the UNet's, the prior's is empty.
  public static let options = StableUnCLIPStage.options.union([.priorSteps, .priorGuidance])

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations; the autoencoder keeps float32 where its config forces it. Latents,
  /// embeddings and sampler arithmetic are float32 always.
  public let precision: DType
  let priorText: ProjectedTextStage
  let prior: PriorStage
  let decoding: StableUnCLIPStage

  /// Reads configurations and tokenizers; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    priorText = try ProjectedTextStage(
      checkpoint, encoder: "prior_text_encoder", tokenizer: "prior_tokenizer")
    prior = try PriorStage(checkpoint)
    decoding = try StableUnCLIPStage(checkpoint, precision: precision)
  }

  /// 20 steps of DDIM and guidance 10, 25 of the prior and guidance 4, no noise on the embedding.
  public func fill(_ request: inout GenerationRequest) throws {
    try decoding.fill(&request)
    request.priorSteps = request.priorSteps ?? 25
    request.priorGuidance = request.priorGuidance ?? 4
  }

  /// Every schedule, and the shapes.
  public func plan(_ request: GenerationRequest) throws -> StableUnCLIPPlan {
    try decoding.plan(request, prior: prior.steps(request))
  }

  /// A line for each setting that has no effect in this request.
  public func warnings(_ plan: StableUnCLIPPlan) -> [String] { plan.latent.warnings }

  /// Runs the prior with its text encoder, the image normalizer and the text encoder.
  public func condition(_ plan: StableUnCLIPPlan, _ run: GenerationRun) throws -> StableUnCLIPConditioning {
    guard let steps = plan.prior else { preconditionFailure("the plan has no prior") }
    let request = plan.latent.request
    // The prior's negative is the empty text; the negative prompt is for the text encoder.
    let isGuided = ClassifierFreeGuidance.isUsed(scale: request.priorGuidance ?? 1)
    let texts = try priorText.encode(
      request.prompts.map { isGuided ? ["", $0] : [$0] }, as: precision, run)
    let embeddings = try prior.embeddings(of: texts, along: steps, as: precision, run)
    return StableUnCLIPConditioning(
      contexts: try decoding.contexts(plan, as: precision, run),
      labels: try decoding.labels(embeddings, plan, run))
  }

  /// Loads the UNet, guided where the plan is.
  public func denoiser(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, _ run: GenerationRun
  ) throws -> (_ image: Int) throws -> Trajectory {
    try decoding.denoiser(plan, conditioning, as: precision, run)
  }

  /// Loads the autoencoder's decoder.
  public func decoder(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, _ run: GenerationRun
  ) throws -> (_ latent: Tensor, _ image: Int) throws -> Tensor {
    try decoding.autoencoder.decoder(run)
  }

  /// Loads TAESD where the folder has it, else the autoencoder's decoder.
  public func previewer(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, _ run: GenerationRun
  ) throws -> (_ guess: Tensor, _ image: Int) throws -> Tensor {
    try decoding.autoencoder.previewer(run)
  }
}

/// Variations of a picture, and the way between two, by Stable Diffusion 2.1 on the embeddings of CLIP's image
/// encoder; a prompt is optional. diffusers' `StableUnCLIPImg2ImgPipeline`.
///
/// Between two pictures `GenerationRequest.count` frames are made of each prompt, all from the same noise, so that
/// only the embedding changes.
public struct StableUnCLIPImageVariation: Pipeline {
  /// The class of model_index.json.
  public static let classes = ["StableUnCLIPImg2ImgPipeline"]
  /// CLIP's image encoder, and Stable Diffusion's.
  public static let components =
    [
      ComponentNeed("image_encoder", "CLIPVisionModelWithProjection"), ComponentNeed("feature_extractor"),
    ] + StableUnCLIPStage.components
  /// One picture or two; a prompt may be missing.
  public static let options = StableUnCLIPStage.options.union([.image, .promptSyntax])

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations; the autoencoder keeps float32 where its config forces it. Latents,
  /// embeddings and sampler arithmetic are float32 always.
  public let precision: DType
  let images: ImageEmbeddingStage
  let decoding: StableUnCLIPStage

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    images = try ImageEmbeddingStage(checkpoint)
    decoding = try StableUnCLIPStage(checkpoint, precision: precision)
  }

  /// 20 steps of DDIM and guidance 10, no noise on the embedding; the size is the model's.
  public func fill(_ request: inout GenerationRequest) throws {
    try decoding.fill(&request)
    try ImageEmbeddingStage.fill(&request)
  }

  /// Every schedule, and the shapes.
  public func plan(_ request: GenerationRequest) throws -> StableUnCLIPPlan {
    try decoding.plan(request, prior: nil)
  }

  /// A line for each setting that has no effect in this request.
  public func warnings(_ plan: StableUnCLIPPlan) -> [String] { plan.latent.warnings }

  /// Runs the image encoder, the image normalizer and the text encoder.
  public func condition(_ plan: StableUnCLIPPlan, _ run: GenerationRun) throws -> StableUnCLIPConditioning {
    StableUnCLIPConditioning(
      contexts: try decoding.contexts(plan, as: precision, run),
      labels: try decoding.labels(images.embeddings(as: precision, run), plan, run))
  }

  /// Loads the UNet, guided where the plan is.
  public func denoiser(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, _ run: GenerationRun
  ) throws -> (_ image: Int) throws -> Trajectory {
    try decoding.denoiser(plan, conditioning, as: precision, run)
  }

  /// Loads the autoencoder's decoder.
  public func decoder(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, _ run: GenerationRun
  ) throws -> (_ latent: Tensor, _ image: Int) throws -> Tensor {
    try decoding.autoencoder.decoder(run)
  }

  /// Loads TAESD where the folder has it, else the autoencoder's decoder.
  public func previewer(
    _ plan: StableUnCLIPPlan, _ conditioning: StableUnCLIPConditioning, _ run: GenerationRun
  ) throws -> (_ guess: Tensor, _ image: Int) throws -> Tensor {
    try decoding.autoencoder.previewer(run)
  }
}
