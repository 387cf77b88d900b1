import Foundation
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// Stable Diffusion 1.x and 2.x (arXiv:2112.10752) from a checkpoint to pictures, on one device.
///
/// The text encoder is let go before the UNet is loaded, and the UNet before the last image is decoded. Images
/// run one after the other: the memory is that of one, and image k is what it would be alone.
public struct StableDiffusion: Sendable {
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoder and UNet; the autoencoder keeps float32 where its
  /// config forces it. Latents and sampler arithmetic are float32 always.
  public let precision: DType
  let checkpoint: Checkpoint
  let tokenizer: CLIPTokenizer
  let textConfig: CLIPTextConfig
  let unetConfig: UNet2DConditionConfig
  let vaeConfig: AutoencoderKLConfig
  let schedule: NoiseSchedule

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    self.checkpoint = checkpoint
    self.device = device
    self.precision = precision
    tokenizer = try checkpoint.tokenizer.load()
    textConfig = try CLIPTextConfig(ConfigObject(checkpoint.textEncoder.config))
    unetConfig = try UNet2DConditionConfig(ConfigObject(checkpoint.unet.config))
    vaeConfig = try AutoencoderKLConfig(ConfigObject(checkpoint.vae.config))
    schedule = try NoiseSchedule(json: checkpoint.scheduler).forStableDiffusion()
  }

  /// Width and height are multiples of this.
  public var sizeMultiple: Int { vaeConfig.downscale * unetConfig.sizeMultiple }
  /// Pixels a side where a request names none.
  public var defaultSize: Int { unetConfig.sampleSize * vaeConfig.downscale }

  /// Runs a request. `progress` may throw to stop; the error passes through.
  ///
  /// Throws `GenerationError`, `TensorError`, `WeightError`, `CheckpointError`.
  public func generate(
    _ request: GenerationRequest, progress: (GenerationProgress) throws -> Void = { _ in }
  ) throws -> GenerationResult {
    let plan = try Plan(request, self)
    try progress(.loading("text encoder"))
    let context = try encodePrompts(request, guided: plan.isGuided, progress: progress)
    try progress(.loading("autoencoder"))
    let vae = try loadAutoencoder(withEncoder: request.image != nil)
    try progress(.loading("unet"))
    var denoiser = Optional(try loadDenoiser(plan, context: context))
    var latents: [Tensor] = []
    var pictures: [Picture] = []
    for (image, seed) in plan.seeds.enumerated() {
      try progress(.sampling(image: image, steps: plan.steps.steps.count))
      let latent = try denoiser.map {
        try sample(plan, image: image, with: $0, vae: vae, progress: progress)
      }
      guard let latent else { break }
      // Decoding needs memory too, and this was the UNet's last turn.
      if image == plan.seeds.count - 1 { denoiser = nil }
      try progress(.decoding(image: image))
      let picture = try decode(latent, with: vae)
      latents.append(latent)
      pictures.append(picture)
      try progress(.finished(picture, image: image, seed: seed))
    }
    return GenerationResult(
      pictures: pictures, seeds: plan.seeds, latents: try HostLatents(Tensor.concatenated(latents, axis: 0)))
  }

  /// A request with everything derived from it.
  struct Plan {
    let request: GenerationRequest
    let width, height: Int
    let isGuided: Bool
    let seeds: [UInt64]
    let steps: Schedule
    /// [1, h, w, C] of one image.
    let latentShape: Shape

    init(_ request: GenerationRequest, _ pipeline: StableDiffusion) throws {
      self.request = request
      func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
        if !condition { throw GenerationError.badRequest(reason()) }
      }
      try require((1...10_000).contains(request.steps), "steps must be 1 to 10000, got \(request.steps)")
      try require((1...10_000).contains(request.count), "count must be 1 to 10000, got \(request.count)")
      try require(
        request.guidance.isFinite && (0...1000).contains(request.guidance),
        "guidance must be 0 to 1000, got \(request.guidance)")
      try require((0...1).contains(request.eta), "eta must be 0 to 1, got \(request.eta)")
      try require((0...1).contains(request.strength), "strength must be 0 to 1, got \(request.strength)")
      width = request.width ?? request.image?.width ?? pipeline.defaultSize
      height = request.height ?? request.image?.height ?? pipeline.defaultSize
      let multiple = pipeline.sizeMultiple
      for (name, size) in [("width", width), ("height", height)] {
        try require(
          size > 0 && size <= 16_384 && size % multiple == 0,
          "\(name) must be a multiple of \(multiple) up to 16384 for this model, got \(size)")
      }
      isGuided = ClassifierFreeGuidance.isUsed(scale: request.guidance)
      seeds = (0..<request.count).map { request.seed &+ UInt64($0) }
      let full = try request.sampler.schedule(pipeline.schedule, steps: request.steps)
      steps = request.image == nil ? full : try full.starting(at: request.strength)
      let scale = pipeline.vaeConfig.downscale
      latentShape = [1, height / scale, width / scale, pipeline.vaeConfig.latentChannels]
      if let initial = request.initialLatents {
        try require(request.image == nil, "initial latents and an image exclude each other")
        let expected: Shape = [request.count, latentShape[3], latentShape[1], latentShape[2]]
        try require(
          initial.shape == expected && initial.values.count == expected.count,
          "the initial latents have shape \(initial.shape), expected \(expected)")
      }
    }
  }
}
