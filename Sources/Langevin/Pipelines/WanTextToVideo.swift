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
    .height, .initialLatents, .frames, .framesPerSecond,
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
  let tokenizer: T5Tokenizer
  let textEncoder: Checkpoint.Component
  let textConfig: T5EncoderConfig
  let transformer: Checkpoint.Component
  let config: WanTransformer3DConfig
  let vae: Checkpoint.Component
  let vaeConfig: AutoencoderKLWanConfig
  let schedule: SchedulerFile

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    self.checkpoint = checkpoint
    self.device = device
    self.precision = precision
    textEncoder = try checkpoint.textEncoder
    textConfig = try T5EncoderConfig(textEncoder.configuration)
    transformer = try checkpoint.component("transformer")
    config = try WanTransformer3DConfig(transformer.configuration)
    vae = try checkpoint.vae
    vaeConfig = try AutoencoderKLWanConfig(vae.configuration)
    schedule = try SchedulerFile(json: checkpoint.scheduler)
    guard case .folder(let folder) = try checkpoint.tokenizer else {
      throw CheckpointError.missingComponent(path: checkpoint.url.path, name: "tokenizer")
    }
    tokenizer = try T5Tokenizer(folder: folder)
    try check()
  }

  /// What the reference can and this pipeline cannot, and components that do not fit each other.
  private func check() throws {
    // WAN 2.2: a transformer for each part of the schedule, or a timestep for each token.
    for (key, off) in [("boundary_ratio", StrictJSON.null), ("expand_timesteps", .bool(false))] {
      if let value = checkpoint.index[key], value != off, value != .null {
        throw ModelError.unsupported(
          model: checkpoint.pipeline, key: key, value: value.text, supported: [off.text])
      }
    }
    for (key, found, expected) in [
      ("text_dim", config.textChannels, textConfig.hiddenSize),
      ("in_channels", config.inChannels, vaeConfig.latentChannels),
      ("out_channels", config.outChannels, vaeConfig.latentChannels),
      ("patch_size[0]", config.patch.frames, 1),
    ] where found != expected {
      throw ModelError.unsupported(
        model: transformer.className, key: key, value: "\(found)", supported: ["\(expected)"])
    }
    if let channels = config.imageChannels {
      throw ModelError.unsupported(
        model: transformer.className, key: "image_dim", value: "\(channels)", supported: ["null"])
    }
    guard schedule.noise.prediction == .flow else {
      throw ModelError.unsupported(
        model: "the scheduler", key: "prediction_type", value: schedule.noise.prediction.rawValue,
        supported: [Prediction.flow.rawValue])
    }
  }

  /// 50 steps of the file's sampler, guidance 5; 81 frames of 832x480, 16 a second.
  ///
  /// Frames and sizes that the latent has no place for are rounded down, as the reference does, and the request
  /// notes it. Throws `GenerationError.badRequest` for more than the transformer has positions for.
  public func fill(_ request: inout GenerationRequest) throws {
    request.guidance = request.guidance ?? 5
    request.steps = request.steps ?? 50
    request.sampler = request.sampler ?? schedule.sampler ?? .uniPC
    request.framesPerSecond = request.framesPerSecond ?? 16
    request.width = request.width ?? 832
    request.height = request.height ?? 480
    request.frames = request.frames ?? 81
    let (ratio, scale) = (vaeConfig.temporalDownscale, vaeConfig.downscale)
    for (name, setting, least, multiple) in [
      ("width", \GenerationRequest.width, 0, scale * config.patch.width),
      ("height", \GenerationRequest.height, 0, scale * config.patch.height),
      ("frames", \GenerationRequest.frames, 1, ratio),
    ] {
      guard let value = request[keyPath: setting] else { continue }
      let limit = (config.maximumPositions - least) * multiple + least
      guard (1...limit).contains(value) else {
        throw GenerationError.badRequest("\(name) must be 1 to \(limit) for this model, got \(value)")
      }
      let rounded = max((value - least) / multiple, 1 - least) * multiple + least
      guard rounded != value else { continue }
      request[keyPath: setting] = rounded
      let rule = (least == 0 ? "a multiple" : "one more than a multiple") + " of \(multiple)"
      request.notices.append("\(name) \(value) became \(rounded): this model needs \(rule)")
    }
  }

  /// A video's request with everything derived from it.
  public struct Plan {
    let request: GenerationRequest
    let isGuided: Bool
    let sampler: any Sampler
    let steps: Schedule
    /// [1, f, h, w, C] of one video.
    let latentShape: Shape
  }

  /// The schedule and the latent's shape.
  public func plan(_ request: GenerationRequest) throws -> Plan {
    guard let guidance = request.guidance, let count = request.steps, let sampler = request.sampler,
      let width = request.width, let height = request.height, let frames = request.frames
    else { preconditionFailure("the request was not filled") }
    let grid = [
      (frames - 1) / vaeConfig.temporalDownscale + 1, height / vaeConfig.downscale,
      width / vaeConfig.downscale,
    ]
    let channels = vaeConfig.latentChannels
    let made = try sampler.make(schedule)
    try request.checkInitialLatents(Shape([request.imageCount, channels] + grid))
    return Plan(
      request: request, isGuided: ClassifierFreeGuidance.isUsed(scale: guidance), sampler: made,
      steps: try made.schedule(schedule.noise, steps: count, choosing: request.levels),
      latentShape: Shape([1] + grid + [channels]))
  }

  /// What was rounded, and settings without effect.
  public func warnings(_ plan: Plan) -> [String] {
    let request = plan.request
    var lines = request.notices
    if !plan.isGuided && !request.negativePrompt.isEmpty {
      lines.append("the negative prompt has no effect without guidance (above 1)")
    }
    if !plan.isGuided && (request.guidanceRescale != nil || request.guidanceInterval != nil) {
      lines.append("guidance's rescale and interval have no effect without guidance (above 1)")
    }
    return lines
  }

  /// Runs the text encoder: [1, 512, C] of (negative, prompt) where guided, else of the prompt, for each prompt, with
  /// zeros past its end.
  public func condition(_ plan: Plan, _ run: GenerationRun) throws -> [[Tensor]] {
    let request = plan.request
    let texts = request.prompts + (plan.isGuided ? [request.negativePrompt] : [])
    let sequences = try texts.map { text in
      let sequence = tokenizer(PromptCleaning.wan(text), length: Self.textLength)
      if let rest = sequence.truncated { try run.report(.truncated(prompt: text, rest: rest)) }
      return sequence
    }
    let weights = Weights(textEncoder.weights, on: device, as: precision, component: "text_encoder")
    let encoder = try run.load("text encoder") { try T5EncoderModel(textConfig, weights) }
    let states = try sequences.map { sequence in
      try run.compute("text encoder", "the text encoder") {
        try encoder([sequence.ids], lengths: [sequence.length]).cast(to: precision)
      }
    }
    return request.prompts.indices.map {
      plan.isGuided ? [states[states.count - 1], states[$0]] : [states[$0]]
    }
  }

  /// Loads the transformer, guided where the plan is.
  public func denoiser(_ plan: Plan, _ conditioning: [[Tensor]], _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  {
    let weights = Weights(transformer.weights, on: device, as: precision, component: "transformer")
    let model = try run.load("transformer") { try WanTransformer3DModel(config, weights) }
    let (dtype, request) = (precision, plan.request)
    /// x has a row for each context.
    func velocity(_ x: Tensor, _ timestep: Float, _ contexts: [Tensor]) throws -> Tensor {
      let rows = try contexts.enumerated().map { row, context in
        try model(x.rows(row..<row + 1).cast(to: dtype), timesteps: [timestep], text: context)
          .cast(to: .float32)
      }
      return try Tensor.concatenated(rows, axis: 0)
    }
    return { image in
      let contexts = conditioning[request.prompt(of: image)]
      let guidance = ClassifierFreeGuidance(
        scale: request.guidance ?? 1, rescale: request.guidanceRescale ?? 0
      ) { x, timestep in try velocity(x, timestep, contexts) }
      let denoiser = GuidanceInterval(
        NetworkDenoiser(schedule.noise.prediction) { x, timestep in try guidance(x, timestep) },
        outside: NetworkDenoiser(schedule.noise.prediction) { x, timestep in
          try velocity(x, timestep, Array(contexts.suffix(1)))
        }, interval: request.guidanceInterval ?? 0 ... .infinity)
      return Trajectory(
        "transformer", plan.sampler, along: plan.steps, shape: plan.latentShape,
        denoiser: denoiser
      ) { noise in
        guard let initial = request.initialLatents else {
          return try plan.steps.initial(noise: noise.normal(plan.latentShape, for: .initial))
        }
        return try plan.steps.initial(noise: initial.tensor(on: noise.device).rows(image..<image + 1))
      }
    }
  }

  /// Loads the autoencoder's decoder.
  public func decoder(_ plan: Plan, _ conditioning: [[Tensor]], _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
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
