import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A pipeline over an autoencoder's latents with a conditional UNet: Stable Diffusion 1.x, 2.x and XL, and what is
/// built like them. It supplies its networks, its defaults and what its prompts become; the rest is the same for all.
public protocol LatentPipeline: Pipeline
where Resolved == LatentRequest, Conditioning == LatentConditioning {
  /// The denoising network.
  var unet: UNetStage { get }
  /// Between pixels and latents.
  var autoencoder: AutoencoderStage { get }
  /// The model's noise.
  var scheduler: SchedulerFile { get }
  /// What a request gets that has no settings.
  var defaults: LatentDefaults { get }

  /// Runs the text encoders: what the UNet is conditioned on, one for each of the request's prompts.
  func inputs(_ request: LatentRequest, _ run: GenerationRun) throws -> [Conditioned<UNetConditioning>]
}

/// What the prompts and pictures of a latent pipeline's request became.
public struct LatentConditioning {
  /// What the UNet is conditioned on, one an image.
  public var inputs: [Conditioned<UNetConditioning>]
  /// What sampling starts from.
  public var start: EncodedStart

  /// What the UNet is conditioned on, one an image, and what sampling starts from.
  public init(inputs: [Conditioned<UNetConditioning>], start: EncodedStart) {
    (self.inputs, self.start) = (inputs, start)
  }
}

extension LatentPipeline {
  /// The schedule, the shapes and what sampling starts from.
  public func resolve(_ request: GenerationRequest) throws -> LatentRequest {
    try LatentRequest(request, or: defaults, scheduler, unet, autoencoder)
  }

  /// Runs the text encoders and, on a picture, the autoencoder's encoder.
  public func condition(_ request: LatentRequest, _ run: GenerationRun) throws -> LatentConditioning {
    let prompts = try inputs(request, run)
    return LatentConditioning(
      inputs: run.seeds.indices.map { prompts[run.request.prompt(of: $0)] },
      start: try autoencoder.encode(request, run))
  }

  /// Loads the UNet.
  public func denoiser(_ request: LatentRequest, _ conditioning: LatentConditioning, _ run: GenerationRun)
    throws -> TrajectoryMaker
  {
    try unet.trajectories(request, conditioning, scheduler, autoencoder, run)
  }

  /// Loads the autoencoder's decoder.
  public func decoder(_ request: LatentRequest, _ conditioning: LatentConditioning, _ run: GenerationRun)
    throws -> PixelDecoder
  {
    try autoencoder.decoder(run)
  }

  /// Loads TAESD where the folder has it, else the autoencoder's decoder.
  public func previewer(_ request: LatentRequest, _ conditioning: LatentConditioning, _ run: GenerationRun)
    throws -> PixelDecoder
  {
    try autoencoder.previewer(run)
  }
}

/// The conditional UNet `unet` of a checkpoint.
public struct UNetStage: Sendable {
  /// Its files.
  public let component: Checkpoint.Component
  /// Its sizes.
  public let config: UNet2DConditionConfig
  /// Storage of weights and activations.
  public let dtype: DType

  /// Reads the configuration. Throws `CheckpointError`, `ModelError`.
  public init(_ checkpoint: Checkpoint, precision: DType) throws {
    component = try checkpoint.unet
    config = try UNet2DConditionConfig(component.configuration)
    dtype = precision
  }

  /// Loads the network; each batch's trajectory goes from where `conditioning` starts, under the request's guidance.
  ///
  /// `stream` is `Trajectory.stream`. Throws `WeightError`, and what the caller of the run throws.
  public func trajectories(
    _ request: LatentRequest, _ conditioning: LatentConditioning, _ scheduler: SchedulerFile,
    _ autoencoder: AutoencoderStage, stream: UInt32 = 0, _ run: GenerationRun
  ) throws -> TrajectoryMaker {
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "unet")
    let network = BoundUNet(
      model: try run.load("unet") { try UNet2DConditionModel(config, weights) }, dtype: dtype)
    return { images in
      let input = try Conditioned.joined(images.map { conditioning.inputs[$0] })
      let denoiser = try request.guidance.denoiser(scheduler.noise.prediction, on: input, network.bound)
      return Trajectory(
        "unet", of: images, by: request.sampling, denoiser: denoiser, stream: stream
      ) { noise in
        try conditioning.start.latent(
          of: images, request.latentShape, along: request.sampling.schedule, autoencoder, &noise)
      }
    }
  }
}

/// A loaded UNet as denoisers call it. Whatever else a call takes than texts (a control network's residuals, an image
/// prompt's tokens) is added here: what is the same at every step in `UNetConditioning`, what depends on the noisy
/// latent or the timestep where the network is called.
struct BoundUNet {
  let model: UNet2DConditionModel
  let dtype: DType

  /// The network with its conditioning inside, of as many rows as the latents that it will be called on.
  func bound(to conditioning: UNetConditioning) -> Network {
    { x, timestep in
      let timesteps = [Float](repeating: timestep, count: x.shape[0])
      return try model(x.cast(to: dtype), timesteps: timesteps, conditioning: conditioning)
    }
  }
}

extension UNetConditioning: NetworkInput {}
