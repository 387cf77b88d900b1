import Foundation
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What only the training of a prior can be told.
public struct PriorSettings: Codable, Sendable, Equatable {
  /// The folder of the CLIP whose image encoder says what is to be guessed.
  public var clip: String?
  /// The share of samples whose text is empty, by which guidance is learnt.
  public var dropText = 0.1
  /// How many pictures, the last by their names, are not learnt from but measured.
  public var withheld = 0
  /// Bytes of embeddings and text states to keep.
  public var cacheBytes = 1 << 30

  /// The defaults.
  public init() {}
}

/// Teaches unCLIP's prior to guess a picture's CLIP embedding from its caption and a noisy embedding: the mean square
/// error of what its scheduler says that it predicts, as a rule the embedding itself. arXiv:2204.06125, section 2.2.
///
/// The model is a folder of `UnCLIPPipeline` or `StableUnCLIPPipeline`. A prior that starts from nothing gets the mean and
/// the deviation of the data's embeddings.
public struct PriorTask: ModelTask {
  public static let name = "prior"
  public static let defaults = PriorSettings()

  /// Samples as the host knows them.
  public struct Batch: Sendable {
    let samples: Range<UInt64>
    let views: [PictureView]
    /// Empty where it was dropped.
    let captions: [String]
  }

  public let networks: [TrainedNetwork]
  private let context: TaskContext
  private let component: Checkpoint.Component
  private let config: PriorTransformerConfig
  private let prediction: Prediction
  private let levels: NoiseSchedule.TrainingLevels
  /// Of the pictures that are learnt from.
  private let batches: PictureBatches
  private let withheld: [Int]
  private let texts: ProjectedTexts
  private let embeddings: ImageEmbeddings
  /// What embeddings are measured by, float32 [1, C].
  private let mean, deviation: Tensor

  public init(_ context: TaskContext, _ settings: PriorSettings) throws {
    self.context = context
    try context.replay?.check(only: ["picture", "caption", "timestep"], for: Self.name)
    guard let path = settings.clip else { throw SettingsError.missing(key: "clip") }
    let checkpoint = try Checkpoint.open(context.model)
    let names = ["UnCLIPPipeline": "", "StableUnCLIPPipeline": "prior_"]
    guard let prefix = names[checkpoint.pipeline] else {
      throw CheckpointError.unsupported(
        path: context.model.path, found: checkpoint.pipeline, supported: names.keys.sorted())
    }
    let schedule = try NoiseSchedule(json: checkpoint.scheduler(named: "prior_scheduler"))
    (prediction, levels) = (schedule.prediction, try NoiseSchedule.TrainingLevels(schedule))
    let component = try context.component("prior", Self.initial)
    let config = try PriorTransformerConfig(component.configuration)
    (self.component, self.config) = (component, config)

    let clip = try CLIPFolder(URL(fileURLWithPath: path))
    let size = clip.config.vision.imageSize
    withheld = try context.withheld(settings.withheld)
    batches = try context.without(withheld).batches(dropping: settings.dropText, width: size, height: size)
    embeddings = try ImageEmbeddings(clip, batches, on: context.device, cacheBytes: settings.cacheBytes / 2)
    texts = try ProjectedTexts(
      ProjectedTextStage(checkpoint, encoder: prefix + "text_encoder", tokenizer: prefix + "tokenizer"),
      on: context.device, cacheBytes: settings.cacheBytes / 2)
    try Self.check(config, texts, embeddings, context.model)
    texts.tokenizer.noticeCutCaptions(of: context.data, length: texts.length, context.notice)

    let start = try Self.start(component, embeddings)
    (mean, deviation) = (
      try start.load("clip_mean", on: context.device).cast(to: .float32),
      try start.load("clip_std", on: context.device).cast(to: .float32)
    )
    networks = [
      TrainedNetwork(
        "prior", start: start, isTrained: { !Self.measured.contains($0) },
        build: { _ = try PriorTransformer(config, $0) })
    ]
  }

  /// What no gradient teaches.
  private static let measured: Set = ["clip_mean", "clip_std"]

  /// diffusers': PyTorch's, and zeros for what is added to or stands among the tokens.
  private static let initial: InitializationRule = { name, shape, weight in
    ["positional_embedding", "prd_embedding"].contains(name)
      ? .constant(0) : InitialWeights.pytorch(name, shape, weight)
  }

  private static func start(_ component: Checkpoint.Component, _ embeddings: ImageEmbeddings) throws
    -> any WeightSource
  {
    guard component.weights is InitialWeights else { return component.weights }
    let (mean, deviation) = try embeddings.statistics(over: 10_000)
    return MeasuredWeights(["clip_mean": mean, "clip_std": deviation], component.weights)
  }

