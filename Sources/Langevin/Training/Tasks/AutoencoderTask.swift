import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What only the training of an autoencoder can be told.
public struct AutoencoderSettings: Codable, Sendable, Equatable {
  /// How much the error of the differences between neighbouring pixels counts.
  public var gradientWeight = 0.5
  /// How much the distance of a picture's latents, all together, from normal noise counts.
  public var klWeight = 1e-6
  /// A CLIP's folder, whose image encoder compares pictures too; nil compares pixels alone.
  public var perceptual: String?
  /// How much its comparison counts.
  public var perceptualWeight = 0.1
  /// The side of the squares that are cut out of pictures, in pixels; nil is half of the width.
  public var cropSize: Int?
  /// The share of steps whose batch is made of such squares: they cost less than pictures.
  public var cropShare = 0.0
  /// Whether the encoder stays as it is, and with it what the latents of a trained diffusion model mean.
  public var decoderOnly = false
  /// The most noise that the decoder has to see through, in deviations of the latents: each sample's is a share of it. A
  /// diffusion model's latents are never quite an encoder's. arXiv:2510.11690, where the share is drawn half-normally.
  public var latentNoise = 0.0
  /// How many pictures, the last by their names, are not learnt from but measured.
  public var withheld = 0

  /// The defaults.
  public init() {}
}

/// Teaches an `AutoencoderKL` to reconstruct pictures: the mean absolute error of pixels, that of the differences of
/// neighbours, the mean square error, and the latents' Kullback-Leibler divergence from normal noise.
///
/// arXiv:2112.10752, section 3.1, without its adversary. The model is a pipeline's folder with a `vae`, or the
/// autoencoder's own.
public struct AutoencoderTask: ModelTask {
  public static let name = "autoencoder"
  public static let needsCaptions = false
  public static let defaults = AutoencoderSettings()

  /// Pictures, or squares cut out of them.
  public struct Batch: Sendable {
    let samples: Range<UInt64>
    /// -1 for black to 1 for white.
    let pixels: [Float]
    /// N, H, W, 3.
    let shape: Shape
  }

  public let networks: [TrainedNetwork]
  let context: TaskContext
  let settings: AutoencoderSettings
  let component: Checkpoint.Component
  let config: AutoencoderKLConfig
  /// Of the pictures that are learnt from.
  let batches: PictureBatches
  /// Places of the withheld pictures in the context's data, by their names.
  let withheld: [Int]
  private let isPipeline: Bool
  private let perceptual: PerceptualDistance?

  public init(_ context: TaskContext, _ settings: AutoencoderSettings) throws {
    (self.context, self.settings) = (context, settings)
    guard context.replay == nil else {
      throw SettingsError.value(
        key: "replay", expected: "left out: train autoencoder draws everything by lot")
    }
    isPipeline = FileManager.default.fileExists(
      atPath: context.model.appendingPathComponent("model_index.json").path)
    // What lacks a part could not be written again.
    if isPipeline { _ = try Checkpoint.open(context.model) }
    let component = try context.component(isPipeline ? "vae" : "")
    let config = try AutoencoderKLConfig(component.configuration)
    (self.component, self.config) = (component, config)
    networks = [
      TrainedNetwork(
        "vae", start: component.weights,
        isTrained: { [decoderOnly = settings.decoderOnly] name in
          !decoderOnly || name.hasPrefix("decoder.") || name.hasPrefix("post_quant_conv.")
        },
        build: { _ = try AutoencoderKL(config, $0) })
    ]
    withheld = try context.withheld(settings.withheld)
    batches = try context.without(withheld).batches(width: config.sampleSize, height: config.sampleSize)
    perceptual = try settings.perceptual.map { path in
      try PerceptualDistance(URL(fileURLWithPath: path), on: context.device)
    }
    try check()
  }

