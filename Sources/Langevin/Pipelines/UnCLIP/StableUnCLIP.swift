import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A stable unCLIP request with everything derived from it.
public struct StableUnCLIPRequest: ResolvedRequest {
  /// Of the latents, which start from noise: its request has no pictures.
  public let latent: LatentRequest
  /// With every setting made.
  public let request: GenerationRequest
  /// A timestep of the embeddings' own schedule, from 0.
  public let noiseLevel: Int
  /// Of the embedding at that level.
  public let embeddingLevel: NoiseLevel
  /// Settings without effect, and sizes that do not fit.
  public var warnings: [String] { latent.warnings }
}

/// Stable Diffusion 2.1 that is conditioned on noised image embeddings beside the text: what its two pipelines share.
public struct StableUnCLIPStage: Sendable {
  let text: ClipTextStage
  let unet: UNetStage
  let autoencoder: AutoencoderStage
  let scheduler: SchedulerFile
  let normalizer: Checkpoint.Component
  let noisingSchedule: NoiseSchedule

  static let components = [
    ComponentNeed("image_normalizer", "StableUnCLIPImageNormalizer"),
    ComponentNeed("image_noising_scheduler"), ComponentNeed("unet", "UNet2DConditionModel"),
    ComponentNeed("vae", "AutoencoderKL"), ComponentNeed("text_encoder", "CLIPTextModel"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  static let options: Set<RequestOption> = [
    .batch, .prompt, .negativePrompt, .guidance, .steps, .sampler, .eta, .width, .height, .initialLatents,
    .noiseLevel,
  ]

  init(_ checkpoint: Checkpoint, precision: DType) throws {
    text = try ClipTextStage(checkpoint, precision: precision)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    unet = try UNetStage(checkpoint, for: autoencoder, precision: precision)
    scheduler = try SchedulerFile(json: checkpoint.scheduler)
    normalizer = try checkpoint.component("image_normalizer")
    noisingSchedule = try NoiseSchedule(json: checkpoint.scheduler(named: "image_noising_scheduler"))
  }

  /// 20 steps of DDIM and guidance 10, no noise on the embedding; the size is the model's, whatever pictures there are.
  ///
  /// Throws `GenerationError.badRequest` for a noise level that the schedule does not have.
  func resolve(_ asked: GenerationRequest) throws -> StableUnCLIPRequest {
    var request = asked
    let alphas = try noisingSchedule.alphasCumprod()
    let level = request.setting(\.noiseLevel, or: 0)
    guard alphas.indices.contains(level) else {
      throw GenerationError.badRequest(
        "noise level must be 0 to \(alphas.count - 1) for this model, got \(level)")
    }
    request.images = []
    let latent = try LatentRequest(
      request, or: LatentDefaults(guidance: 10, steps: 20, sampler: .ddim, strength: 1), scheduler, unet,
      autoencoder)
    request = latent.request
    request.images = asked.images
    return StableUnCLIPRequest(
      latent: latent, request: request, noiseLevel: level,
      embeddingLevel: NoiseLevel(timestep: Float(level), alphaCumprod: alphas[level]))
  }

  /// The context of each prompt and the label of each image's embedding. The negative has an embedding of zeros.
  func condition(_ embeddings: [Tensor], _ request: StableUnCLIPRequest, _ run: GenerationRun) throws
    -> LatentConditioning
  {
    let labels = try labels(embeddings, request, run)
    var texts = run.request
    if texts.prompts.isEmpty { texts.prompts = [""] }
    let contexts = try text.encode(texts.prompts(request.latent.guidance), .last, run)
    let inputs = try labels.enumerated().map { image, label -> Conditioned<UNetConditioning> in
      func input(_ text: ClipTextStage.Encoded, _ label: Tensor) throws -> UNetConditioning {
        UNetConditioning(context: text.states, classLabels: .vectors(try label.cast(to: unet.dtype)))
      }
      let context = contexts[texts.prompt(of: image)]
      let prompt = try input(context.prompt, label)
      guard case .guided(let negative, _) = context else { return .plain(prompt) }
      return .guided(
        negative: try input(negative, .fill(0, label.shape, on: run.device)), prompt: prompt)
    }
    return LatentConditioning(
      inputs: inputs, start: try autoencoder.encode(request.latent, for: unet.input, run))
  }

  /// What the UNet takes for class labels, float32 [1, 2 D] for each image's embedding [1, D]: the embedding with
  /// noise around CLIP's mean, and a sinusoid of how much noise it is.
  private func labels(_ embeddings: [Tensor], _ request: StableUnCLIPRequest, _ run: GenerationRun) throws
    -> [Tensor]
  {
    let weights = Weights(normalizer.weights, on: run.device, as: .float32, component: "image_normalizer")
    let config = try normalizer.configuration
    let model = try run.load("image normalizer") { try StableUnCLIPImageNormalizer(config, weights) }
    let level = request.embeddingLevel
    return try embeddings.enumerated().map { image, embedding in
      let noise = try run.noise(embedding.shape, image: image, stream: 1)
      return try stage("noise the embedding") {
        let noisy = try Tensor.combination([
          (Float(level.alpha), model.scale(embedding)), (Float(level.sigma), noise),
        ])
        return try model.classLabels(model.unscale(noisy), noiseLevel: request.noiseLevel)
      }
    }
  }
}

/// A pipeline that ends in Stable Diffusion 2.1 on image embeddings.
public protocol StableUnCLIPPipeline: AutoencodedPipeline where Conditioning == LatentConditioning {
  /// What makes pictures of embeddings.
  var decoding: StableUnCLIPStage { get }
  /// What becomes pictures once there are embeddings.
  func decodingRequest(_ request: Resolved) -> StableUnCLIPRequest
}

extension StableUnCLIPPipeline {
  /// That of what makes pictures.
  public var autoencoder: AutoencoderStage { decoding.autoencoder }

  /// Loads the UNet, which sees the image embeddings; the closure gives the trajectory of image k.
  public func denoiser(_ request: Resolved, _ conditioning: LatentConditioning, _ run: GenerationRun) throws
    -> TrajectoryMaker
  {
    let latent = decodingRequest(request).latent
    return try decoding.unet.trajectories(
      latent, conditioning, decoding.scheduler, decoding.autoencoder, stream: 2, run)
  }
}

/// Stable unCLIP from a text: a prior makes an image embedding of the prompt, which joins the text in Stable Diffusion
/// 2.1. diffusers' `StableUnCLIPPipeline`.
public struct StableUnCLIP: StableUnCLIPPipeline {
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
  /// What makes pictures of embeddings.
  public let decoding: StableUnCLIPStage

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
  public func resolve(_ asked: GenerationRequest) throws -> RequestWithPrior<StableUnCLIPRequest> {
    var request = asked
    let prior = try prior.resolve(&request)
    let decoding = try decoding.resolve(request)
    return RequestWithPrior(prior: prior, decoding: decoding, warnings: decoding.warnings)
  }

  /// Runs the prior with its text encoder, the image normalizer and the text encoder.
  public func condition(_ request: RequestWithPrior<StableUnCLIPRequest>, _ run: GenerationRun) throws
    -> LatentConditioning
  {
    // The prior's negative is the empty text; the negative prompt is for the text encoder.
    let prompts = run.request.prompts(request.prior.guidance).map { prompt in
      Conditioned(prompt.prompt, negative: request.prior.guidance.isUsed ? "" : nil)
    }
    let texts = try priorText.encode(prompts, as: precision, run)
    let embeddings = try prior.embeddings(of: texts, request.prior, as: precision, run)
    return try decoding.condition(embeddings, request.decoding, run)
  }

  /// What becomes pictures once there are embeddings.
  public func decodingRequest(_ request: RequestWithPrior<StableUnCLIPRequest>) -> StableUnCLIPRequest {
    request.decoding
  }
}

/// Variations of a picture, and the way between two, by Stable Diffusion 2.1 on the embeddings of CLIP's image
/// encoder; a prompt is optional. diffusers' `StableUnCLIPImg2ImgPipeline`.
///
/// Between two pictures `GenerationRequest.count` frames are made of each prompt, all from the same noise, so that
/// only the embedding changes.
public struct StableUnCLIPImageVariation: StableUnCLIPPipeline {
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
  /// What makes pictures of embeddings.
  public let decoding: StableUnCLIPStage

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    images = try ImageEmbeddingStage(checkpoint)
    decoding = try StableUnCLIPStage(checkpoint, precision: precision)
  }

  /// 20 steps of DDIM and guidance 10, no noise on the embedding; the size is the model's.
  public func resolve(_ asked: GenerationRequest) throws -> StableUnCLIPRequest {
    var request = asked
    try ImageEmbeddingStage.resolve(&request)
    return try decoding.resolve(request)
  }

  /// Runs the image encoder, the image normalizer and the text encoder.
  public func condition(_ request: StableUnCLIPRequest, _ run: GenerationRun) throws -> LatentConditioning {
    try decoding.condition(images.embeddings(as: precision, run), request, run)
  }

  /// A request for pictures is one of the decoder too.
  public func decodingRequest(_ request: StableUnCLIPRequest) -> StableUnCLIPRequest { request }
}
