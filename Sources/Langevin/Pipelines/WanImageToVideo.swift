import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// WAN 2.1, picture to video (arXiv:2503.20314, section 5.1), as diffusers' `WanImageToVideoPipeline` runs it: the video's
/// first frame is a picture, which the transformer sees beside each latent and through CLIP's image encoder.
public struct WanImageToVideo: Pipeline {
  /// One class; folders of WAN 2.2 have the same and are refused by their settings.
  public static let classes = ["WanImageToVideoPipeline"]
  /// Those of text to video, and the image encoder with its preparation.
  public static let components =
    WanTextToVideo.components + [
      ComponentNeed("image_encoder", "CLIPVisionModel", "CLIPVisionModelWithProjection"),
      ComponentNeed("image_processor"),
    ]
  /// Every video is sampled from noise.
  public static let options = WanTextToVideo.options.subtracting([.initialLatents]).union([.image])

  let video: WanTextToVideo
  let imageEncoder: Checkpoint.Component
  let imageConfig: CLIPVisionConfig
  let preparation: ImagePreparation

  /// What it was made of.
  public var checkpoint: Checkpoint { video.checkpoint }
  /// Where everything is computed.
  public var device: Device { video.device }

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    imageEncoder = try checkpoint.component("image_encoder")
    imageConfig = try CLIPVisionConfig(imageEncoder.configuration)
    let file = checkpoint.url.appendingPathComponent("image_processor/preprocessor_config.json")
    preparation = try ImagePreparation(
      checkpoint.featureExtractor(named: "image_processor"), path: file.path)
    video = try WanTextToVideo(
      checkpoint, on: device, precision: precision, imageChannels: imageConfig.hiddenSize)
  }

  /// The defaults of text to video, but that a picture's proportions are kept where no size is asked for.
  ///
  /// Throws `GenerationError.badRequest` unless there is one picture.
  public func resolve(_ asked: GenerationRequest) throws -> WanTextToVideo.Resolved {
    guard asked.images.count == 1, let picture = asked.image else {
      throw GenerationError.badRequest(
        asked.images.isEmpty
          ? "this model makes a video of an image: it needs one to begin with"
          : "\(asked.images.count) images; this model starts from one")
    }
    var request = asked
    if request.width == nil, request.height == nil {
      // As many pixels as text to video has.
      let (area, ratio) = (832.0 * 480, Double(picture.width) / Double(picture.height))
      let multiple = video.sizeMultiple
      func side(_ pixels: Double, _ multiple: Int) -> Int { max(Int(pixels) / multiple, 1) * multiple }
      request.width = side((area * ratio).squareRoot().rounded(), multiple.width)
      request.height = side((area / ratio).squareRoot().rounded(), multiple.height)
    }
    var resolved = try video.resolve(request)
    if let width = resolved.request.width, let height = resolved.request.height,
      let line = resolved.request.fitWarning(
        picture.width, picture.height, "image", width: width, height: height)
    {
      resolved.warnings.append(line)
    }
    return resolved
  }

  /// What the prompts and the picture became.
  public struct Conditioning {
    var texts: [Conditioned<[Tensor]>]
    /// The image encoder's states, [1, S, C].
    var image: Tensor
    /// What the transformer reads beside each latent, float32 [1, f, h, w, C].
    var beside: Tensor
  }

  /// Runs the text encoder, the image encoder and the autoencoder's encoder, one after the other.
  public func condition(_ request: WanTextToVideo.Resolved, _ run: GenerationRun) throws -> Conditioning {
    let texts = try video.condition(request, run)
    guard let picture = run.request.image else { throw GenerationError.badRequest("there is no image") }
    return Conditioning(
      texts: texts, image: try states(of: picture, run), beside: try beside(picture, request, run))
  }

  /// Those of the last layer but one.
  private func states(of picture: Picture, _ run: GenerationRun) throws -> Tensor {
    let precision = video.precision
    let weights = Weights(imageEncoder.weights, on: device, as: precision, component: "image_encoder")
    let encoder = try run.load("image encoder") { () -> CLIPVisionModel in
      guard imageEncoder.className == "CLIPVisionModelWithProjection" else {
        return try CLIPVisionModel(imageConfig, weights)
      }
      return try CLIPVisionModelWithProjection(imageConfig, weights).vision
    }
    let input = try preparation([picture], on: device).cast(to: precision)
    return try run.compute("image encoder", "the image encoder") { try encoder(input).hiddenState }
  }

  /// A mask, 1 for every frame that the first latent frame stands for, and the latent of the picture before grey.
  private func beside(_ picture: Picture, _ request: WanTextToVideo.Resolved, _ run: GenerationRun) throws
    -> Tensor
  {
    let config = video.vaeConfig
    let weights = Weights(video.vae.weights, on: device, as: .float32, component: "vae")
    let model = try run.load("autoencoder") { try AutoencoderKLWan(config, weights) }
    let (shape, ratio) = (request.latentShape, config.temporalDownscale)
    let (width, height) = (shape[3] * config.downscale, shape[2] * config.downscale)
    let frames = (shape[1] - 1) * ratio + 1
    let first = try picture.fitted(width: width, height: height, run.request.imageFit).tensor(on: device)
    let latent = try run.compute("encoder", "the autoencoder's encoder") {
      let whole = try first.reshaped([1, 1, height, width, 3])
        .padded(before: [0, 0, 0, 0, 0], after: [0, frames - 1, 0, 0, 0])
      return try model.normalized(model.encode(whole).mean)
    }
    let mask = try Tensor.fill(1, [1, 1, shape[2], shape[3], ratio], on: device)
      .padded(before: [0, 0, 0, 0, 0], after: [0, shape[1] - 1, 0, 0, 0])
    return try Tensor.concatenated([mask, latent], axis: -1)
  }

  /// Loads the transformer.
  public func denoiser(
    _ request: WanTextToVideo.Resolved, _ conditioning: Conditioning, _ run: GenerationRun
  ) throws -> TrajectoryMaker {
    try video.trajectories(
      request, conditioning.texts, beside: conditioning.beside, image: conditioning.image, run)
  }

  /// That of text to video.
  public func previewer(
    _ request: WanTextToVideo.Resolved, _ conditioning: Conditioning, _ run: GenerationRun
  ) throws -> PixelDecoder {
    try video.previewer(request, conditioning.texts, run)
  }

  /// Loads the autoencoder's decoder.
  public func decoder(
    _ request: WanTextToVideo.Resolved, _ conditioning: Conditioning, _ run: GenerationRun
  ) throws -> PixelDecoder {
    try video.decoder(request, conditioning.texts, run)
  }
}
