import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

// What pipelines over an autoencoder's latents have in common.

/// A latent diffusion's request with everything derived from it.
public struct LatentPlan {
  /// With every setting made.
  public let request: GenerationRequest
  /// Whether the network runs on (negative, prompt).
  public let isGuided: Bool
  /// The steps that are taken.
  public let steps: Schedule
  /// [1, h, w, C] of one image.
  public let latentShape: Shape
  private let sampler: any Sampler

  /// `scale` is the autoencoder's pixels a latent, along each side. Throws `GenerationError`, `DiffusionError`.
  init(_ request: GenerationRequest, _ schedule: SchedulerFile, scale: Int, channels: Int) throws {
    guard let guidance = request.guidance, let count = request.steps, let sampler = request.sampler,
      let width = request.width, let height = request.height
    else { preconditionFailure("the request was not filled") }
    guard request.images.count <= 1 else {
      throw GenerationError.badRequest("\(request.images.count) images; this model starts from one")
    }
    if request.strength != nil && request.images.isEmpty {
      throw GenerationError.badRequest("a strength needs an image to start from")
    }
    self.request = request
    self.sampler = try sampler.make(schedule, eta: request.eta)
    isGuided = ClassifierFreeGuidance.isUsed(scale: guidance)
    let full = try self.sampler.schedule(schedule.noise, steps: count, choosing: request.levels)
    steps = try request.images.isEmpty ? full : full.starting(at: request.strength ?? 1)
    latentShape = [1, height / scale, width / scale, channels]
    try request.checkInitialLatents([request.imageCount, channels, height / scale, width / scale])
  }

  /// As `warnings`; what a picture of other proportions loses; and a size that is far from the pixels a side
  /// that the model was made for.
  func warnings(madeFor side: Int) -> [String] {
    guard let width = request.width, let height = request.height else { return warnings }
    var lines = warnings
    if let picture = request.image, picture.width * height != picture.height * width {
      let way =
        switch request.imageFit {
        case .crop: "cropped and resized"
        case .pad: "resized and padded"
        case .stretch: "stretched"
        }
      lines.append("the image of \(picture.width)x\(picture.height) is \(way) to \(width)x\(height)")
    }
    let ratio = Double(width * height) / Double(side * side)
    if ratio > 1.7 || ratio < 0.2 {
      lines.append(
        "\(width)x\(height) is far from the \(side)x\(side) that this model was made for: expect repeated or torn "
          + "things")
    }
    return lines
  }

  /// A line for each setting that has no effect in this request.
  var warnings: [String] {
    var lines: [String] = []
    if request.eta != 0, let sampler = request.sampler, !sampler.takesEta {
      lines.append("eta has no effect on the sampler \(sampler.name)")
    }
    if !isGuided && !request.negativePrompt.isEmpty {
      lines.append("the negative prompt has no effect without guidance (above 1)")
    }
    if !isGuided && (request.guidanceRescale != nil || request.guidanceInterval != nil) {
      lines.append("guidance's rescale and interval have no effect without guidance (above 1)")
    }
    return lines
  }

  /// Image k's trajectory: from noise, from the request's latents, or from a picture's posterior.
  ///
  /// `network` is called on [x; x] of (negative, prompt) where guided, and on x of the prompt outside of the interval
  /// of guidance.
  func trajectory(
    _ image: Int, _ config: SchedulerFile, _ posterior: DiagonalGaussian?, _ autoencoder: AutoencoderStage,
    _ network: @escaping Network
  ) -> Trajectory {
    let guidance = ClassifierFreeGuidance(
      scale: request.guidance ?? 1, rescale: request.guidanceRescale ?? 0, network)
    let guided = NetworkDenoiser(config.noise.prediction) { x, timestep in try guidance(x, timestep) }
    let denoiser = GuidanceInterval(
      guided, outside: NetworkDenoiser(config.noise.prediction, network),
      interval: request.guidanceInterval ?? 0 ... .infinity)
    let (request, steps, shape) = (request, steps, latentShape)
    return Trajectory(
      "unet", sampler, along: steps, shape: shape, denoiser: denoiser
    ) { noise in
      if let initial = request.initialLatents {
        return try steps.initial(noise: initial.tensor(on: noise.device).rows(image..<image + 1))
      }
      guard let posterior else { return try steps.initial(noise: noise.normal(shape, for: .initial)) }
      let clean = try autoencoder.scaled(posterior.sample(noise: noise.normal(shape, for: .posterior)))
      return try steps.addingNoise(noise.normal(shape, for: .initial), to: clean)
    }
  }
}

/// The autoencoder `vae` of a checkpoint.
struct AutoencoderStage: Sendable {
  let component: Checkpoint.Component
  let config: AutoencoderKLConfig
  /// TAESD, for previews: a folder `taesd` beside the others.
  let tiny: Checkpoint.Component?
  /// Float32 where its configuration forces it.
  let dtype: DType

  init(_ checkpoint: Checkpoint, precision: DType) throws {
    component = try checkpoint.vae
    config = try AutoencoderKLConfig(component.configuration)
    dtype = config.forceUpcast ? .float32 : precision
    tiny = try checkpoint.contains("taesd") ? checkpoint.component("taesd") : nil
  }

  /// Pixels a latent, along each side.
  var scale: Int { config.downscale }

  private func load(withEncoder: Bool, _ run: GenerationRun) throws -> AutoencoderKL {
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "vae")
    return try run.load("autoencoder") { try AutoencoderKL(config, weights, withEncoder: withEncoder) }
  }

  /// The latents that the request's picture may have; nil without one.
  func encode(_ plan: LatentPlan, _ run: GenerationRun) throws -> DiagonalGaussian? {
    guard let picture = plan.request.image, let width = plan.request.width, let height = plan.request.height
    else { return nil }
    let vae = try load(withEncoder: true, run)
    return try stage("encoder") {
      let fitted = picture.fitted(width: width, height: height, plan.request.imageFit)
      let input = try fitted.tensor(on: run.device).cast(to: dtype)
      return try vae.encode(input, tiling: run.request.tiling)
    }
  }

  /// From the autoencoder's own latents to the diffusion model's, float32.
  func scaled(_ latent: Tensor) throws -> Tensor {
    try latent.cast(to: .float32).affine(
      scale: config.scalingFactor, offset: -config.shiftFactor * config.scalingFactor)
  }

  /// Loads TAESD's decoder or, without it, the autoencoder's; the closure decodes the diffusion model's latents.
  func previewer(_ run: GenerationRun) throws -> (_ guess: Tensor, _ image: Int) throws -> Tensor {
    guard let tiny else { return try decoder(run) }
    let config = try AutoencoderTinyConfig(tiny.configuration)
    let weights = Weights(tiny.weights, on: run.device, component: "taesd")
    let model = try run.load("preview decoder") {
      try AutoencoderTiny(config, weights, withEncoder: false)
    }
    return { guess, _ in try model.decode(guess) }
  }

  /// Loads the decoder; the closure decodes the diffusion model's latents.
  func decoder(_ run: GenerationRun) throws -> (_ latent: Tensor, _ image: Int) throws -> Tensor {
    let vae = try load(withEncoder: false, run)
    return { latent, _ in
      let own = try latent.affine(scale: 1 / config.scalingFactor, offset: config.shiftFactor)
        .cast(to: dtype)
      return try run.compute("decoder", "the autoencoder's decoder") {
        try vae.decode(own, tiling: run.request.tiling).cast(to: .float32)
      }
    }
  }
}
