import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What only the training of a textual inversion can be told.
public struct TextualInversionSettings: Codable, Sendable, Equatable {
  /// The new token: `<cat-toy>`.
  public var token = ""
  /// A text of one token, of which the vectors begin as copies: `toy`.
  public var initializer = ""
  /// How many vectors the token has.
  public var vectors = 1
  /// Captions of pictures whose own does not have the token in it, one of them by lot; {} stands for the token.
  public var templates = [
    "a photo of {}", "a rendering of {}", "a picture of {}", "a close-up photo of {}", "an image with {}",
  ]
  /// As of `DiffusionSettings`.
  public var prediction: String?
  /// As of `DiffusionSettings`.
  public var snrGamma: Double?
  /// As of `DiffusionSettings`.
  public var timesteps = "uniform"
  /// As of `DiffusionSettings`.
  public var logitMean = 0.0
  /// As of `DiffusionSettings`.
  public var logitDeviation = 1.0
  /// Bytes of latents to keep.
  public var cacheBytes = 2 << 30
  /// What to draw now and then.
  public var prompts: [String] = []
  /// With which guidance; nil is what the model recommends.
  public var guidance: Double?
  /// In how many steps; nil is what the model recommends.
  public var sampleSteps: Int?

  /// The defaults.
  public init() {}

  var diffusion: DiffusionSettings {
    var settings = DiffusionSettings()
    (settings.prediction, settings.snrGamma, settings.timesteps) = (prediction, snrGamma, timesteps)
    (settings.logitMean, settings.logitDeviation) = (logitMean, logitDeviation)
    (settings.dropCaption, settings.cacheBytes, settings.prompts) = (0, cacheBytes, prompts)
    (settings.guidance, settings.sampleSteps) = (guidance, sampleSteps)
    return settings
  }
}

/// Teaches a new token of a Stable Diffusion model's text encoder; all of the model stays as it is (arXiv:2208.01618).
public struct TextualInversionTask: ModelTask {
  public static let name = "textual-inversion"
  public static let defaults = TextualInversionSettings()
  public static let needsCaptions = false

  /// What a state calls the token's vectors.
  private static let network = "embedding"

  public let networks: [TrainedNetwork]
  private let context: TaskContext
  private let settings: TextualInversionSettings
  private let diffusion: DiffusionTask
  private let text: CaptionEncoder
  private let added: [CLIPTokenizer.AddedToken]
  private let tokenizer: CLIPTokenizer
  private let shape: Shape
  private let precision: DType
  private let frozenUNet = KeptWeights { _ in true }
  private let frozenText: KeptWeights

  public init(_ context: TaskContext, _ settings: TextualInversionSettings) throws {
    func require(_ condition: Bool, _ key: String, _ expected: String) throws {
      if !condition { throw SettingsError.value(key: key, expected: expected) }
    }
    try require(!settings.token.allSatisfy(\.isWhitespace), "token", "a word that the model does not know")
    try require((1...64).contains(settings.vectors), "vectors", "1 to 64")
    try require(
      !settings.templates.isEmpty && settings.templates.allSatisfy { $0.contains("{}") }, "templates",
      "texts with {} in them")
    (self.context, self.settings) = (context, settings)
    diffusion = try DiffusionTask(context, settings.diffusion)
    guard let text = diffusion.text else {
      throw CheckpointError.unsupported(
        path: context.model.path, found: diffusion.checkpoint.pipeline, supported: ["StableDiffusionPipeline"]
      )
    }
    self.text = text
    precision = try context.settings.trainer().precision
    let known = text.tokenizer
    added = CLIPTokenizer.AddedToken.vectors(
      of: settings.token, count: settings.vectors, from: text.config.vocabularySize)
    if let token = added.first(where: { known.contains($0.content) }) {
      throw AdapterError.knownToken(path: context.model.path, token: token.content)
    }
    tokenizer = try known.adding(added)
    let parameters = try InversionParameters(
      of: text.component.weights, initializer: settings.initializer, known, count: settings.vectors)
    let shape: Shape = [settings.vectors, text.config.hiddenSize]
    self.shape = shape
    networks = [
      TrainedNetwork(Self.network, start: parameters) { _ = try $0.tensor(InversionParameters.name, shape) }
    ]
    let table = ExtendedTable.tableName(in: text.component.weights)
    frozenText = KeptWeights { $0 != table }
  }

  public func batch(_ samples: Range<UInt64>) throws -> DiffusionTask.Batch {
    let batch = try diffusion.batch(samples)
    let captions = zip(batch.samples, batch.captions).map { sample, caption in
      if caption.localizedCaseInsensitiveContains(settings.token) { return caption }
      // Philox of the run's seed and the sample, as all that is drawn by lot.
      let seed = context.settings.seed
      let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
      let words = NoiseFunction.philox(
        counter: SIMD4(
          UInt32(truncatingIfNeeded: sample), UInt32(truncatingIfNeeded: sample >> 32), 0, 0x5465_6D70),
        key: key)
      let template = settings.templates[Int(words.x) % settings.templates.count]
      return template.replacing("{}", with: settings.token)
    }
    return DiffusionTask.Batch(samples: batch.samples, views: batch.views, captions: captions)
  }

  public func loss(_ batch: DiffusionTask.Batch, _ weights: TrainingWeights) throws -> Tensor {
    let vectors = try weights[Self.network].tensor(InversionParameters.name, shape)
    let (config, source) = try extended(NamedTensors([(InversionParameters.name, vectors)]))
    let encoder = try CLIPTextModel(
      config,
      Weights(
        source, on: context.device, as: precision, component: "text_encoder", keeping: frozenText))
    let ids = batch.captions.map { tokenizer($0, length: text.length).ids }
    let unet = Weights(
      diffusion.unet.weights, on: context.device, as: precision, component: "unet", keeping: frozenUNet)
    return try diffusion.loss(batch, unet, encoder(ids).lastHiddenState)
  }

  /// The text encoder with these vectors behind its table.
  private func extended(_ vectors: any WeightSource) throws -> (CLIPTextConfig, ExtendedTable) {
    var config = text.config
    config.vocabularySize += settings.vectors
    let rows = (source: vectors, name: InversionParameters.name)
    return (config, ExtendedTable(text.component.weights, adding: [rows]))
  }

  /// `learned_embeds.safetensors`.
  public func model(_ weights: NetworkWeights) throws -> ModelFolderWriter {
    let vectors = try weights(Self.network).load(InversionParameters.name, on: Device(CPUBackend()))
    let token = settings.token
    var writer = ModelFolderWriter(pipeline: nil)
    writer.files = [
      (TextualInversion.fileName, { @Sendable in try TextualInversion.write(vectors, of: token, to: $0) })
    ]
    return writer
  }

  public func samples(_ weights: NetworkWeights, _ check: () throws -> Void) throws -> Picture? {
    guard !settings.prompts.isEmpty else { return nil }
    let (config, source) = try extended(weights(Self.network))
    let encoder = Checkpoint.Component(
      text.component.className,
      config: text.component.config.replacing("vocab_size", config.vocabularySize), weights: source)
    let checkpoint = try diffusion.checkpoint.replacing(
      components: ["text_encoder": encoder],
      tokenizers: ["tokenizer": .adding(added, to: diffusion.checkpoint.tokenizer)])
    return try diffusion.samples(of: checkpoint, check)
  }
}
