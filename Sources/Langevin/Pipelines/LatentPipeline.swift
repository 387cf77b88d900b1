import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A pipeline over an autoencoder's latents with a conditional UNet: Stable Diffusion 1.x, 2.x and XL, and what is
/// built like them. It supplies its networks, its defaults and what its prompts become; the rest is the same for all.
public protocol LatentPipeline: AutoencodedPipeline
where Resolved == LatentRequest, Conditioning == LatentConditioning {
  /// The denoising network.
  var unet: UNetStage { get }
  /// The noise that the model was trained with, and the sampler that its folder names.
  var scheduler: SchedulerFile { get }
  /// What a request gets that has no settings.
  var defaults: LatentDefaults { get }

  /// Runs the text encoders: what the UNet is conditioned on, one for each of the request's prompts.
  func inputs(_ request: LatentRequest, _ run: GenerationRun) throws -> [Conditioned<UNetConditioning>]

  /// What the UNet is conditioned on where it draws in another size.
  func resized(_ input: UNetConditioning, width: Int, height: Int) -> UNetConditioning
}

/// What the prompts and pictures of a latent pipeline's request became.
public struct LatentConditioning {
  /// What the UNet is conditioned on, one an image.
  public var inputs: [Conditioned<UNetConditioning>]
  /// The same for a second pass; empty where there is none.
  var secondInputs: [Conditioned<UNetConditioning>] = []
  /// What sampling starts from.
  public var start: EncodedStart
  /// What the request's image prompt became.
  var imagePrompt: EncodedImagePrompt?

  /// What the UNet is conditioned on, one an image, and what sampling starts from.
  public init(inputs: [Conditioned<UNetConditioning>], start: EncodedStart) {
    (self.inputs, self.start) = (inputs, start)
  }
}

extension LatentPipeline {
  /// By default the same: the network is not told the size.
  public func resized(_ input: UNetConditioning, width: Int, height: Int) -> UNetConditioning { input }

  /// The schedule, the shapes and what sampling starts from.
  public func resolve(_ request: GenerationRequest) throws -> LatentRequest {
    try LatentRequest(request, or: defaults, scheduler, unet, autoencoder)
  }

  /// Runs the text encoders and, on a picture, the autoencoder's encoder.
  public func condition(_ request: LatentRequest, _ run: GenerationRun) throws -> LatentConditioning {
    let prompts = try inputs(request, run)
    var conditioning = LatentConditioning(
      inputs: run.seeds.indices.map { prompts[run.request.prompt(of: $0)] },
      start: try autoencoder.encode(request, for: unet.input, run))
    if let second = request.second {
      conditioning.secondInputs = conditioning.inputs.map { input in
        input.map { resized($0, width: second.width, height: second.height) }
      }
    }
    conditioning.imagePrompt = try request.request.imagePrompt.map {
      try EncodedImagePrompt($0, as: unet.dtype, run)
    }
    return conditioning
  }

  /// Loads the UNet with its controls; the closure gives the trajectory of image k.
  public func denoiser(_ request: LatentRequest, _ conditioning: LatentConditioning, _ run: GenerationRun)
    throws -> TrajectoryMaker
  {
    try unet.trajectories(request, conditioning, scheduler, autoencoder, run)
  }
}

/// The conditional UNet `unet` of a checkpoint.
public struct UNetStage: Sendable {
  /// The UNet's folder or part of a file.
  public let component: Checkpoint.Component
  /// The UNet's config.json.
  public let config: UNet2DConditionConfig
  /// Storage of weights and activations.
  public let dtype: DType
  /// Whether the UNet reads latents alone, or a mask and the masked picture too.
  public let input: Input

  /// What a UNet reads, along channels.
  public enum Input: Sendable {
    /// The noisy latent.
    case latent
    /// The noisy latent, the mask and the latent of the picture without what is drawn anew.
    case inpainting
  }

