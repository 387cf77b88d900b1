import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// What sampling starts from, in latents.
public enum EncodedStart: Sendable {
  case noise
  /// In the place of the noise, [images, C, h, w].
  case latents(HostLatents)
  /// The latents that a picture may have, [1, h, w, C], or those of each picture of a batch.
  case picture(DiagonalGaussian)
  /// Latents without noise, those of one image or of each of a batch.
  case clean(Tensor)
  /// A picture of which a part is kept.
  case repainting(EncodedRepainting)

  /// The start of a batch; `shape` is one image's, [1, h, w, C].
  func prepare(
    _ images: Range<Int>, _ shape: Shape, along steps: Schedule, _ autoencoder: AutoencoderStage,
    _ noise: inout NoiseSource
  ) throws -> PreparedStart {
    let shape = shape.replacing(axis: 0, with: images.count)
    switch self {
    case .noise: return PreparedStart(latent: try steps.initial(noise: noise.normal(shape, for: .initial)))
    case .latents(let initial):
      return PreparedStart(latent: try steps.initial(noise: initial.tensor(on: noise.device).rows(images)))
    case .picture(let posterior):
      let clean = try autoencoder.scaled(posterior.sample(noise: noise.normal(shape, for: .posterior)))
      return PreparedStart(latent: try steps.addingNoise(noise.normal(shape, for: .initial), to: clean))
    case .clean(let clean):
      return PreparedStart(latent: try steps.addingNoise(noise.normal(shape, for: .initial), to: clean))
    case .repainting(let repainting): return try repainting.prepare(shape, along: steps, autoencoder, &noise)
    }
  }
}

/// A pipeline over an autoencoder's latents, whose decoder makes pictures of them.
public protocol AutoencodedPipeline: Pipeline {
  /// Between pixels and latents.
  var autoencoder: AutoencoderStage { get }
}

extension AutoencodedPipeline {
  /// Loads the autoencoder's decoder.
  public func decoder(_ request: Resolved, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> PixelDecoder
  {
    try autoencoder.decoder(run)
  }

  /// Loads TAESD where the folder has it, else what `AutoencoderStage.previewer` has.
  public func previewer(_ request: Resolved, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> PixelDecoder
  {
    try autoencoder.previewer(run)
  }
}

/// The autoencoder `vae` of a checkpoint.
public struct AutoencoderStage: Sendable {
  let component: Checkpoint.Component
  /// The autoencoder's config.json.
  public let config: AutoencoderKLConfig
  /// TAESD, for previews: a folder `taesd` beside the others.
  let tiny: Checkpoint.Component?
  /// Storage of weights and activations: float32 where its configuration forces it.
  public let dtype: DType

  /// Reads the autoencoder's configuration; weights are loaded with its encoder and decoder. Throws `CheckpointError`, `ModelError`.
  public init(_ checkpoint: Checkpoint, precision: DType) throws {
    component = try checkpoint.vae
    config = try AutoencoderKLConfig(component.configuration)
    dtype = config.forceUpcast ? .float32 : precision
    tiny = try checkpoint.contains("taesd") ? checkpoint.component("taesd") : nil
  }

  /// Pixels a latent, along each side.
  public var scale: Int { config.downscale }

  func load(withEncoder: Bool, _ run: GenerationRun) throws -> AutoencoderKL {
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "vae")
    // One that is kept is for every request.
    let withEncoder = withEncoder || run.keepsNetworks
    return try run.load("autoencoder") { try AutoencoderKL(config, weights, withEncoder: withEncoder) }
  }

  /// What sampling starts from; runs the encoder on a picture, and frees it. `input` is what the UNet reads.
  ///
  /// Throws `WeightError`, `TensorError`.
  public func encode(_ request: LatentRequest, for input: UNetStage.Input, _ run: GenerationRun) throws
    -> EncodedStart
  {
    switch request.start {
    case .noise: return .noise
    case .latents(let latents): return .latents(latents)
    case .picture(let picture):
      let vae = try load(withEncoder: true, run)
      let fitted = picture.fitted(width: request.width, height: request.height, request.request.imageFit)
      return .picture(try encode(fitted.tensor(on: run.device), vae, run))
    case .repainting(let repainting):
      let vae = try load(withEncoder: true, run)
      let isFull = request.request.strength == 1
      let picture = repainting.picture
      return .repainting(
        EncodedRepainting(
          clean: input == .inpainting && isFull ? nil : try encode(picture.tensor(on: run.device), vae, run),
          masked: input == .inpainting
            ? try encode(picture.tensor(hiding: repainting.mask, on: run.device), vae, run) : nil,
          mask: try repainting.mask.tensor(scale: scale, on: run.device), isFull: isFull))
    }
  }

  /// The latents that pictures [N, H, W, 3] may have.
  func encode(_ pixels: Tensor, _ vae: AutoencoderKL, _ run: GenerationRun) throws -> DiagonalGaussian {
    try stage("encoder") { try vae.encode(pixels.cast(to: dtype), tiling: run.request.tiling) }
  }

  /// From the autoencoder's own latents to the diffusion model's, float32. Throws `TensorError`.
  public func scaled(_ latent: Tensor) throws -> Tensor {
    try latent.cast(to: .float32).affine(
      scale: config.scalingFactor, offset: -config.shiftFactor * config.scalingFactor)
  }

  /// Loads TAESD's decoder, for the diffusion model's latents. Without it a linear projection of them is the preview, and
  /// where none is known for them the autoencoder's decoder.
  ///
  /// Throws `WeightError`, `ModelError`.
  public func previewer(_ run: GenerationRun) throws -> PixelDecoder {
    guard let tiny else {
      guard let projection = LatentProjection(config) else { return try decoder(run) }
      return { guess, _ in try projection(guess) }
    }
    let config = try AutoencoderTinyConfig(tiny.configuration)
    let weights = Weights(tiny.weights, on: run.device, component: "taesd")
    let model = try run.load("preview decoder") {
      try AutoencoderTiny(config, weights, withEncoder: false)
    }
    return { guess, _ in try model.decode(guess) }
  }

  /// Loads the decoder, for the diffusion model's latents. Throws `WeightError`.
  public func decoder(_ run: GenerationRun) throws -> PixelDecoder {
    let vae = try load(withEncoder: false, run)
    return { latent, _ in try decode(latent, vae, run) }
  }

  /// The pixels of the diffusion model's latents, float32.
  func decode(_ latent: Tensor, _ vae: AutoencoderKL, _ run: GenerationRun) throws -> Tensor {
    let own = try latent.affine(scale: 1 / config.scalingFactor, offset: config.shiftFactor).cast(to: dtype)
    return try run.compute("decoder", "the autoencoder's decoder") {
      try vae.decode(own, tiling: run.request.tiling).cast(to: .float32)
    }
  }
}
