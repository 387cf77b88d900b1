import Foundation
import LangevinCPU
import LangevinJSON
import LangevinNN
import LangevinTensor

/// Writes a model as diffusers and transformers lay it out: a pipeline with a folder for each component, or one network
/// by itself, as CLIP is.
public struct ModelFolderWriter: Sendable {
  /// What lies in a component's folder.
  public enum Part: Sendable {
    /// config.json and a safetensors file with all of the source's floating-point tensors, which have their class's
    /// names and shapes.
    case network(config: StrictJSON, weights: any WeightSource)
    /// config.json and a file of weights of this name, which writes itself. The class is the index's.
    case file(config: StrictJSON, name: String, write: @Sendable (URL) throws -> Void)
    /// scheduler_config.json.
    case scheduler(StrictJSON)
    /// preprocessor_config.json.
    case preprocessor(StrictJSON)
    /// A copy of the tokenizer's files of this folder, whatever else lies there.
    case tokenizer(URL)
    /// A copy of all files of a component's folder.
    case copy(URL)
  }

  fileprivate struct Component: Sendable {
    let name: String
    var library: String?, className: String?
    var part: Part
  }

  /// The pipeline's class, as `StableDiffusionPipeline`; nil for one network, all of whose parts lie at the top.
  public let pipeline: String?
  /// What model_index.json says beside its components, as `requires_safety_checker`.
  public var settings: [StrictJSON.Member] = []
  /// For langevin.json, which is left out where nothing is recommended.
  public var recommended = RecommendedSettings()
  /// Files at the top, as README.md, by their names.
  public var texts: [(name: String, text: String)] = []
  /// Files at the top that write themselves, by their names. A folder without a pipeline may have nothing else.
  public var files: [(name: String, write: @Sendable (URL) throws -> Void)] = []
  fileprivate var components: [Component] = []

  /// A model without components yet.
  public init(pipeline: String?) { self.pipeline = pipeline }

  /// A copy of a model's folder, whose components can then be replaced. Throws `CheckpointError`.
  public init(copying folder: URL) throws {
    let file = folder.appendingPathComponent("model_index.json")
    let index = try JSONFile.read(file)
    guard let name = index["_class_name"]?.string, case .object(let members) = index else {
      throw CheckpointError.malformed(path: file.path, reason: "it has no _class_name")
    }
    pipeline = name
    recommended = try RecommendedSettings.read(from: folder)
    for member in members where member.key != Self.classKey {
      guard case .array(let entry) = member.value, entry.count == 2, let library = entry[0].string,
        let className = entry[1].string
      else {
        settings.append(member)
        continue
      }
      let part = Part.copy(folder.appendingPathComponent(member.key))
      components.append(Component(name: member.key, library: library, className: className, part: part))
    }
  }

  /// Adds a component, or replaces the one of this name. Its class is its configuration's; `library` is the module that
  /// has it, where that is neither diffusers nor transformers.
  public mutating func set(_ name: String, _ part: Part, library: String? = nil, className: String? = nil) {
    let component = Component(name: name, library: library, className: className, part: part)
    guard let place = components.firstIndex(where: { $0.name == name }) else {
      components.append(component)
      return
    }
    components[place].part = part
    if let library { components[place].library = library }
    // A tokenizer's or a copy's class is asked of its files only where the index did not say it.
    if className != nil || component.declaredClass != nil {
      components[place].className = className ?? component.declaredClass
    }
  }

  /// Leaves a component out, as diffusers writes it: [null, null].
  mutating func omit(_ name: String) {
    components.removeAll { $0.name == name }
    settings.append(StrictJSON.Member(name, .array([.null, .null])))
  }

  /// The components' names, with the classes that the index gives them.
  var classes: [(name: String, className: String?)] { components.map { ($0.name, $0.className) } }

  // MARK: Writing