  /// Opens the UNet's files and reads its configuration; `run` loads the weights.
  ///
  /// Throws `CheckpointError`, and `ModelError` also for input channels that are not for these latents.
  public init(_ checkpoint: Checkpoint, for autoencoder: AutoencoderStage, precision: DType) throws {
    component = try checkpoint.unet
    config = try UNet2DConditionConfig(component.configuration)
    dtype = precision
    let channels = autoencoder.config.latentChannels
    switch config.inChannels {
    case channels: input = .latent
    case 2 * channels + 1: input = .inpainting
    default:
      throw ModelError.unsupported(
        model: component.className, key: "in_channels", value: "\(config.inChannels)",
        supported: ["\(channels)", "\(2 * channels + 1) (inpainting)"])
    }
  }

  /// Loads the network, and those of the request that add to it; each batch's trajectory goes from where
  /// `conditioning` starts, under the request's guidance.
  ///
  /// `stream` is `Trajectory.stream`. Throws `WeightError`, and what the caller of the run throws.
  public func trajectories(
    _ request: LatentRequest, _ conditioning: LatentConditioning, _ scheduler: SchedulerFile,
    _ autoencoder: AutoencoderStage, stream: UInt32 = 0, _ run: GenerationRun
  ) throws -> TrajectoryMaker {
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "unet")
    let model = try run.load("unet") { try UNet2DConditionModel(config, weights) }
    // Without what else may add to it: the request has none of it then.
    let otherDevice = request.guidance.isUsed ? request.request.guidanceDevice : nil
    let other = try otherDevice.map { device in
      let weights = Weights(component.weights, on: device, as: dtype, component: "unet")
      let model = try run.load("unet on \(device.name)") { try UNet2DConditionModel(config, weights) }
      return (unet: BoundUNet(model: model, dtype: dtype), device: device)
    }
    let controls = try request.request.controls.enumerated().map { index, control in
      let number = request.request.controls.count > 1 ? " \(index + 1)" : ""
      var control = control
      control.network = control.network.completed(by: config)
      return try ControlModel(control, as: dtype, name: "control network" + number, run)
    }
    func bound(width: Int, height: Int) throws -> BoundUNet {
      BoundUNet(
        model: model, dtype: dtype,
        controls: try controls.map {
          try $0.seeing(width: width, height: height, fit: request.request.imageFit, run)
        }, imagePrompt: imagePrompt)
    }
    let imagePrompt = try conditioning.imagePrompt?.load(config, as: dtype, run)
    func trajectory(
      _ images: Range<Int>, _ network: BoundUNet, _ inputs: [Conditioned<UNetConditioning>],
      by sampling: ResolvedSampling, from start: PreparedStart, stream: UInt32
    ) throws -> Trajectory {
      var network = network
      network.beside = start.beside
      let texts = try Conditioned.joined(images.map { inputs[$0] })
      let input = try network.imagePrompt?.inputs(texts, count: images.count) ?? texts.map { UNetInput($0) }
      let cache = request.request.cache.map { UNetCacheRun($0, along: sampling.schedule) }
      func denoiser(_ guidance: Guidance, on input: Conditioned<UNetInput>) throws -> any Denoiser {
        let halves = other.map { other in
          { (negative: UNetInput, prompt: UNetInput) in
            ClassifierFreeGuidance.split(
              negative: try other.unet.bound(to: negative.texts.copied(to: other.device)), on: other.device,
              prompt: try network.bound(to: prompt))
          }
        }
        return try guidance.denoiser(scheduler.noise.prediction, on: input, halves: halves) { rows in
          try network.bound(
            to: rows, cache: cache?.network(isGuided: rows.texts.context.shape[0] > images.count))
        }
      }
      let guided = try denoiser(request.guidance, on: input)
      let gated =
        try cache?.gated(guided) {
          // As the reference: past the gate pooled text and sizes are the negative's.
          var rest = input.prompt
          if case .guided(let negative, _) = input { rest.texts.textTime = negative.texts.textTime }
          return try denoiser(Guidance(scale: 1), on: .plain(rest))
        } ?? guided
      return Trajectory(
        "unet", of: images, by: sampling, denoiser: gated, stream: stream, adjust: start.adjust
      ) { _ in start.latent }
    }
    let first = try bound(width: request.width, height: request.height)
    func firstTrajectory(_ images: Range<Int>) throws -> Trajectory {
      let start = try run.drawing(for: images, stream: stream) { noise in
        try conditioning.start.prepare(
          images, request.latentShape, along: request.sampling.schedule, autoencoder, &noise)
      }
      return try trajectory(
        images, first, conditioning.inputs, by: request.sampling, from: start, stream: stream)
    }
    guard let pass = request.second else { return firstTrajectory }
    let second = try bound(width: pass.width, height: pass.height)
    let enlarger = Enlarger(autoencoder, for: pass, run)
    let previewer = try run.request.previewEvery.map { _ in try autoencoder.previewer(run) }
    return { images in
      let drawn = try enlarger(run.sample(firstTrajectory(images), previewer: previewer))
      // Its noise has nothing in common with the first pass's.
      let start = try run.drawing(for: images, stream: stream + 1) { noise in
        try drawn.prepare(images, pass.latentShape, along: pass.sampling.schedule, autoencoder, &noise)
      }
      return try trajectory(
        images, second, conditioning.secondInputs, by: pass.sampling, from: start, stream: stream + 1)
    }
  }
}