  private func check() throws {
    func require(_ condition: Bool, _ key: String, _ expected: String) throws {
      if !condition { throw SettingsError.value(key: key, expected: expected) }
    }
    let (width, height) = (batches.framing.width, batches.framing.height)
    for (key, size) in [("width", width), ("height", height)] {
      try require(
        size > 1 && size % config.downscale == 0, key,
        "a multiple of \(config.downscale) and at least 2, got \(size)")
    }
    try require((0...1).contains(settings.cropShare), "crop_share", "0 to 1")
    try require(settings.gradientWeight >= 0, "gradient_weight", "0 or more")
    try require(settings.klWeight >= 0, "kl_weight", "0 or more")
    try require(settings.perceptualWeight >= 0, "perceptual_weight", "0 or more")
    try require(
      settings.latentNoise >= 0 && settings.latentNoise.isFinite, "latent_noise", "0 or more")
    if settings.cropShare > 0 {
      try require(
        cropSize > 1 && cropSize % config.downscale == 0 && cropSize <= min(width, height), "crop_size",
        "a multiple of \(config.downscale) within \(width)x\(height), got \(cropSize)")
    }
  }

  // MARK: Batches

  private var cropSize: Int { settings.cropSize ?? batches.framing.width / 2 }

  /// Whether a step is made of squares. All parts of its batch are alike.
  private func isCropped(_ samples: Range<UInt64>) -> Bool {
    let first = samples.lowerBound - samples.lowerBound % UInt64(context.settings.batch)
    return uniform(first).x < settings.cropShare
  }

  /// A sample's own numbers in 0..<1: whether squares are cut, when it is a step's first; where; and the share of noise.
  private func uniform(_ sample: UInt64) -> SIMD4<Double> {
    let words = TrainingNoise.words(
      seed: context.settings.seed, sample: sample, TrainingNoise.choiceStream)
    return SIMD4(Double(words.x), Double(words.y), Double(words.z), Double(words.w)) * 0x1p-32
  }

  public func batch(_ samples: Range<UInt64>) throws -> Batch {
    let isCropped = isCropped(samples)
    let pictures = forEachInParallel(0..<samples.count) { place in
      let sample = samples.lowerBound + UInt64(place)
      return Result {
        let whole = try batches.picture(batches.framing.view(batches.order.choice(sample)))
        return isCropped ? whole.square(cropSize, at: uniform(sample)) : whole
      }
    }
    var pixels: [Float] = []
    for picture in pictures { pixels += try picture.get().pixels.lazy.map { Float($0) / 255 * 2 - 1 } }
    let framing = batches.framing
    let size = isCropped ? (cropSize, cropSize) : (framing.height, framing.width)
    return Batch(samples: samples, pixels: pixels, shape: [samples.count, size.0, size.1, 3])
  }

  // MARK: Loss