  private static func check(
    _ config: PriorTransformerConfig, _ texts: ProjectedTexts, _ embeddings: ImageEmbeddings, _ folder: URL
  ) throws {
    func require(_ condition: Bool, _ reason: String) throws {
      if !condition { throw CheckpointError.malformed(path: folder.path, reason: reason) }
    }
    try require(config.takesText && config.hasQuery, "its prior takes no text, or has no query")
    try require(
      embeddings.channels == config.outputChannels && config.outputChannels == config.embeddingChannels,
      "its prior makes embeddings of \(config.outputChannels) channels, the CLIP's have "
        + "\(embeddings.channels)")
    try require(
      texts.config.projectionSize == config.projectionChannels
        && texts.config.hiddenSize == config.embeddingChannels,
      "its prior takes text embeddings of \(config.projectionChannels) channels and states of "
        + "\(config.embeddingChannels), its text encoder makes \(texts.config.projectionSize) and "
        + "\(texts.config.hiddenSize)")
    try require(
      texts.length == config.embeddingCount,
      "its prior takes \(config.embeddingCount) tokens of text, its text encoder makes \(texts.length)")
  }

  public func batch(_ samples: Range<UInt64>) throws -> Batch {
    let choices = try samples.map { sample in
      let choice = batches.order.choice(sample)
      return try context.replay?.choice(sample, choice, of: batches.data) ?? choice
    }
    return Batch(
      samples: samples, views: choices.map(batches.framing.view),
      captions: choices.map { choice in
        choice.caption.map { batches.data.pictures[choice.index].captions[$0].text } ?? ""
      })
  }

  public func loss(_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor {
    let seed = context.settings.seed
    let noisiness = BatchLevels(
      try batch.samples.map { sample in
        try context.replay?.timestep(sample).map { try levels.level(checking: $0) }
          ?? levels.level(
            at: TimestepSampling.uniform.place(
              ofSample: sample, seed: seed, batch: context.settings.batch))
      })
    let clean = try (embeddings(batch.views) - mean) / deviation
    let noise = try TrainingNoise.noise(
      batch.samples, [config.outputChannels], seed: seed, on: context.device)
    let root = weights["prior"]
    let output = try guess(
      PriorTransformer(config, root), noisiness.noisy(clean, noise), noisiness.timesteps, batch.captions,
      root.dtype)
    return try noisiness.loss(output, noisiness.target(prediction, clean, noise), .none, prediction)
  }

  private func guess(
    _ prior: PriorTransformer, _ noisy: Tensor, _ timesteps: [Float], _ captions: [String], _ dtype: DType
  ) throws -> Tensor {
    let text = try texts(captions)
    return try prior(
      noisy.cast(to: dtype), timesteps: timesteps, embedding: text.embeddings.cast(to: dtype),
      text: text.hidden.cast(to: dtype), mask: prior.attentionMask(visible: text.visible))
  }

  // MARK: The model

  public func model(_ weights: NetworkWeights) throws -> ModelFolderWriter {
    var writer = try ModelFolderWriter(copying: context.model)
    writer.set("prior", .network(config: component.config, weights: try weights("prior")))
    return writer
  }

  /// `cosine`: between withheld pictures' embeddings and what is guessed of noise and their first captions at once,
  /// without sampling; the mean over the pictures. Where the embedding itself is what the network predicts.
  public func figures(_ weights: NetworkWeights) throws -> [(name: String, value: Double)] {
    guard !withheld.isEmpty, prediction == .sample else { return [] }
    let prior = try PriorTransformer(config, Weights(weights("prior"), on: context.device))
    let noisiest = levels.level(at: 1 - 0x1p-53)
    var sum = 0.0
    for index in withheld {
      let caption = context.data.pictures[index].captions.first?.text ?? ""
      let framing = batches.framing
      let picture = Framing(width: framing.width, height: framing.height).sized(
        try context.data.picture(index))
      let noise = try Tensor.normal([1, config.outputChannels], seed: UInt64(index), on: context.device)
      let guessed = try prior.postProcess(guess(prior, noise, [noisiest.timestep], [caption], .float32))
      let (a, b) = (
        try guessed.floats().map(Double.init), try embeddings.embedding(of: picture).map(Double.init)
      )
      let lengths = [a, b].map { $0.reduce(0) { $0 + $1 * $1 }.squareRoot() }
      sum += zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } / max(lengths[0] * lengths[1], 1e-12)
    }
    return [("cosine", sum / Double(withheld.count))]
  }
}

/// Weights of which some were measured.
private final class MeasuredWeights: WeightSource {
  private let tensors: [String: Tensor]
  private let rest: any WeightSource

  init(_ tensors: [String: Tensor], _ rest: any WeightSource) { (self.tensors, self.rest) = (tensors, rest) }

  var names: [String] { rest.names + Set(tensors.keys).subtracting(rest.names).sorted() }
  var description: String { rest.description }
  func spec(of name: String) -> TensorSpec? { tensors[name]?.spec ?? rest.spec(of: name) }
  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    tensors[name]?.spec ?? rest.spec(of: name, expecting: shape)
  }
  func load(_ name: String, on device: Device) throws -> Tensor {
    try tensors[name]?.copied(to: device) ?? rest.load(name, on: device)
  }
}
