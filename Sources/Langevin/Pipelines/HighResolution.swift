import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A second pass: what was drawn is enlarged, and drawn over in the larger size. A model that is asked for more than the
/// size it was made for repeats things; drawn this way, the first pass decides what is where.
public struct HighResolution: Sendable {
  /// How many times as wide and as high, above 1 and at most 8; sides are rounded to what the model takes.
  public var scale: Double
  /// The share of the schedule that is run on what was enlarged, above 0 and at most 1.
  public var strength: Double
  /// How the first pass is enlarged for the second.
  public var enlarging: Enlarging

  /// What enlarges what was drawn.
  public enum Enlarging: Sendable {
    /// Latents, by a bicubic filter. Little work, and blurred where the second pass is weak.
    case latent
    /// The decoded picture, by Lanczos' filter.
    case pixels
    /// The decoded picture, by a network of Real-ESRGAN.
    case network(UpscalerFile)
  }

  /// A second pass; by default pixels are enlarged, and half of the schedule is run on them.
  public init(scale: Double, strength: Double = 0.5, enlarging: Enlarging = .pixels) {
    (self.scale, self.strength, self.enlarging) = (scale, strength, enlarging)
  }
}

/// A second pass as a request runs it.
public struct SecondPass: Sendable {
  /// Pixels of the picture.
  public let width, height: Int
  /// [1, h, w, C] of one image.
  public let latentShape: Shape
  /// The sampler and the steps that are taken.
  public let sampling: ResolvedSampling
  /// How the first pass is enlarged for the second.
  public let enlarging: HighResolution.Enlarging

  /// `full` is the whole schedule of the first pass, and `latent` the shape of its latents.
  ///
  /// Throws `GenerationError.badRequest` for a size or an upscaler that does not fit, and `DiffusionError.strength`.
  init(
    _ settings: HighResolution, width: Int, height: Int, multiple: Int, latent: Shape,
    of full: ResolvedSampling
  ) throws {
    func enlarged(_ side: Int) -> Int {
      Int((Double(side) * settings.scale / Double(multiple)).rounded()) * multiple
    }
    (self.width, self.height) = (enlarged(width), enlarged(height))
    guard max(self.width, self.height) <= 16_384, self.width > width, self.height > height else {
      throw GenerationError.badRequest(
        "hires \(settings.scale) makes \(self.width)x\(self.height) of \(width)x\(height); "
          + "it must become larger, and up to 16384")
    }
    if case .network(let file) = settings.enlarging, settings.scale > Double(file.config.scale) {
      throw GenerationError.badRequest(
        "hires \(settings.scale) is more than the \(file.config.scale) that the upscaler '\(file.name)' enlarges"
      )
    }
    let unit = width / latent[2]
    latentShape = [1, self.height / unit, self.width / unit, latent[3]]
    sampling = ResolvedSampling(full.sampler, along: try full.schedule.starting(at: settings.strength))
    enlarging = settings.enlarging
  }
}

/// Enlarges what a first pass has drawn. It keeps its networks from one batch to the next, unless memory is short.
final class Enlarger {
  private let autoencoder: AutoencoderStage
  private let pass: SecondPass
  private let run: GenerationRun
  private var networks: (vae: AutoencoderKL, upscaler: Upscaler?)?

  init(_ autoencoder: AutoencoderStage, for pass: SecondPass, _ run: GenerationRun) {
    (self.autoencoder, self.pass, self.run) = (autoencoder, pass, run)
  }

  /// From latents [N, h, w, C] to what the second pass starts from.
  func callAsFunction(_ latents: Tensor) throws -> EncodedStart {
    if case .latent = pass.enlarging {
      return .clean(
        try stage("enlarge") {
          try latents.resizedBicubic(height: pass.latentShape[1], width: pass.latentShape[2])
        })
    }
    let loaded = try networks ?? load()
    networks = run.request.lowMemory ? nil : loaded
    let pictures = try (0..<latents.shape[0]).map { row in
      let pixels = try autoencoder.decode(latents.rows(row..<row + 1), loaded.vae, run)
      return try stage("enlarge") {
        let picture = try Picture(pixels)
        let scale = Int((Double(pass.width) / Double(picture.width)).rounded(.up))
        let large = try loaded.upscaler.map { try $0(picture, scale: min(scale, $0.config.scale)) } ?? picture
        return try large.resized(width: pass.width, height: pass.height, filter: .lanczos).tensor(
          on: run.device)
      }
    }
    return .picture(try autoencoder.encode(.joined(pictures), loaded.vae, run))
  }

  private func load() throws -> (vae: AutoencoderKL, upscaler: Upscaler?) {
    let vae = try autoencoder.load(withEncoder: true, run)
    guard case .network(let file) = pass.enlarging else { return (vae, nil) }
    return (
      vae,
      try run.load("upscaler", isOfRequest: true) {
        try Upscaler(file, on: run.device, precision: autoencoder.dtype)
      }
    )
  }
}
