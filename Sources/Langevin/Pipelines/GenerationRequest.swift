import LangevinDiffusion
import LangevinModels
import LangevinTensor

/// What to generate, for every pipeline. Nil leaves a setting to the pipeline; one that a pipeline has no use for
/// is an error (`RequestOption`). Everything is checked before any network is loaded.
public struct GenerationRequest: Sendable {
  /// What to draw, each `count` times; empty for models that take no text.
  public var prompts: [String]
  /// What to steer away from; used where guidance is above 1.
  public var negativePrompt = ""
  /// How prompts are read; CLIP's encoders only.
  public var promptSyntax = PromptSyntax.plain
  /// The scale of classifier-free guidance (arXiv:2207.12598), 0...1000; 1 or less runs the prompt alone.
  public var guidance: Double?
  /// Sampling steps, 1...10000; with `images` only the last `strength` of them run.
  public var steps: Int?
  /// Which way from noise to the latent.
  public var sampler: SamplerChoice?
  /// Where the sampler's steps are, instead of where the model's scheduler has them. Explicit ones are as many as
  /// `steps`.
  public var levels: NoiseSchedule.Levels?
  /// How much of guidance's gain in contrast is taken back, 0...1 (arXiv:2305.08891, section 3.4).
  public var guidanceRescale: Double?
  /// Guidance only where sigma / alpha is above the lower and up to the upper bound (arXiv:2404.07724).
  public var guidanceInterval: ClosedRange<Double>?
  /// DDIM's share of fresh noise, 0...1 (arXiv:2010.02502, eq. 16).
  public var eta = 0.0
  /// Image k has seed + k, counted over all prompts.
  public var seed: UInt64 = 0
  /// The seed of each image instead, as many as `imageCount`.
  public var seeds: [UInt64]?
  /// Every image has the same seed, so that only what it is conditioned on differs; for frames of a way between
  /// two pictures, whose pipelines set it.
  public var sharesSeed = false
  /// Which generator's random numbers make the noise.
  public var noise = NoiseKind.philox
  /// Pixels; nil for the size that the model was made for, or that of `image`.
  public var width: Int?
  /// Height in pixels; nil for what the model was made for, or the image's.
  public var height: Int?
  /// How many images of each prompt, 1...10000.
  public var count = 1
  /// How many images are computed together, 1...10000. Each is what it would be alone, but for rounding.
  public var batch = 1
  /// Where guidance computes the negative's half of each step, at the same time as the prompt's half is computed where the
  /// pipeline is; nil for there too. Both hold a copy of the network.
  public var guidanceDevice: Device?
  /// Which of the request's images are drawn here, each range together; nil for `batches`. The others are drawn elsewhere.
  public var share: [Range<Int>]?
  /// Pictures to start from: instead of noise, to vary, or to go between.
  public var images: [Picture] = []
  /// Of the picture's size: where it is white, the picture is drawn anew, where it is black, kept (`Mask`).
  public var mask: Picture?
  /// The picture is put in the middle of a canvas of this size, and what is around it is drawn.
  public var canvas: CanvasSize?
  /// How `image` becomes one of `width` and `height`.
  public var imageFit = ImageFit.crop
  /// The share of the schedule that is run on `image`, 0...1.
  public var strength: Double?
  /// Work of the UNet that is left out.
  public var cache: UNetCache?
  /// A second pass in a larger size.
  public var highResolution: HighResolution?
  /// Pictures that are followed, each by its network; their sum.
  public var controls: [Control] = []
  /// Pictures that say what is drawn, beside the prompts.
  public var imagePrompt: ImagePrompt?
  /// Replaces the initial noise: [images, C, spatial...].
  public var initialLatents: HostLatents?
  /// unCLIP: steps of the prior, 1...10000.
  public var priorSteps: Int?
  /// unCLIP: the scale of the prior's guidance, 0...1000.
  public var priorGuidance: Double?
  /// unCLIP: steps of super-resolution, 1...10000.
  public var superResolutionSteps: Int?
  /// Stable unCLIP: how much noise the image embedding gets, a timestep of its own schedule.
  public var noiseLevel: Int?
  /// Video: pictures in time.
  public var frames: Int?
  /// Video: frames a second of what is written.
  public var framesPerSecond: Double?
  /// Shows what the denoiser guesses after every so many steps.
  public var previewEvery: Int?
  /// The autoencoder works in tiles, which bounds its memory; nil for one piece.
  public var tiling: Tiling?
  /// Keeps no network loaded beside another where it can be helped: images are decoded when all are sampled.
  public var lowMemory = false

  /// A request with what a model recommends (`Checkpoint.recommended`) and every other setting left to the
  /// pipeline.
  public init(prompts: [String], recommended: RecommendedSettings = RecommendedSettings()) {
    self.prompts = prompts
    guidance = recommended.guidance
    steps = recommended.steps
    sampler = recommended.sampler
  }

  /// The same for one prompt.
  public init(prompt: String, recommended: RecommendedSettings = RecommendedSettings()) {
    self.init(prompts: [prompt], recommended: recommended)
  }

  /// The first prompt, or none.
  public var prompt: String {
    get { prompts.first ?? "" }
    set { prompts = [newValue] }
  }

  /// The first picture to start from.
  public var image: Picture? {
    get { images.first }
    set { images = newValue.map { [$0] } ?? [] }
  }

  /// How many images there will be.
  public var imageCount: Int { max(prompts.count, 1) * count }

  /// The number of the prompt that image k is of.
  public func prompt(of image: Int) -> Int { image / count }

