import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// Stable Diffusion 1.x and 2.x (arXiv:2112.10752) from a checkpoint to pictures, on one device.
public struct StableDiffusion: Pipeline {
  /// Text to image and image to image are one pipeline.
  public static let classes = ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"]
  /// Without a safety checker.
  public static let components = [
    ComponentNeed("unet", "UNet2DConditionModel"), ComponentNeed("vae", "AutoencoderKL"),
    ComponentNeed("text_encoder", "CLIPTextModel"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  /// One picture to start from, at most.
  public static let options: Set<RequestOption> = [
    .prompt, .negativePrompt, .promptSyntax, .guidance, .guidanceRescale, .guidanceInterval, .preview, .steps,
    .sampler, .levels, .eta, .width, .height, .image, .strength, .initialLatents,
    .tiling,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoder and UNet; the autoencoder keeps float32 where its
  /// config forces it. Latents and sampler arithmetic are float32 always.
  public let precision: DType
  let text: ClipTextStage
  let unet: Checkpoint.Component
  let unetConfig: UNet2DConditionConfig
  let autoencoder: AutoencoderStage
  let schedule: SchedulerFile

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    self.checkpoint = checkpoint
    self.device = device
    self.precision = precision
    text = try ClipTextStage(checkpoint)
    unet = try checkpoint.unet
    unetConfig = try UNet2DConditionConfig(unet.configuration)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    schedule = try SchedulerFile(json: checkpoint.scheduler).forStableDiffusion()
  }

  /// 30 steps of DDIM, guidance 7.5, the size that the UNet was made for; of a picture 0.7 of the schedule.
  public func fill(_ request: inout GenerationRequest) throws {
    request.guidance = request.guidance ?? 7.5
    request.steps = request.steps ?? 30
    request.sampler = request.sampler ?? .ddim
    if !request.images.isEmpty { request.strength = request.strength ?? 0.7 }
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

  /// The context of each prompt, [2, T, C] as (negative, prompt) where guided, else [1, T, C]; and the picture
  /// to start from.
  public struct Conditioning {
    let contexts: [Tensor]
    let posterior: DiagonalGaussian?
  }

  /// Runs the text encoder and, on a picture, the autoencoder's encoder.
  public func condition(_ plan: LatentPlan, _ run: GenerationRun) throws -> Conditioning {
    let request = plan.request
    let contexts = try text.encode(
      request.prompts.map { plan.isGuided ? [request.negativePrompt, $0] : [$0] }, .last, as: precision, run)
    return Conditioning(contexts: contexts.map(\.states), posterior: try autoencoder.encode(plan, run))
  }

  /// Loads the UNet, guided where the plan is.
  public func denoiser(_ plan: LatentPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  {
    let weights = Weights(unet.weights, on: device, as: precision, component: "unet")
    let model = try run.load("unet") { try UNet2DConditionModel(unetConfig, weights) }
    let dtype = precision
    return { image in
      let context = conditioning.contexts[plan.request.prompt(of: image)]
      return plan.trajectory(image, schedule, conditioning.posterior, autoencoder) { x, timestep in
        let timesteps = [Float](repeating: timestep, count: x.shape[0])
        // Without guidance in this step it is the prompt's row alone, the last.
        let own = try context.rows(context.shape[0] - x.shape[0]..<context.shape[0])
        return try model(x.cast(to: dtype), timesteps: timesteps, context: own)
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
