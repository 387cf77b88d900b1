import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What only the training of a denoiser can be told.
public struct DiffusionSettings: Codable, Sendable, Equatable {
  /// What the network learns to say: `epsilon`, `v_prediction` or `sample`; nil is what the model's
  /// scheduler says.
  public var prediction: String?
  /// The gamma of min-SNR weights; nil weighs all noise levels the same.
  public var snrGamma: Double?
  /// `uniform`, `stratified` or `logit-normal`.
  public var timesteps = "uniform"
  /// Of `logit-normal`.
  public var logitMean = 0.0
  /// Of `logit-normal`.
  public var logitDeviation = 1.0
  /// The share of samples whose caption is empty, by which guidance is learnt.
  public var dropCaption = 0.1
  /// The share of samples without an image embedding, where the model takes one; whether a caption is left out is
  /// drawn apart from it.
  public var dropImage = 0.1
  /// The most noise that an image embedding gets, a timestep of the model's own schedule for it; nil is the last.
  public var maxNoiseLevel: Int?
  /// Whether the text encoder learns along.
  public var trainTextEncoder = false
  /// The text encoder's rate in units of the run's.
  public var textRate = 0.25
  /// Whether the last convolution of each residual block and of the network start at zero, where they start from nothing.
  public var zeroInit = false
  /// Bytes of latents and text states to keep.
  public var cacheBytes = 2 << 30
  /// What to draw now and then.
  public var prompts: [String] = []
  /// With which guidance; nil is what the model recommends.
  public var guidance: Double?
  /// In how many steps; nil is what the model recommends.
  public var sampleSteps: Int?

  /// The defaults.
  public init() {}
}

/// Teaches a UNet to denoise: pictures by themselves (`DDPMPipeline`), latents of captioned pictures
/// (`StableDiffusionPipeline`) whose captions are sometimes left out, or these with CLIP's embedding of the picture
/// itself (`StableUnCLIPImg2ImgPipeline`). arXiv:2006.11239, algorithm 1; arXiv:2112.10752,
/// eq. 3; arXiv:2207.12598, algorithm 1.
public struct DiffusionTask: ModelTask {
  public static let name = "diffusion"
  public static let defaults = DiffusionSettings()

  /// Samples as the host knows them; pictures are read where their latents are not kept.
  public struct Batch: Sendable {
    let samples: Range<UInt64>
    let views: [PictureView]
    /// Empty where it was dropped.
    let captions: [String]
  }

  let context: TaskContext
  let settings: DiffusionSettings
  let checkpoint: Checkpoint
  public let networks: [TrainedNetwork]
  let unet: Checkpoint.Component
  let prediction: Prediction
  private let levels: NoiseSchedule.TrainingLevels
  private let weighting: LossWeighting
  private let sampling: TimestepSampling
  private let batches: PictureBatches
  /// Nil where the network sees pixels.
  let latents: LatentCache?
  /// Nil where the network sees no text.
  let text: CaptionEncoder?
  /// Nil where the network sees no image embedding.
  let image: ImageCondition?

  public init(_ context: TaskContext, _ settings: DiffusionSettings) throws {
    (self.context, self.settings) = (context, settings)
    if let prediction = settings.prediction, !Checkpoint.predictions.contains(prediction) {
      throw SettingsError.value(
        key: "prediction", expected: Checkpoint.predictions.joined(separator: ", "))
    }
    checkpoint = try Checkpoint.open(context.model, prediction: settings.prediction)
    guard Self.pipelines.contains(checkpoint.pipeline) else { throw Self.unsupported(checkpoint) }
    let schedule = try NoiseSchedule(json: checkpoint.scheduler)
    prediction = schedule.prediction
    levels = try NoiseSchedule.TrainingLevels(schedule)
    weighting = try settings.weighting()
    sampling = try settings.sampling()
    guard settings.textRate >= 0, settings.textRate <= 1000 else {
      throw SettingsError.value(key: "text_rate", expected: "0 to 1000")
    }

    let unet = try context.component(
      "unet", settings.zeroInit ? Self.zeroInitialized : InitialWeights.pytorch)
    self.unet = unet
    let config = try unet.configuration
    switch checkpoint.pipeline {
    case "DDPMPipeline", "DDIMPipeline":
      let network = try UNet2DConfig(config)
      networks = [
        TrainedNetwork("unet", start: unet.weights) { _ = try UNet2DModel(network, $0) }
      ]
      (latents, text, image) = (nil, nil, nil)
      let size = network.sampleSize ?? 0
      batches = try context.batches(width: size, height: size)
      try Self.check(batches.framing, multiple: network.sizeMultiple)
    case "StableDiffusionPipeline", "StableUnCLIPImg2ImgPipeline":
      let network = try UNet2DConditionConfig(config)
      var networks = [
        TrainedNetwork("unet", start: unet.weights) { _ = try UNet2DConditionModel(network, $0) }
      ]
      let text = try CaptionEncoder(
        context, checkpoint, isTrained: settings.trainTextEncoder, cacheBytes: settings.cacheBytes / 4)
      if settings.trainTextEncoder { networks.append(text.network(rateScale: Float(settings.textRate))) }
      self.networks = networks
      self.text = text
      let autoencoder = try AutoencoderKLConfig(checkpoint.vae.configuration)
      let size = network.sampleSize * autoencoder.downscale
      batches = try context.batches(dropping: settings.dropCaption, width: size, height: size)
      try Self.check(batches.framing, multiple: network.sizeMultiple * autoencoder.downscale)
      latents = try LatentCache(
        autoencoder, checkpoint.vae, batches, on: context.device, cacheBytes: settings.cacheBytes)
      image =
        checkpoint.pipeline == "StableDiffusionPipeline"
        ? nil
        : try ImageCondition(
          context, checkpoint, network, batches, dropping: settings.dropImage,
          maxNoiseLevel: settings.maxNoiseLevel, cacheBytes: settings.cacheBytes / 4)
      text.noticeCutCaptions(of: context.data, context.notice)
    default: throw Self.unsupported(checkpoint)
    }
    // Not only when the first pictures are due.
    if context.settings.sampleEvery > 0 { try sampleRequest.checkRanges() }
  }