  public func loss(_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor {
    let picture = try Tensor(batch.pixels, batch.shape, on: context.device)
    let network = try AutoencoderKL(config, weights["vae"])
    let latent: Shape = [
      batch.shape[1] / config.downscale, batch.shape[2] / config.downscale, config.latentChannels,
    ]
    let noise = try TrainingNoise.posterior(
      batch.samples, latent, seed: context.settings.seed, on: context.device)
    return try loss(
      of: picture, noise: noise, disturbance: disturbance(batch.samples, latent), network,
      dtype: weights["vae"].dtype)
  }

  /// What is added to the latents of samples, float32 [N, shape...]; nil for nothing.
  func disturbance(_ samples: Range<UInt64>, _ shape: Shape) throws -> Tensor? {
    guard settings.latentNoise > 0 else { return nil }
    let most = Float(settings.latentNoise) / config.scalingFactor
    let strengths = samples.map { Float(uniform($0).w) * most }
    let noise = try TrainingNoise.noise(samples, shape, seed: context.settings.seed, on: context.device)
    return try noise * Tensor(strengths, [samples.count, 1, 1, 1], on: context.device)
  }

  /// Of pictures [N, H, W, 3] in -1...1, float32; the latents are drawn with `noise`, and `disturbance` is added. Float32 [1].
  func loss(
    of picture: Tensor, noise: Tensor, disturbance: Tensor? = nil, _ network: AutoencoderKL,
    dtype: DType = .float32
  ) throws -> Tensor {
    let posterior = try network.encode(picture.cast(to: dtype))
    let drawn = try posterior.sample(noise: noise.cast(to: dtype))
    let latent = try disturbance.map { try drawn + $0.cast(to: dtype) } ?? drawn
    let output = try network.decode(latent).cast(to: .float32)
    let error = try output - picture
    var terms = [
      (1, try mean(error.map(.abs))), (1, try mean(error.map(.square))),
      (Float(settings.gradientWeight), try differences(error)),
    ]
    // An encoder that stays as it is has nothing to gain from it.
    if !settings.decoderOnly { terms.append((Float(settings.klWeight), try divergence(posterior))) }
    if let perceptual {
      terms.append((Float(settings.perceptualWeight), try perceptual(output, picture)))
    }
    return try .combination(terms)
  }

  private func mean(_ x: Tensor) throws -> Tensor {
    try x.reduced(.mean, axes: Array(0..<x.shape.rank)).reshaped([1])
  }

  /// The mean over all pairs of neighbours, beside and below each other, of how much their errors differ.
  private func differences(_ error: Tensor) throws -> Tensor {
    let pairs = try [1, 2].map { axis in
      let length = error.shape[axis]
      let difference = try error.sliced(1..<length, axis: axis) - error.sliced(0..<length - 1, axis: axis)
      return try difference.map(.abs).reshaped([difference.shape.count])
    }
    return try mean(.concatenated(pairs, axis: 0))
  }

  /// In nats a picture: the sum over its latent, the mean over the batch. arXiv:1312.6114, appendix B.
  private func divergence(_ posterior: DiagonalGaussian) throws -> Tensor {
    let (mean, logVariance) = (
      try posterior.mean.cast(to: .float32), try posterior.logVariance.cast(to: .float32)
    )
    let each = try Tensor.combination([
      (0.5, mean.map(.square)), (0.5, logVariance.map(.exp)), (-0.5, logVariance),
    ])
    let count = Float(mean.shape.count)
    return try (self.mean(each) - 0.5) * (count / Float(mean.shape[0]))
  }

  // MARK: The model

  public func model(_ weights: NetworkWeights) throws -> ModelFolderWriter {
    let source = try weights("vae")
    var config = component.config
    if !settings.decoderOnly {
      let scale = try scalingFactor(AutoencoderKL(self.config, Weights(source, on: context.device)))
      config = config.replacing("scaling_factor", with: .real(Double(scale)))
    }
    var writer = try isPipeline ? ModelFolderWriter(copying: context.model) : ModelFolderWriter(pipeline: nil)
    writer.set("vae", .network(config: config, weights: source))
    return writer
  }
}

extension StrictJSON {
  /// An object with another value of a key, or with a new key at its end.
  func replacing(_ key: String, with value: StrictJSON) -> StrictJSON {
    guard case .object(var members) = self else { return self }
    if let place = members.firstIndex(where: { $0.key == key }) {
      members[place].value = value
    } else {
      members.append(Member(key, value))
    }
    return .object(members)
  }
}

extension Picture {
  /// A square of the picture; y and z of `place`, in 0..<1, say where in the room that it has.
  fileprivate func square(_ side: Int, at place: SIMD4<Double>) -> Picture {
    let (left, top) = (Int(place.y * Double(width - side + 1)), Int(place.z * Double(height - side + 1)))
    var square: [UInt8] = []
    square.reserveCapacity(side * side * 3)
    for row in top..<top + side {
      let start = (row * width + left) * 3
      square += pixels[start..<start + side * 3]
    }
    return Picture(unchecked: square, width: side, height: side)
  }
}
