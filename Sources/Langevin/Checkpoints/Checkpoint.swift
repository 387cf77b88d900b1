import Foundation
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import Synchronization

/// Everything that a pipeline is made of, whichever layout its files have: the pipeline's class, and components,
/// schedulers and tokenizers by the names that model_index.json gives them. Each is read when it is asked for.
public struct Checkpoint: Sendable {
  /// A network: its config.json and its tensors under the reference's names.
  public struct Component: Sendable {
    /// Of the reference implementation: `UNet2DConditionModel`.
    public let className: String
    /// The contents of config.json.
    public let config: StrictJSON
    /// Under the reference's names.
    public let weights: any WeightSource

    /// A component of these parts; nothing is read yet.
    public init(_ className: String, config: StrictJSON, weights: any WeightSource) {
      self.className = className
      self.config = config
      self.weights = weights
    }

    /// The configuration as models read it. Throws `ModelError.invalidConfig` for anything but an object.
    public var configuration: ConfigObject { get throws { try ConfigObject(config) } }
  }

  /// Where a tokenizer comes from.
  public indirect enum TokenizerSource: Sendable, Equatable {
    case folder(URL)
    /// CLIP's own vocabulary, filled up with this token.
    case clip(padding: String)
    /// Another with more tokens.
    case adding([CLIPTokenizer.AddedToken], to: TokenizerSource)

    /// Reads CLIP's tokenizer. Throws `TokenizerError`, and `CheckpointError` where a resource is missing.
    public func load() throws -> CLIPTokenizer {
      switch self {
      case .folder(let url): try CLIPTokenizer(folder: url)
      case .clip(let padding): try CLIPTokenizer(merges: ClipMerges.text, padding: padding)
      case .adding(let tokens, let source): try source.load().adding(tokens)
      }
    }
  }

  /// The folder or file.
  public let url: URL
  /// The pipeline's class: `StableDiffusionPipeline`.
  public let pipeline: String
  /// The contents of model_index.json, whose other members are a pipeline's settings
  /// (`force_zeros_for_empty_prompt`); an empty object where there is none.
  public let index: StrictJSON
  /// What the model's folder recommends; nothing for a single file.
  public let recommended: RecommendedSettings
  private var parts: Parts

  /// A checkpoint of these parts, for models that come from elsewhere than folders.
  public init(
    url: URL, pipeline: String, components: [String: Component], schedulers: [String: Data] = [:],
    tokenizers: [String: TokenizerSource] = [:], index: StrictJSON = .object([]),
    recommended: RecommendedSettings = RecommendedSettings()
  ) {
    (self.url, self.pipeline, self.index, self.recommended) = (url, pipeline, index, recommended)
    parts = Parts(components: components, schedulers: schedulers, tokenizers: tokenizers)
  }

  /// A folder of which nothing but its model_index.json was read.
  init(
    folder: URL, pipeline: String, classes: [String: String], index: StrictJSON, prediction: String?,
    recommended: RecommendedSettings
  ) {
    (url, self.pipeline, self.index, self.recommended) = (folder, pipeline, index, recommended)
    parts = Parts(folder: folder, classes: classes, prediction: prediction)
  }

  /// The same with other networks and tokenizers in the place of those of these names.
  func replacing(components: [String: Component] = [:], tokenizers: [String: TokenizerSource] = [:])
    -> Checkpoint
  {
    var copy = self
    copy.parts = Parts(parts, components: components, tokenizers: tokenizers)
    return copy
  }

  /// The same with the weights of its networks' products in blocks, made as each network is loaded: less memory, and
  /// numbers that are off by the encoding's rounding. Autoencoders stay as they are.
  public func quantized(_ encoding: BlockEncoding) -> Checkpoint {
    var copy = self
    copy.parts = Parts(parts, encoding: encoding)
    return copy
  }