  private static let pipelines = [
    "StableDiffusionPipeline", "StableUnCLIPImg2ImgPipeline", "DDPMPipeline", "DDIMPipeline",
  ]

  private static func unsupported(_ checkpoint: Checkpoint) -> CheckpointError {
    .unsupported(path: checkpoint.url.path, found: checkpoint.pipeline, supported: pipelines)
  }

  /// A model of pixels is told nothing, and an image embedding says enough.
  public static func needsCaptions(for model: URL) throws -> Bool {
    let without = ["DDPMPipeline", "DDIMPipeline", "StableUnCLIPImg2ImgPipeline"]
    return try !without.contains(Checkpoint.open(model).pipeline)
  }

  private static func check(_ framing: Framing, multiple: Int) throws {
    for (key, size) in [("width", framing.width), ("height", framing.height)] {
      guard size > 0, size % multiple == 0 else {
        throw SettingsError.value(key: key, expected: "a multiple of \(multiple), got \(size)")
      }
    }
  }

  public func batch(_ samples: Range<UInt64>) throws -> Batch {
    let choices = try samples.map { sample in
      let choice = batches.order.choice(sample)
      return try context.replay?.choice(sample, choice, of: context.data) ?? choice
    }
    return Batch(
      samples: samples, views: choices.map(batches.framing.view),
      captions: choices.map { choice in
        choice.caption.map { context.data.pictures[choice.index].captions[$0].text } ?? ""
      })
  }

  public func loss(_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor {
    let states = try text?.states(
      of: batch.captions, settings.trainTextEncoder ? weights["text_encoder"] : nil)
    return try loss(batch, weights["unet"], states)
  }

  /// The loss of a UNet of these weights that looks at these states [N, T, C] of the captions, or at none.
  func loss(_ batch: Batch, _ unet: Weights, _ states: Tensor?) throws -> Tensor {
    let device = context.device
    let (samples, seed) = (batch.samples, context.settings.seed)
    let noisiness = BatchLevels(
      try samples.map { sample in
        try context.replay?.timestep(sample).map { try levels.level(checking: $0) }
          ?? levels.level(at: sampling.place(ofSample: sample, seed: seed, batch: context.settings.batch))
      })
    let clean =
      try latents?.latents(of: batch.views, samples, seed: seed) ?? pixels(of: batch.views, on: device)
    let shape = Shape(Array(clean.shape.dimensions.dropFirst()))
    let noise =
      try context.replay?.noise(samples, shape, on: device)
      ?? TrainingNoise.noise(samples, shape, seed: seed, on: device)
    let input = try noisiness.noisy(clean, noise).cast(to: unet.dtype)
    let config = try self.unet.configuration
    let output: Tensor
    if let states {
      let network = try UNet2DConditionModel(UNet2DConditionConfig(config), unet)
      let labels = try image?.labels(batch.views, samples).cast(to: unet.dtype)
      output = try network(
        input, timesteps: noisiness.timesteps,
        conditioning: UNetConditioning(
          context: states.cast(to: unet.dtype), classLabels: labels.map { .vectors($0) }))
    } else {
      output = try UNet2DModel(UNet2DConfig(config), unet)(input, timesteps: noisiness.timesteps)
    }
    return try noisiness.loss(output, noisiness.target(prediction, clean, noise), weighting, prediction)
  }

  private func pixels(of views: [PictureView], on device: Device) throws -> Tensor {
    try Tensor.concatenated(views.map { try batches.picture($0).tensor(on: device) }, axis: 0)
  }

  /// Residual blocks that add nothing, and a network that says zero: arXiv:1706.02677, section 5.1.
  private static let zeroInitialized: InitializationRule = { name, shape, weight in
    let parts = name.split(separator: ".")
    let layer = parts.dropLast().last ?? ""
    if layer == "conv_out" || (layer == "conv2" && parts.contains("resnets")) { return .constant(0) }
    return InitialWeights.pytorch(name, shape, weight)
  }
}

extension DiffusionSettings {
  fileprivate func weighting() throws -> LossWeighting {
    guard let snrGamma else { return .none }
    guard snrGamma > 0 else { throw SettingsError.value(key: "snr_gamma", expected: "above 0") }
    return .minSNR(gamma: snrGamma)
  }

  fileprivate func sampling() throws -> TimestepSampling {
    switch timesteps {
    case "uniform": return .uniform
    case "stratified": return .stratified
    case "logit-normal":
      guard logitDeviation > 0 else {
        throw SettingsError.value(key: "logit_deviation", expected: "above 0")
      }
      return .logitNormal(mean: logitMean, deviation: logitDeviation)
    default:
      throw SettingsError.value(key: "timesteps", expected: "uniform, stratified or logit-normal")
    }
  }
}
