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
    .steps, .sampler, .levels, .eta, .width, .height, .initialLatents,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations.
  public let precision: DType
  let unet: Checkpoint.Component
  let config: UNet2DConfig
  let schedule: SchedulerFile

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
    schedule = try SchedulerFile(json: checkpoint.scheduler)
  }

  /// As many steps as the reference takes: every one of the training's for DDPM, 50 for DDIM.
  public func fill(_ request: inout GenerationRequest) throws {
    let isDDIM = checkpoint.pipeline == "DDIMPipeline"
    request.sampler = request.sampler ?? (isDDIM ? .ddim : schedule.sampler ?? .ddpm)
    request.steps =
      request.steps ?? (request.sampler == .ddpm ? min(schedule.noise.trainTimesteps, 10_000) : 50)
    let size = config.sampleSize ?? 0
    try request.fillSize((size, size), multiple: config.sizeMultiple)
  }

  /// The schedule and the shape of one request.
  public struct Plan {
    let request: GenerationRequest
    let sampler: any Sampler
    let steps: Schedule
    /// [1, H, W, C].
    let shape: Shape
  }

  /// The schedule and the picture's shape.
  public func plan(_ request: GenerationRequest) throws -> Plan {
    guard let sampler = request.sampler, let steps = request.steps, let width = request.width,
      let height = request.height
    else { preconditionFailure("the request was not filled") }
    try request.checkInitialLatents([request.imageCount, config.inChannels, height, width])
    let made = try sampler.make(schedule, eta: request.eta)
    return Plan(
      request: request, sampler: made,
      steps: try made.schedule(schedule.noise, steps: steps, choosing: request.levels),
      shape: [1, height, width, config.inChannels])
  }

  /// A line for each setting that has no effect in this request.
  public func warnings(_ plan: Plan) -> [String] {
    guard plan.request.eta != 0, let sampler = plan.request.sampler, !sampler.takesEta else { return [] }
    return ["eta has no effect on the sampler \(sampler.name)"]
  }

  /// There is nothing to condition on.
  public func condition(_ plan: Plan, _ run: GenerationRun) throws {}

  /// Loads the UNet, and gives each image's trajectory.
  public func denoiser(_ plan: Plan, _ conditioning: Void, _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  {
    let weights = Weights(unet.weights, on: device, as: precision, component: "unet")
    let model = try run.load("unet") { try UNet2DModel(config, weights) }
    let (dtype, schedule) = (precision, schedule)
    return { image in
      let denoiser = NetworkDenoiser(schedule.noise.prediction) { x, timestep in
        try model(x.cast(to: dtype), timesteps: [timestep])
      }
      return Trajectory(
        "unet", plan.sampler, along: plan.steps, shape: plan.shape,
        denoiser: denoiser
      ) { noise in
        if let initial = plan.request.initialLatents {
          return try plan.steps.initial(noise: initial.tensor(on: noise.device).rows(image..<image + 1))
        }
        return try plan.steps.initial(noise: noise.normal(plan.shape, for: .initial))
      }
    }
  }

  /// The latents are the pixels.
  public func decoder(_ plan: Plan, _ conditioning: Void, _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
  {
    { latent, _ in latent }
  }
}