  /// The same with products in that arithmetic where a weight's blocks allow it; see `ProductArithmetic`. Autoencoders stay
  /// as they are.
  ///
  /// Throws `CheckpointError.noInt8Weights` where int8 has no weight of the denoiser to work with, and what opening that
  /// throws.
  public func multiplying(in arithmetic: ProductArithmetic) throws -> Checkpoint {
    var copy = self
    copy.parts = Parts(parts, arithmetic: arithmetic)
    guard arithmetic == .int8 else { return copy }
    let denoisers = ["unet", "transformer", "decoder"].filter(contains)
    let hasBlocks = try denoisers.contains { name in
      let weights = try component(name).weights
      return weights.names.contains { weights.encoding(of: $0) == .q8 }
    }
    guard hasBlocks else { throw CheckpointError.noInt8Weights(path: url.path) }
    return copy
  }

  /// Opens a diffusers folder or a single-file checkpoint.
  ///
  /// - Parameters:
  ///   - url: a folder with a model_index.json, or a safetensors or GGUF file in the original key layout.
  ///   - prediction: overrides what the network is taken to predict: `epsilon`, `v_prediction` or `sample`.
  ///
  /// Throws `CheckpointError`: for a pipeline's class that is not supported with those that are, for a
  /// component that the pipeline needs and that the folder lacks or has of another class with its name.
  public static func open(_ url: URL, prediction: String? = nil) throws -> Checkpoint {
    if let prediction, !predictions.contains(prediction) {
      throw CheckpointError.unsupported(
        path: url.path, found: "the prediction type '\(prediction)'", supported: predictions)
    }
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw CheckpointError.missingFile(path: url.path)
    }
    return isFolder.boolValue
      ? try ModelFolder.open(url, prediction: prediction)
      : try SingleFileCheckpoint(url: url, prediction: prediction).checkpoint
  }

  static let predictions = ["epsilon", "v_prediction", "sample"]

  // MARK: Parts by name

  /// Whether there is a component, scheduler or tokenizer of this name.
  public func contains(_ name: String) -> Bool { parts.contains(name) }

  /// The network of this name; opened at its first use, and kept.
  ///
  /// Throws `CheckpointError`: `missingComponent`, and what its files throw.
  public func component(_ name: String) throws -> Component { try parts.component(name, of: url) }

  /// A network's class and configuration; its weights need not be there. Throws `CheckpointError`.
  func configuration(of name: String) throws -> (className: String, config: StrictJSON) {
    try parts.configuration(name, of: url)
  }

  /// The scheduler_config.json of this name. Throws `CheckpointError`.
  public func scheduler(named name: String) throws -> Data { try parts.scheduler(name, of: url) }

  /// The tokenizer of this name; not read yet. Throws `CheckpointError.missingComponent`.
  public func tokenizer(named name: String) throws -> TokenizerSource { try parts.tokenizer(name, of: url) }

  /// The preprocessor_config.json of this name. Throws `CheckpointError`.
  public func featureExtractor(named name: String = "feature_extractor") throws -> StrictJSON {
    try parts.featureExtractor(name, of: url)
  }

  /// The component `unet`. Throws `CheckpointError`.
  public var unet: Component { get throws { try component("unet") } }
  /// The component `vae`. Throws `CheckpointError`.
  public var vae: Component { get throws { try component("vae") } }
  /// The component `text_encoder`; its tensors' names begin with `text_model.` or, in newer folders, do not.
  /// Throws `CheckpointError`.
  public var textEncoder: Component { get throws { try component("text_encoder") } }
  /// The scheduler_config.json of `scheduler`. Throws `CheckpointError`.
  public var scheduler: Data { get throws { try scheduler(named: "scheduler") } }
  /// The tokenizer `tokenizer`. Throws `CheckpointError`.
  public var tokenizer: TokenizerSource { get throws { try tokenizer(named: "tokenizer") } }
}

