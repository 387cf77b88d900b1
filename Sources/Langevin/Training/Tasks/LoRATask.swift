import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What only the training of a LoRA can be told.
public struct LoRASettings: Codable, Sendable, Equatable {
  /// Columns of A.
  public var rank = 4
  /// Divided by the rank it is the scale; nil is the rank.
  public var alpha: Double?
  /// The UNet's layers that learn: whole names, or what they end in.
  public var targets = LoRAParameters.unetTargets
  /// Whether the text encoder learns along.
  public var trainTextEncoder = false
  /// Its layers that learn.
  public var textTargets = LoRAParameters.textTargets
  /// The text encoder's rate in units of the run's.
  public var textRate = 1.0
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
  /// The share of samples whose caption is empty.
  public var dropCaption = 0.0
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

  var diffusion: DiffusionSettings {
    var settings = DiffusionSettings()
    (settings.prediction, settings.snrGamma, settings.timesteps) = (prediction, snrGamma, timesteps)
    (settings.logitMean, settings.logitDeviation) = (logitMean, logitDeviation)
    (settings.dropCaption, settings.trainTextEncoder) = (dropCaption, trainTextEncoder)
    (settings.textRate, settings.cacheBytes, settings.prompts) = (textRate, cacheBytes, prompts)
    (settings.guidance, settings.sampleSteps) = (guidance, sampleSteps)
    return settings
  }
}

/// Teaches low-rank adapters of a Stable Diffusion model, whose own weights stay as they are (arXiv:2106.09685).
public struct LoRATask: ModelTask {
  public static let name = "lora"
  public static let defaults = LoRASettings()

  /// The networks with adapters at their layers, of which the adapters are trained.
  public let networks: [TrainedNetwork]
  private let diffusion: DiffusionTask
  private let parameters: [(network: String, lora: LoRAParameters)]

  public init(_ context: TaskContext, _ settings: LoRASettings) throws {
    guard settings.rank > 0 else { throw SettingsError.value(key: "rank", expected: "1 or more") }
    diffusion = try DiffusionTask(context, settings.diffusion)
    guard diffusion.text != nil else {
      throw CheckpointError.unsupported(
        path: context.model.path, found: diffusion.checkpoint.pipeline, supported: ["StableDiffusionPipeline"]
      )
    }
    var parameters: [(network: String, lora: LoRAParameters)] = []
    networks = try diffusion.networks.map { network in
      let lora = try LoRAParameters(
        of: network.start, targets: network.name == "unet" ? settings.targets : settings.textTargets,
        rank: settings.rank, alpha: settings.alpha.map { Float($0) },
        seed: FNV.hash(network.name.utf8, seed: context.settings.seed))
      parameters.append((network.name, lora))
      var adapted = network
      adapted.start = AdaptedWeights(network.start, adapters: lora, alpha: lora.alpha)
      adapted.isTrained = { lora.spec(of: $0) != nil }
      return adapted
    }
    self.parameters = parameters
  }

  public func batch(_ samples: Range<UInt64>) throws -> DiffusionTask.Batch { try diffusion.batch(samples) }

  public func loss(_ batch: DiffusionTask.Batch, _ weights: TrainingWeights) throws -> Tensor {
    try diffusion.loss(batch, weights)
  }

  /// `pytorch_lora_weights.safetensors` as diffusers writes it, and `kohya_lora.safetensors`.
  public func model(_ weights: NetworkWeights) throws -> ModelFolderWriter {
    let host = Device(CPUBackend())
    let layers = try parameters.flatMap { try $0.lora.layers(of: $0.network, weights($0.network), on: host) }
    let targets = Dictionary(uniqueKeysWithValues: parameters.map { ($0.network, $0.lora.targets) })
    let checkpoint = diffusion.checkpoint
    var writer = ModelFolderWriter(pipeline: nil)
    writer.files = [
      (LoRAFile.fileName, { @Sendable in try LoRAFile.write(layers, targets: targets, to: $0) }),
      ("kohya_lora.safetensors", { @Sendable in try LoRAFile.writeKohya(layers, of: checkpoint, to: $0) }),
    ]
    return writer
  }

  public func samples(_ weights: NetworkWeights, _ check: () throws -> Void) throws -> Picture? {
    try diffusion.samples(weights, check)
  }
}