  /// Which images are computed together, in their order.
  public var batches: [Range<Int>] {
    // Where long prompts have more chunks than short ones, their contexts do not fit together.
    let unit = promptSyntax == .plain ? imageCount : count
    return stride(from: 0, to: imageCount, by: max(unit, 1)).flatMap { first in
      let end = min(first + unit, imageCount)
      return stride(from: first, to: end, by: max(batch, 1)).map { $0..<min($0 + max(batch, 1), end) }
    }
  }
}

/// Settings of a request that not every pipeline has a use for.
public enum RequestOption: String, Sendable, CaseIterable {
  case prompt, batch
  case negativePrompt = "negative prompt"
  case promptSyntax = "prompt syntax"
  case preview
  case guidance, steps, sampler, eta, width, height, image, mask, canvas, strength, control
  case imagePrompt = "image prompt"
  case highResolution = "hires"
  case cache
  case levels = "spacing or sigmas"
  case guidanceRescale = "guidance rescale"
  case guidanceInterval = "guidance interval"
  case guidanceDevice = "a device for guidance"
  case initialLatents = "initial latents"
  case priorSteps = "prior steps"
  case priorGuidance = "prior guidance"
  case superResolutionSteps = "super-resolution steps"
  case noiseLevel = "noise level"
  case frames
  case framesPerSecond = "frames per second"
  case tiling = "tiles"
}

extension GenerationRequest {
  /// Which settings were made.
  public var given: [RequestOption] {
    RequestOption.allCases.filter { option in
      switch option {
      case .prompt: !prompts.isEmpty
      case .batch: batch != 1
      case .negativePrompt: !negativePrompt.isEmpty
      case .promptSyntax: promptSyntax != .plain
      case .guidance: guidance != nil
      case .preview: previewEvery != nil
      case .steps: steps != nil
      case .sampler: sampler != nil
      case .eta: eta != 0
      case .width: width != nil
      case .height: height != nil
      case .image: !images.isEmpty
      case .mask: mask != nil
      case .canvas: canvas != nil
      case .strength: strength != nil
      case .control: !controls.isEmpty
      case .highResolution: highResolution != nil
      case .cache: cache != nil
      case .imagePrompt: imagePrompt != nil
      case .levels: levels != nil
      case .guidanceRescale: guidanceRescale != nil
      case .guidanceInterval: guidanceInterval != nil
      case .guidanceDevice: guidanceDevice != nil
      case .initialLatents: initialLatents != nil
      case .priorSteps: priorSteps != nil
      case .priorGuidance: priorGuidance != nil
      case .superResolutionSteps: superResolutionSteps != nil
      case .noiseLevel: noiseLevel != nil
      case .frames: frames != nil
      case .framesPerSecond: framesPerSecond != nil
      case .tiling: tiling != nil
      }
    }
  }

  /// What a step computes beside the network, on the pipeline's device alone: guidance cannot be on two devices then.
  public var additionsToSteps: [RequestOption] {
    [.control, .imagePrompt, .cache, .mask, .canvas].filter(given.contains)
  }

  /// Bytes of a prompt in UTF-8: some hundred times what the longest text encoder reads.
  static let maximumPromptSize = 1 << 16

  /// Ranges that hold for every pipeline. Throws `GenerationError.badRequest`.
  func checkRanges() throws {
    func require(_ condition: Bool, _ name: String, _ range: String, _ value: Any) throws {
      if !condition { throw GenerationError.badRequest("\(name) must be \(range), got \(value)") }
    }
    for text in prompts + [negativePrompt] {
      let size = text.utf8.count
      try require(size <= Self.maximumPromptSize, "a prompt", "at most \(Self.maximumPromptSize) bytes", size)
    }
    for (name, value) in [
      ("steps", steps), ("prior steps", priorSteps), ("super-resolution steps", superResolutionSteps),
      ("frames", frames), ("count", count), ("batch", batch), ("steps between previews", previewEvery),
    ] {
      if let value { try require((1...10_000).contains(value), name, "1 to 10000", value) }
    }
    for (name, value) in [("guidance", guidance), ("prior guidance", priorGuidance)] {
      if let value { try require(value.isFinite && (0...1000).contains(value), name, "0 to 1000", value) }
    }
    try require((0...1).contains(eta), "eta", "0 to 1", eta)
    for scale in controls.map(\.scale) + [imagePrompt?.scale].compactMap({ $0 }) {
      try require(abs(scale) <= 100, "a picture's scale", "-100 to 100", scale)
    }
    if guidanceDevice != nil, let addition = additionsToSteps.first {
      throw GenerationError.badRequest("guidance on two devices does not go with \(addition.rawValue)")
    }
    if let imagePrompt, imagePrompt.pictures.isEmpty {
      throw GenerationError.badRequest("an image prompt has no picture")
    }
    if let strength { try require((0...1).contains(strength), "strength", "0 to 1", strength) }
    if let hires = highResolution {
      try require(hires.scale > 1 && hires.scale <= 8, "hires", "above 1 and at most 8", hires.scale)
      try require(
        hires.strength > 0 && hires.strength <= 1, "hires strength", "above 0 and at most 1", hires.strength)
    }
    if let guidanceRescale {
      try require((0...1).contains(guidanceRescale), "guidance rescale", "0 to 1", guidanceRescale)
    }
    if let interval = guidanceInterval {
      try require(interval.lowerBound >= 0, "guidance interval", "at least 0", interval.lowerBound)
    }
    if let fps = framesPerSecond {
      try require(fps > 0 && fps <= 240, "frames per second", "above 0 and at most 240", fps)
    }
    try require(imageCount <= 10_000, "pictures", "at most 10000", imageCount)
    if let seeds {
      try require(seeds.count == imageCount, "seeds", "\(imageCount), one a picture", seeds.count)
    }
  }
}