/// What a checkpoint holds, read when it is asked for.
private final class Parts: Sendable {
  private let folder: URL?
  /// Each component's class, as model_index.json gives it.
  private let classes: [String: String]
  private let prediction: String?
  private let components: Mutex<[String: Checkpoint.Component]>
  private let schedulers: [String: Data]
  private let tokenizers: [String: Checkpoint.TokenizerSource]
  /// What networks' weights become; nil leaves them as they are.
  private let encoding: BlockEncoding?
  private let arithmetic: ProductArithmetic

  init(
    components: [String: Checkpoint.Component], schedulers: [String: Data],
    tokenizers: [String: Checkpoint.TokenizerSource]
  ) {
    (folder, classes, prediction) = (nil, [:], nil)
    self.components = Mutex(components)
    (self.schedulers, self.tokenizers, encoding) = (schedulers, tokenizers, nil)
    arithmetic = .float32
  }

  init(folder: URL, classes: [String: String], prediction: String?) {
    (self.folder, self.classes, self.prediction) = (folder, classes, prediction)
    components = Mutex([:])
    (schedulers, tokenizers, encoding) = ([:], [:], nil)
    arithmetic = .float32
  }

  /// Others in the place of some.
  init(
    _ parts: Parts, components: [String: Checkpoint.Component] = [:],
    tokenizers: [String: Checkpoint.TokenizerSource] = [:], encoding: BlockEncoding? = nil,
    arithmetic: ProductArithmetic? = nil
  ) {
    self.encoding = encoding ?? parts.encoding
    (folder, classes, prediction) = (parts.folder, parts.classes, parts.prediction)
    self.components = Mutex(parts.components.withLock { $0 }.merging(components) { $1 })
    (schedulers, self.tokenizers) = (parts.schedulers, parts.tokenizers.merging(tokenizers) { $1 })
    self.arithmetic = arithmetic ?? parts.arithmetic
  }

  func contains(_ name: String) -> Bool {
    classes[name] != nil || schedulers[name] != nil || tokenizers[name] != nil
      || components.withLock { $0[name] } != nil
  }

  func component(_ name: String, of url: URL) throws -> Checkpoint.Component {
    let stored = try storedComponent(name, of: url)
    return (encoding.map { stored.quantized($0) } ?? stored).multiplying(in: arithmetic)
  }

  private func storedComponent(_ name: String, of url: URL) throws -> Checkpoint.Component {
    if let known = components.withLock({ $0[name] }) { return known }
    let opened = try ModelFolder.component(try subfolder(name, of: url), className: classes[name])
    components.withLock { $0[name] = opened }
    return opened
  }

  func configuration(_ name: String, of url: URL) throws -> (className: String, config: StrictJSON) {
    if let known = components.withLock({ $0[name] }) { return (known.className, known.config) }
    return try ModelFolder.configuration(try subfolder(name, of: url), className: classes[name])
  }

  func scheduler(_ name: String, of url: URL) throws -> Data {
    if let known = schedulers[name] { return known }
    let file = try subfolder(name, of: url).appendingPathComponent("scheduler_config.json")
    guard case .object(var members) = try JSONFile.read(file) else {
      throw CheckpointError.malformed(path: file.path, reason: "it is no object")
    }
    if let prediction, name == "scheduler" {
      members.removeAll { $0.key == "prediction_type" }
      members.append(StrictJSON.Member("prediction_type", .string(prediction)))
    }
    return StrictJSON.object(members).data
  }

  func tokenizer(_ name: String, of url: URL) throws -> Checkpoint.TokenizerSource {
    try tokenizers[name] ?? .folder(subfolder(name, of: url))
  }

  func featureExtractor(_ name: String, of url: URL) throws -> StrictJSON {
    try JSONFile.read(subfolder(name, of: url).appendingPathComponent("preprocessor_config.json"))
  }

  private func subfolder(_ name: String, of url: URL) throws -> URL {
    guard let folder, classes[name] != nil else {
      throw CheckpointError.missingComponent(path: url.path, name: name)
    }
    return folder.appendingPathComponent(name)
  }
}