/// A loaded UNet as denoisers call it, with the networks that add to it.
struct BoundUNet {
  let model: UNet2DConditionModel
  let dtype: DType
  var controls: [LoadedControl] = []
  var imagePrompt: LoadedImagePrompt?
  /// What it reads beside each noisy latent, float32 [N, h, w, C]; nil for nothing.
  var beside: Tensor?

  /// The network with its input inside, of as many rows as the latents that it will be called on. `cache` says what
  /// each call need not compute.
  func bound(
    to input: UNetInput, cache: ((_ timestep: Float, _ additions: inout UNetAdditions) -> Void)? = nil
  ) throws -> Network {
    let fixed = try fixedAdditions(input)
    let rows = input.texts.context.shape[0]
    // The same for the negative's rows as for the prompt's.
    let beside = try beside.map { tensor in
      try Tensor.concatenated(Array(repeating: tensor, count: max(rows / tensor.shape[0], 1)), axis: 0)
    }
    return { x, timestep in
      let timesteps = [Float](repeating: timestep, count: rows)
      var additions = fixed
      cache?(timestep, &additions)
      for case .controlNet(let network, let hint, let scale) in controls {
        try additions.add(
          network(
            x.cast(to: dtype), timesteps: timesteps, conditioning: input.texts, hint: hint, scale: scale))
      }
      let latent = try (beside.map { try Tensor.concatenated([x, $0], axis: -1) } ?? x).cast(to: dtype)
      return try model(latent, timesteps: timesteps, conditioning: input.texts, additions: additions)
    }
  }

  /// The network with its conditioning inside, where nothing adds to it.
  func bound(to texts: UNetConditioning) throws -> Network { try bound(to: UNetInput(texts)) }

  /// What is the same in every step.
  private func fixedAdditions(_ input: UNetInput) throws -> UNetAdditions {
    var additions = UNetAdditions()
    for case .features(let features) in controls { try additions.add(features) }
    if let imagePrompt, let tokens = input.imageTokens {
      try additions.add(imagePrompt.adapter(tokens, scale: imagePrompt.scale))
    }
    return additions
  }
}

/// What a UNet and the networks that add to it take, one row an image.
struct UNetInput: NetworkInput {
  var texts: UNetConditioning
  /// Of an image prompt, [N, S, C].
  var imageTokens: Tensor?

  init(_ texts: UNetConditioning, imageTokens: Tensor? = nil) {
    (self.texts, self.imageTokens) = (texts, imageTokens)
  }

  static func joined(_ parts: [UNetInput]) throws -> UNetInput {
    let tokens = parts.compactMap(\.imageTokens)
    return UNetInput(
      try .joined(parts.map(\.texts)), imageTokens: tokens.isEmpty ? nil : try .joined(tokens))
  }
}

extension UNetConditioning: NetworkInput {}