  /// Writes the folder beside its place, opens it, and puts it in the place of what was there: a reader never sees half
  /// of it. Tensors are stored as `dtype`, and read one at a time.
  ///
  /// Throws `RunError.unwritable`, and `.occupied` where something else than a model is there; `CheckpointError` where
  /// the parts make no model or cannot be read; and what the device throws. What was there is intact then.
  public func write(to url: URL, as dtype: DType = .float32) throws {
    try RunError.writing {
      try ReplacedFolder.write(to: url, replaces: Self.isModel) { folder in
        for component in components {
          let place = pipeline == nil ? folder : folder.appendingPathComponent(component.name)
          try component.write(to: place, as: dtype)
        }
        if pipeline != nil { try write(index, to: folder.appendingPathComponent("model_index.json")) }
        if recommended != RecommendedSettings() {
          try write(recommended.json, to: folder.appendingPathComponent(RecommendedSettings.fileName))
        }
        for (name, text) in texts {
          try Self.write(Array(text.utf8), to: folder.appendingPathComponent(name))
        }
        for (name, write) in files { try write(folder.appendingPathComponent(name)) }
        try open(folder)
      }
    }
  }

  private static func isModel(_ folder: URL) -> Bool {
    ["model_index.json", "config.json", LoRAFile.fileName, TextualInversion.fileName].contains {
      FileManager.default.fileExists(atPath: folder.appendingPathComponent($0).path)
    }
  }

  private static let classKey = "_class_name"

  /// Sorted, as diffusers writes it.
  private var index: StrictJSON {
    get throws {
      let parts = try components.map { component in
        let (library, className) = try component.origin
        return StrictJSON.Member(component.name, .strings([library, className]))
      }
      let members = (settings + parts).sorted { $0.key < $1.key }
      return .object([StrictJSON.Member(Self.classKey, .string(pipeline ?? ""))] + members)
    }
  }

  /// What cannot be read again must not take the place of what can.
  private func open(_ folder: URL) throws {
    guard pipeline != nil else {
      if components.isEmpty { return }
      _ = try ModelFolder.component(folder)
      return
    }
    let checkpoint = try Checkpoint.open(folder)
    for component in components where component.isNetwork { _ = try checkpoint.component(component.name) }
  }

  private func write(_ json: StrictJSON, to url: URL) throws { try Self.write(json, to: url) }

  fileprivate static func write(_ json: StrictJSON, to url: URL) throws {
    try write(Array((json.indentedText + "\n").utf8), to: url)
  }

  fileprivate static func write(_ bytes: [UInt8], to url: URL) throws {
    try bytes.withUnsafeBytes { try OutputFile.write($0, to: url) }
  }
}

extension ModelFolderWriter.Component {
  fileprivate var isNetwork: Bool {
    switch part {
    case .network, .file: true
    case .scheduler, .preprocessor, .tokenizer, .copy: false
    }
  }

  /// The class that the part's configuration names; nil for a copy.
  fileprivate var declaredClass: String? {
    switch part {
    case .network(let config, _): Self.className(config)
    case .scheduler(let config): config["_class_name"]?.string
    case .preprocessor(let config): config["image_processor_type"]?.string
    case .file, .tokenizer, .copy: nil
    }
  }

  private static func className(_ config: StrictJSON) -> String? {
    if case .array(let names) = config["architectures"], let name = names.first?.string { return name }
    return config["_class_name"]?.string
  }

  private static func isTransformers(_ config: StrictJSON) -> Bool { config["_class_name"] == nil }

  /// For model_index.json: the module and the class. Throws `CheckpointError.malformed` where no class is named.
  fileprivate var origin: (library: String, className: String) {
    get throws {
      switch part {
      case .file, .copy, .tokenizer:
        guard let className else {
          throw CheckpointError.malformed(path: name, reason: "the class of what is copied was not given")
        }
        return (library ?? "transformers", className)
      case .network(let config, _), .scheduler(let config), .preprocessor(let config):
        // Of a network, its configuration must tell other programs the class.
        guard let declared = declaredClass ?? (isNetwork ? nil : className) else {
          throw CheckpointError.malformed(path: name, reason: "its configuration names no class")
        }
        return (
          library ?? (Self.isTransformers(config) ? "transformers" : "diffusers"), className ?? declared
        )
      }
    }
  }

