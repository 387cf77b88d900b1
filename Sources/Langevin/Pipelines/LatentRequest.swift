import LangevinDiffusion
import LangevinModels
import LangevinTensor

/// What a latent pipeline takes where a request has nothing.
public struct LatentDefaults: Sendable {
  /// The scale of guidance.
  public var guidance: Double
  /// Sampling steps.
  public var steps: Int
  /// From noise to the latent.
  public var sampler: SamplerChoice
  /// The share of the schedule that is run on a picture.
  public var strength: Double
  /// Whether a share that is no whole number of steps is rounded up, as in diffusers' pipelines of flows.
  var roundsStrengthUp = false

  /// These settings.
  public init(guidance: Double, steps: Int, sampler: SamplerChoice, strength: Double) {
    (self.guidance, self.steps, self.sampler, self.strength) = (guidance, steps, sampler, strength)
  }
}

/// The pictures that a network over latents makes.
struct LatentSizes {
  /// Pixels of a side of what it was made for.
  var side: Int
  /// What width and height are multiples of, in pixels.
  var multiple: Int
  /// Pixels of a side of what is one token for a transformer, by whose number a schedule may be shifted.
  var token: Int?
}

/// What the sampling of latents starts from.
public enum LatentStart: Sendable {
  case noise
  /// In the place of the noise, [images, C, h, w].
  case latents(HostLatents)
  /// A picture with noise on it.
  case picture(Picture)
  /// A picture, of which a part is kept.
  case repainting(Repainting)
}

/// A latent diffusion's request with everything derived from it.
public struct LatentRequest: ResolvedRequest {
  /// With every setting made.
  public let request: GenerationRequest
  /// Whether and how much the prompt is preferred to the negative.
  public let guidance: Guidance
  /// The sampler and the steps that are taken.
  public let sampling: ResolvedSampling
  /// What sampling starts from.
  public let start: LatentStart
  /// Pixels of the picture.
  public let width, height: Int
  /// [1, h, w, C] of one image.
  public let latentShape: Shape
  /// What follows in a larger size.
  public let second: SecondPass?
  /// Settings without effect, and sizes that do not fit.
  public internal(set) var warnings: [String]

  /// Makes of a request what the checkpoint's networks and scheduler can run.
  ///
  /// Throws `GenerationError`, `DiffusionError`.
  public init(
    _ asked: GenerationRequest, or defaults: LatentDefaults, _ scheduler: SchedulerFile, _ unet: UNetStage,
    _ autoencoder: AutoencoderStage
  ) throws {
    let scale = autoencoder.scale
    let sizes = LatentSizes(side: unet.config.sampleSize * scale, multiple: scale * unet.config.sizeMultiple)
    try self.init(asked, or: defaults, scheduler, sizes, autoencoder)
    if unet.input == .inpainting {
      guard case .repainting = start else {
        throw GenerationError.badRequest(
          "this checkpoint is for inpainting: it needs an image and a mask of what is drawn anew")
      }
    }
    for control in request.controls {
      try control.network.check(fits: unet.config, scale: scale)
      let multiple = control.network.sizeMultiple
      for (width, height) in [(width, height), (second?.width ?? width, second?.height ?? height)] {
        guard width % multiple == 0, height % multiple == 0 else {
          throw GenerationError.badRequest(
            "width and height must be multiples of \(multiple) for \(control.network.url.path), got "
              + "\(width)x\(height)")
        }
      }
    }
    try request.imagePrompt?.adapter.check(fits: unet.config)
    try request.cache?.check(unet.config, steps: sampling.schedule.steps.count)
  }

  /// Of whatever network reads latents. Throws `GenerationError`, `DiffusionError`.
  init(
    _ asked: GenerationRequest, or defaults: LatentDefaults, _ scheduler: SchedulerFile,
    _ sizes: LatentSizes, _ autoencoder: AutoencoderStage
  ) throws {
    var request = asked
    guidance = request.guidance(or: defaults.guidance)
    let (w, h) = try request.size(or: (sizes.side, sizes.side), multiple: sizes.multiple)
    (width, height) = (w, h)
    let tokens = sizes.token.map { w / $0 * (h / $0) }
    let full = try request.sampling(
      tokens.map(scheduler.shifted) ?? scheduler, steps: defaults.steps, sampler: defaults.sampler)
    start = try request.latentStart(width: width, height: height)
    sampling = try Self.sampling(&request, full, from: start, defaults)
    let channels = autoencoder.config.latentChannels
    let (rows, columns) = (height / autoencoder.scale, width / autoencoder.scale)
    latentShape = [1, rows, columns, channels]
    if request.highResolution != nil, case .repainting = start {
      throw GenerationError.badRequest(
        "hires goes with neither a mask nor a canvas: it would draw over what they keep")
    }
    let (first, shape) = ((width: width, height: height), latentShape)
    second = try request.highResolution.map {
      try SecondPass(
        $0, width: first.width, height: first.height, multiple: sizes.multiple, latent: shape, of: full)
    }
    try request.checkInitialLatents([request.imageCount, channels, rows, columns])
    warnings =
      request.idleSettings(guidance)
      + Self.pictureWarnings(request, start, width: width, height: height, madeFor: sizes.side)
    self.request = request
  }

  /// The steps that are left to take from there.
  private static func sampling(
    _ request: inout GenerationRequest, _ full: ResolvedSampling, from start: LatentStart,
    _ defaults: LatentDefaults
  ) throws -> ResolvedSampling {
    let share: Double
    switch start {
    case .noise, .latents:
      if request.strength != nil {
        throw GenerationError.badRequest("a strength needs an image to start from")
      }
      return full
    case .picture: share = request.setting(\.strength, or: defaults.strength)
    // Nothing of what is drawn anew is left.
    case .repainting: share = request.setting(\.strength, or: 1)
    }
    let steps = try full.schedule.starting(at: share, roundingUp: defaults.roundsStrengthUp)
    return ResolvedSampling(full.sampler, along: steps)
  }

  /// A mask of nothing; what a picture of other proportions loses; and a size that is far from the pixels a side that
  /// the model was made for.
  private static func pictureWarnings(
    _ request: GenerationRequest, _ start: LatentStart, width: Int, height: Int, madeFor side: Int
  ) -> [String] {
    var lines: [String] = []
    if case .repainting(let repainting) = start, !repainting.mask.isDrawn.contains(true) {
      lines.append("the mask has no white: nothing is drawn anew")
    }
    func size(_ picture: Picture) -> CanvasSize { CanvasSize(width: picture.width, height: picture.height) }
    let pictures =
      request.images.prefix(1).map { ("image", request.canvas ?? size($0)) }
      + request.controls.map { ("control image", size($0.picture)) }
    lines += pictures.compactMap { name, picture in
      request.fitWarning(picture.width, picture.height, name, width: width, height: height)
    }
    let ratio = Double(width * height) / Double(side * side)
    if ratio > 1.7 || ratio < 0.2 {
      lines.append(
        "\(width)x\(height) is far from the \(side)x\(side) that this model was made for: expect repeated or torn "
          + "things")
    }
    return lines
  }
}
