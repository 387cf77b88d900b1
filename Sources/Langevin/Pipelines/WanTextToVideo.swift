import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor

/// WAN 2.1, text to video (arXiv:2503.20314), as diffusers' `WanPipeline` runs it.
///
/// Text encoder, transformer and autoencoder are not loaded together. Guidance calls the transformer twice, for the
/// negative prompt and for the prompt, so that the memory is that of one video.
public struct WanTextToVideo: Pipeline {
  /// One class; folders of WAN 2.2, with two transformers, have the same and are refused by their settings.
  public static let classes = ["WanPipeline"]
  /// The tokenizer is read from its tokenizer.json.
  public static let components = [
    ComponentNeed("transformer", "WanTransformer3DModel"), ComponentNeed("vae", "AutoencoderKLWan"),
    ComponentNeed("text_encoder", "UMT5EncoderModel"),
    ComponentNeed("tokenizer", "T5TokenizerFast", "T5Tokenizer"), ComponentNeed("scheduler"),
  ]
  /// A video begins from noise.
  public static let options: Set<RequestOption> = [
    .prompt, .negativePrompt, .guidance, .guidanceRescale, .guidanceInterval, .steps, .sampler, .levels,
    .width,
    .height, .initialLatents, .frames, .framesPerSecond, .preview,
  ]
  /// Tokens of a prompt; what the transformer was trained on.
  static let textLength = 512

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoder and transformer. The autoencoder keeps float32, as its
  /// authors recommend; latents and sampler arithmetic are float32 always.
  public let precision: DType
  let text: T5TextStage
  let transformer: Checkpoint.Component
  let config: WanTransformer3DConfig
  let vae: Checkpoint.Component
  let vaeConfig: AutoencoderKLWanConfig
  let scheduler: SchedulerFile

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    try self.init(checkpoint, on: device, precision: precision, imageChannels: nil)
  }

  /// Of a model that reads an image encoder's states of so many channels, and a picture's latent beside each of its own.
  init(_ checkpoint: Checkpoint, on device: Device, precision: DType, imageChannels: Int?) throws {
    self.checkpoint = checkpoint
    self.device = device
    self.precision = precision
    text = try T5TextStage(checkpoint, "text_encoder", tokenizer: "tokenizer", precision: precision)
    transformer = try checkpoint.component("transformer")
    config = try WanTransformer3DConfig(transformer.configuration)
    vae = try checkpoint.vae
    vaeConfig = try AutoencoderKLWanConfig(vae.configuration)
    scheduler = try SchedulerFile(json: checkpoint.scheduler)
    try check(imageChannels: imageChannels)
  }

  /// What the reference can and this pipeline cannot, and components that do not fit each other.
  private func check(imageChannels: Int?) throws {
    // WAN 2.2: a transformer for each part of the schedule, or a timestep for each token.
    for (key, off) in [("boundary_ratio", StrictJSON.null), ("expand_timesteps", .bool(false))] {
      if let value = checkpoint.index[key], value != off, value != .null {
        throw ModelError.unsupported(
          model: checkpoint.pipeline, key: key, value: value.text, supported: [off.text])
      }
    }
    let latent = vaeConfig.latentChannels
    let beside = imageChannels == nil ? 0 : latent + vaeConfig.temporalDownscale
    try transformer.require(
      ("text_dim", config.textChannels, text.config.hiddenSize),
      ("in_channels", config.inChannels, latent + beside), ("out_channels", config.outChannels, latent),
      ("patch_size[0]", config.patch.frames, 1))
    guard config.imageChannels == imageChannels else {
      func text(_ channels: Int?) -> String { channels.map(String.init) ?? "null" }
      throw ModelError.unsupported(
        model: transformer.className, key: "image_dim", value: text(config.imageChannels),
        supported: [text(imageChannels)])
    }
    try scheduler.requireFlow()
  }

  /// A video's request with everything derived from it.
  public struct Resolved: ResolvedRequest {
    /// With every setting made.
    public let request: GenerationRequest
    /// Whether and how much the prompt is preferred to the negative.
    public let guidance: Guidance
    /// The sampler and its steps.
    public let sampling: ResolvedSampling
    /// [1, f, h, w, C] of one video.
    public let latentShape: Shape
    /// What was rounded, and settings without effect.
    public internal(set) var warnings: [String]
  }

  /// What width and height are multiples of.
  var sizeMultiple: (width: Int, height: Int) {
    (vaeConfig.downscale * config.patch.width, vaeConfig.downscale * config.patch.height)
  }

  /// 50 steps of the file's sampler, guidance 5; 81 frames of 832x480, 16 a second.
  ///
  /// Frames and sizes that the latent has no place for are rounded down, as the reference does, and a warning says so.
  /// Throws `GenerationError.badRequest` for more than the transformer has positions for.
  public func resolve(_ asked: GenerationRequest) throws -> Resolved {
    var request = asked
    var rounded: [String] = []
    let guidance = request.guidance(or: 5)
    _ = request.setting(\.framesPerSecond, or: 16)
    let (ratio, scale) = (vaeConfig.temporalDownscale, vaeConfig.downscale)
    let width = try round(
      &request, \.width, "width", or: 832, multiple: sizeMultiple.width, &rounded)
    let height = try round(
      &request, \.height, "height", or: 480, multiple: sizeMultiple.height, &rounded)
    let frames = try round(&request, \.frames, "frames", or: 81, least: 1, multiple: ratio, &rounded)
    let grid = [(frames - 1) / ratio + 1, height / scale, width / scale]
    let sampling = try request.sampling(scheduler, steps: 50, sampler: scheduler.sampler ?? .uniPC)
    try request.checkInitialLatents(Shape([request.imageCount, vaeConfig.latentChannels] + grid))
    return Resolved(
      request: request, guidance: guidance, sampling: sampling,
      latentShape: Shape([1] + grid + [vaeConfig.latentChannels]),
      warnings: rounded + request.idleSettings(guidance))
  }

  /// A setting rounded down to `least` more than a multiple.
  private func round(
    _ request: inout GenerationRequest, _ path: WritableKeyPath<GenerationRequest, Int?>, _ name: String,
    or value: Int, least: Int = 0, multiple: Int, _ lines: inout [String]
  ) throws -> Int {
    let value = request.setting(path, or: value)
    let limit = (config.maximumPositions - least) * multiple + least
    guard (1...limit).contains(value) else {
      throw GenerationError.badRequest("\(name) must be 1 to \(limit) for this model, got \(value)")
    }
    let rounded = max((value - least) / multiple, 1 - least) * multiple + least
    if rounded != value {
      let rule = (least == 0 ? "a multiple" : "one more than a multiple") + " of \(multiple)"
      lines.append("\(name) \(value) became \(rounded): this model needs \(rule)")
    }
    request[keyPath: path] = rounded
    return rounded
  }

  /// Runs the text encoder: [1, 512, C] of each text of each prompt, with zeros past its end. The transformer takes a
  /// list of them, one a row.
  public func condition(_ request: Resolved, _ run: GenerationRun) throws -> [Conditioned<[Tensor]>] {
    try text.encode(
      run.request.prompts(request.guidance), length: Self.textLength, padding: .zero,
      cleaning: PromptCleaning.wan, run
    ).map { $0.map { [$0] } }
  }

  /// Loads the transformer.
  public func denoiser(_ request: Resolved, _ conditioning: [Conditioned<[Tensor]>], _ run: GenerationRun)
    throws -> TrajectoryMaker
  {
    try trajectories(request, conditioning, run)
  }

  /// With what an image-to-video model reads: float32 [1, f, h, w, C] beside each latent, and an image's states.
  func trajectories(
    _ request: Resolved, _ conditioning: [Conditioned<[Tensor]>], beside: Tensor? = nil, image: Tensor? = nil,
    _ run: GenerationRun
  ) throws -> TrajectoryMaker {
    let weights = Weights(transformer.weights, on: device, as: precision, component: "transformer")
    let model = try run.load("transformer") { try WanTransformer3DModel(config, weights) }
    return { [precision, scheduler] images in
      let prompts = try Conditioned.joined(images.map { conditioning[run.request.prompt(of: $0)] })
      let denoiser = try request.guidance.denoiser(scheduler.noise.prediction, on: prompts) { contexts in
        { x, timestep in
          let rows = try contexts.enumerated().map { row, context in
            let own = try x.rows(row..<row + 1)
            let latent = try beside.map { try Tensor.concatenated([own, $0], axis: -1) } ?? own
            return try model(
              latent.cast(to: precision), timesteps: [timestep], text: context, image: image
            ).cast(to: .float32)
          }
          return try Tensor.concatenated(rows, axis: 0)
        }
      }
      return Trajectory(
        "transformer", of: images, by: request.sampling, denoiser: denoiser, shape: request.latentShape,
        latents: run.request.initialLatents)
    }
  }

  /// A projection of the first frame's latents where one is known, else the autoencoder's decoder.
  public func previewer(_ request: Resolved, _ conditioning: [Conditioned<[Tensor]>], _ run: GenerationRun)
    throws -> PixelDecoder
  {
    guard let projection = LatentProjection(vaeConfig) else {
      return try decoder(request, conditioning, run)
    }
    return { guess, _ in try projection(guess) }
  }

  /// Loads the autoencoder's decoder.
  public func decoder(_ request: Resolved, _ conditioning: [Conditioned<[Tensor]>], _ run: GenerationRun)
    throws -> PixelDecoder
  {
    let weights = Weights(vae.weights, on: device, as: .float32, component: "vae")
    let model = try run.load("autoencoder") { try AutoencoderKLWan(vaeConfig, weights, withEncoder: false) }
    return { latent, _ in
      let own = try model.denormalized(latent)
      let video = try run.compute("decoder", "the autoencoder's decoder") { try model.decode(own) }
      return try video.reshaped(Shape(Array(video.shape.dimensions.dropFirst())))
    }
  }
}