  fileprivate func write(to folder: URL, as dtype: DType) throws {
    func file(_ name: String) -> URL { folder.appendingPathComponent(name) }
    switch part {
    case .network(let config, let weights):
      let isTransformers = Self.isTransformers(config)
      try ModelFolderWriter.write(
        isTransformers ? Self.config(config, storedAs: dtype) : config, to: file("config.json"))
      let name = isTransformers ? "model.safetensors" : "diffusion_pytorch_model.safetensors"
      // transformers refuses a file that does not say where its tensors' layout comes from.
      let metadata = ["format": "pt"]
      // Buffers of indices, as old folders have them, are no parameters and have no floats.
      let specs = weights.names.compactMap { name in
        weights.spec(of: name).flatMap { spec in
          spec.dtype.isFloatingPoint ? (name: name, spec: TensorSpec(spec.shape, dtype)) : nil
        }
      }
      let host = Device(CPUBackend())
      try SafetensorsWriter.write(specs, metadata: metadata, to: file(name)) { index in
        try weights.load(specs[index].name, on: host).cast(to: dtype)
      }
    case .file(let config, let name, let write):
      try ModelFolderWriter.write(config, to: file("config.json"))
      try write(file(name))
    case .scheduler(let config): try ModelFolderWriter.write(config, to: file("scheduler_config.json"))
    case .preprocessor(let config): try ModelFolderWriter.write(config, to: file("preprocessor_config.json"))
    case .tokenizer(let source):
      let copied = try Self.copy(source, to: folder) { Self.tokenizerFiles.contains($0) }
      guard copied > 0 else {
        throw CheckpointError.missingFile(path: source.appendingPathComponent("tokenizer.json").path)
      }
    case .copy(let source): try Self.copy(source, to: folder) { _ in true }
    }
  }

  private static let tokenizerFiles: Set = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "spiece.model",
  ]

  /// transformers loads weights in the dtype that the configuration names, which may be that of a model that was
  /// trained further, at the top or in a part.
  private static func config(_ config: StrictJSON, storedAs dtype: DType) -> StrictJSON {
    guard case .object(let members) = config else { return config }
    let keys = ["dtype", "torch_dtype"]
    return .object(
      members.map { member in
        if case .object = member.value {
          return StrictJSON.Member(member.key, self.config(member.value, storedAs: dtype))
        }
        return keys.contains(member.key) ? StrictJSON.Member(member.key, .string(dtype.rawValue)) : member
      })
  }

  /// Copies regular files, or what links lead to, and returns their number.
  @discardableResult
  private static func copy(_ source: URL, to folder: URL, where isWanted: (String) -> Bool) throws -> Int {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: source.path).sorted()
    } catch {
      throw CheckpointError.missingFile(path: source.path)
    }
    var count = 0
    for name in names where isWanted(name) && !name.hasPrefix(".") {
      let url = source.appendingPathComponent(name)
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue
      else { continue }
      let file = try CheckpointError.reading(url, RegularFile.init(path:))
      try withExtendedLifetime(file) {
        try OutputFile.write(file.bytes, to: folder.appendingPathComponent(name))
      }
      count += 1
    }
    return count
  }
}

extension ModelFolderWriter.Part {
  /// A network with these tensors, which have their class's names and shapes.
  public static func network(config: StrictJSON, tensors: [(name: String, tensor: Tensor)]) -> Self {
    .network(config: config, weights: NamedTensors(tensors))
  }
}

/// Tensors as they are, in their order.
final class NamedTensors: WeightSource {
  private let tensors: [(name: String, tensor: Tensor)]
  var names: [String] { tensors.map(\.name) }
  var description: String { "a list of tensors" }

  init(_ tensors: [(name: String, tensor: Tensor)]) { self.tensors = tensors }

  private func find(_ name: String) -> Tensor? { tensors.first { $0.name == name }?.tensor }
  func spec(of name: String) -> TensorSpec? { find(name)?.spec }
  func load(_ name: String, on device: Device) throws -> Tensor {
    guard let tensor = find(name) else { throw WeightError.missing(name: name, source: description) }
    // Itself where it can be, since a copy is no variable of a tape.
    return tensor.device === device ? tensor : try tensor.copied(to: device)
  }
}

extension RecommendedSettings {
  /// The object of langevin.json.
  var json: StrictJSON {
    var members: [StrictJSON.Member] = []
    if let guidance { members.append(StrictJSON.Member("guidance", .real(guidance))) }
    if let steps { members.append(StrictJSON.Member("steps", .integer(steps))) }
    if let sampler { members.append(StrictJSON.Member("sampler", .string(sampler.name))) }
    return .object(members)
  }
}
