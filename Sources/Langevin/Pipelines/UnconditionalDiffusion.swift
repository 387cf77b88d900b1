import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// Pictures of nothing in particular: DDPM (arXiv:2006.11239) and DDIM (arXiv:2010.02502) in pixel space.
public struct UnconditionalDiffusion: Pipeline {
  /// They differ in the sampler that a request gets.
  public static let classes = ["DDPMPipeline", "DDIMPipeline"]
  /// A UNet and its noise.
  public static let components = [ComponentNeed("unet", "UNet2DModel"), ComponentNeed("scheduler")]
  /// Without text there is nothing to guide.
  public static let options: Set<RequestOption> = [
    .batch, .steps, .sampler, .levels, .eta, .width, .height, .initialLatents, .preview,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations.
  public let precision: DType
  let unet: Checkpoint.Component
  let config: UNet2DConfig
  let scheduler: SchedulerFile

  /// Reads configurations; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    self.checkpoint = checkpoint
    self.device = device
    self.precision = precision
    unet = try checkpoint.unet
    config = try UNet2DConfig(unet.configuration)
    guard [1, 3].contains(config.inChannels), config.classEmbedding == nil else {
      throw ModelError.unsupported(
        model: "UNet2DModel", key: config.classEmbedding == nil ? "in_channels" : "class_embed_type",
        value: config.classEmbedding.map { "\($0)" } ?? "\(config.inChannels)",
        supported: ["pictures of 1 or 3 channels, without classes"])
    }
    scheduler = try SchedulerFile(json: checkpoint.scheduler)
  }

  /// A request with everything derived from it.
  public struct Resolved: ResolvedRequest {
    /// With every setting made.
    public let request: GenerationRequest
    /// The sampler and its steps.
    public let sampling: ResolvedSampling
    /// [1, H, W, C].
    public let shape: Shape
    /// Settings without effect.
    public let warnings: [String]
  }

  /// As many steps as the reference takes: every one of the training's for DDPM, 50 for DDIM.
  public func resolve(_ asked: GenerationRequest) throws -> Resolved {
    var request = asked
    let sampler = request.setting(
      \.sampler, or: checkpoint.pipeline == "DDIMPipeline" ? .ddim : scheduler.sampler ?? .ddpm)
    let side = config.sampleSize ?? 0
    let (width, height) = try request.size(or: (side, side), multiple: config.sizeMultiple)
    try request.checkInitialLatents([request.imageCount, config.inChannels, height, width])
    let sampling = try request.sampling(
      scheduler, steps: sampler == .ddpm ? min(scheduler.noise.trainTimesteps, 10_000) : 50, sampler: sampler)
    return Resolved(
      request: request, sampling: sampling, shape: [1, height, width, config.inChannels],
      warnings: request.idleEta)
  }

  /// There is nothing to condition on.
  public func condition(_ request: Resolved, _ run: GenerationRun) throws {}

  /// Loads the UNet; the closure gives the trajectory of image k.
  public func denoiser(_ request: Resolved, _ conditioning: Void, _ run: GenerationRun) throws
    -> TrajectoryMaker
  {
    let weights = Weights(unet.weights, on: device, as: precision, component: "unet")
    let model = try run.load("unet") { try UNet2DModel(config, weights) }
    let denoiser = NetworkDenoiser(scheduler.noise.prediction) { [precision] x, timestep in
      try model(x.cast(to: precision), timesteps: [Float](repeating: timestep, count: x.shape[0]))
    }
    return { images in
      Trajectory(
        "unet", of: images, by: request.sampling, denoiser: denoiser, shape: request.shape,
        latents: request.request.initialLatents)
    }
  }

  /// The latents are the pixels.
  public func decoder(_ request: Resolved, _ conditioning: Void, _ run: GenerationRun) throws -> PixelDecoder
  {
    { latent, _ in latent }
  }
}
