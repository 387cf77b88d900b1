import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinTensor

/// What a file or folder of a model is, by its headers and configurations alone.
public struct FileInformation: Sendable {
  /// `a LoRA`, `a checkpoint`, …
  public let kind: String
  /// What is known of it, for a person: `base model`, `Stable Diffusion 1.x`.
  public private(set) var facts: [(name: String, value: String)] = []

  /// Of a safetensors or GGUF file, or a model's folder.
  ///
  /// Throws what opening throws, and `CheckpointError.unsupported` for what is not known.
  public init(_ url: URL) throws {
    var isFolder = ObjCBool(false)
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw CheckpointError.missingFile(path: url.path)
    }
    if isFolder.boolValue {
      func has(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: url.appendingPathComponent(name).path)
      }
      if has("model_index.json") {
        self.init(folder: try Checkpoint.open(url))
      } else if has(LoRAFile.fileName) || has(LoRAFile.peftFileName) {
        self.init(try LoRAFile(url: url))
      } else if has(TextualInversion.fileName) {
        self.init(try TextualInversion(url: url))
      } else if has("config.json") {
        self.init(component: try ModelFolder.component(url))
      } else {
        throw CheckpointError.unsupported(
          path: url.path, found: "a folder without model_index.json and config.json", supported: Self.known)
      }
      return
    }
    let tensors = try TensorFiles.open(url)
    let isWhole =
      tensors.shape(of: SingleFileUNet.prefix + "input_blocks.0.0.weight") != nil
      && tensors.names.contains { $0.hasPrefix("first_stage_model.") }
    guard let file = tensors as? SafetensorsFile else {
      if isWhole {
        self.init(try SingleFileCheckpoint(url: url), tensors)
      } else if let network = LoneNetwork(tensors) {
        self.init(network, tensors)
      } else {
        self.init(gguf: tensors)
      }
      return
    }
    if isWhole {
      self.init(try SingleFileCheckpoint(url: url), file)
    } else if let network = LoneNetwork(file) {
      self.init(network, file)
    } else if file.names.contains(where: { LoRAKey($0) != nil || LoRAKey.otherKind($0) != nil }) {
      self.init(try LoRAFile(url: url))
    } else if let inversion = try? TextualInversion(url: url) {
      self.init(inversion)
    } else if let upscaler = try? UpscalerFile(url) {
      self.init(upscaler, file)
    } else {
      self.init(unknown: file)
    }
  }

  private static let known = [
    "a checkpoint or a network in one file or in diffusers' folders", "a LoRA", "a textual inversion",
    "an upscaler",
  ]

  // MARK: Kinds

  private init(_ lora: LoRAFile) {
    let changes = lora.changes
    kind = "a " + Set(changes.map(\.kind)).sorted().joined(separator: " and ")
    let metadata = lora.file.metadata
    let base = metadata["ss_base_model_version"] ?? metadata["modelspec.architecture"]
    facts = [("base model", Self.baseModel(lora) ?? base ?? "not known")]
    if let base, base != facts[0].value { facts.append(("says of its base", base)) }
    let networks = Dictionary(grouping: changes, by: \.target.component).sorted { $0.key < $1.key }
    for (component, changes) in networks { facts.append((component, "\(changes.count) layers")) }
    facts.append(
      ("rank", Self.span(changes.compactMap(\.rank).map(Double.init)) ?? "none: its matrices are whole"))
    let alphas = changes.filter { $0.rank != nil }.map { Double($0.alpha) }
    if let alpha = Self.span(alphas) { facts.append(("alpha", alpha)) }
    for (key, name) in [
      ("ss_output_name", "name"), ("modelspec.title", "title"), ("modelspec.trigger_phrase", "trigger"),
    ] {
      if let value = metadata[key], !value.isEmpty { facts.append((name, value)) }
    }
    facts += Self.encodings(lora.file)
  }

  /// By how wide the text is that cross attention reads.
  private static func baseModel(_ lora: LoRAFile) -> String? {
    if lora.changes.contains(where: { $0.target.component == "text_encoder_2" }) {
      return family(ofContext: 2048)
    }
    let keys = ["attn2.to_k", "attn2.to_v", "attn2_to_k", "attn2_to_v"]
    let change = lora.changes.first { change in keys.contains { change.target.layer.hasSuffix($0) } }
    return change.flatMap { try? $0.form.extents(in: lora.file)[1] }.flatMap(family)
  }

  private static func family(ofContext width: Int) -> String? {
    switch width {
    case 768: SingleFileCheckpoint.Family.stableDiffusion1.rawValue
    case 1024: SingleFileCheckpoint.Family.stableDiffusion2.rawValue
    case 2048: SingleFileCheckpoint.Family.stableDiffusionXL.rawValue
    default: nil
    }
  }

  private init(_ inversion: TextualInversion) {
    kind = "a textual inversion"
    let sizes = inversion.tensors.map { inversion.size($0.name) }
    let widths = sizes.map(\.width)
    let base = widths.count > 1 ? Self.family(ofContext: 2048) : widths.first.flatMap(Self.family)
    facts = [
      ("token", inversion.token), ("base model", base ?? "not known"),
      (
        "vectors",
        "\(sizes.map(\.count).max() ?? 0), \(widths.map(String.init).joined(separator: " and ")) wide"
      ),
    ]
    facts += Self.encodings(inversion.file)
  }

  private init(gguf file: any TensorFile) {
    kind = "a GGUF file of a network's weights"
    facts = [("tensors", "\(file.names.count)")] + Self.encodings(file)
  }

  private init(_ checkpoint: SingleFileCheckpoint, _ file: any TensorFile) {
    kind = "a checkpoint in one file"
    facts = [("base model", checkpoint.family.rawValue)]
    if let unet = try? checkpoint.checkpoint.unet, let config = try? UNet2DConditionConfig(unet.configuration)
    {
      facts.append(("UNet", "\(config.inChannels) channels in, \(config.blockOutChannels) wide"))
    }
    facts += Self.scheduler(checkpoint.checkpoint) + Self.encodings(file)
    for key in ["modelspec.title", "modelspec.architecture"] {
      guard let value = (file as? SafetensorsFile)?.metadata[key], !value.isEmpty else { continue }
      facts.append((key, value))
    }
  }

  private init(folder checkpoint: Checkpoint) {
    kind = "a model in diffusers' folders"
    facts = [("pipeline", checkpoint.pipeline)]
    if let unet = try? checkpoint.unet, let width = unet.config["cross_attention_dim"]?.count,
      let family = Self.family(ofContext: width)
    {
      facts.append(("base model", family))
    }
    if checkpoint.contains("transformer"), let network = try? checkpoint.component("transformer") {
      facts += Self.transformer(network)
    }
    guard case .object(let members) = checkpoint.index else { return }
    for member in members {
      guard case .array(let entry) = member.value, let name = entry.last?.string else { continue }
      facts.append((member.key, checkpoint.contains(member.key) ? name : name + ", whose folder is missing"))
    }
    facts += Self.scheduler(checkpoint)
  }

  private init(_ network: LoneNetwork, _ file: any TensorFile) {
    kind = "\(network.kind) in one file"
    if let base = network.contextWidth.flatMap(Self.family) { facts.append(("base model", base)) }
    if !network.blocks.isEmpty {
      facts.append(("blocks", network.blocks.map(String.init).joined(separator: " and ")))
    }
    facts += [("tensors", "\(file.names.count)")] + Self.encodings(file)
  }

  private init(_ upscaler: UpscalerFile, _ file: SafetensorsFile) {
    kind = "an upscaler"
    facts =
      [("network", Self.name(of: upscaler.config)), ("enlarges", "\(upscaler.config.scale) times")]
      + Self.encodings(file)
  }

  private init(unknown file: SafetensorsFile) {
    kind = "a safetensors file of no kind that is known"
    let first = file.names.prefix(3).map { "\($0) \(file.shape(of: $0) ?? [])" }
    facts = [("tensors", "\(file.names.count), such as \(first.joined(separator: ", "))")]
    facts += Self.encodings(file)
  }

  private init(component: Checkpoint.Component) {
    kind = "a network in a folder"
    facts = [("class", component.className), ("tensors", "\(component.weights.names.count)")]
  }

  // MARK: Facts

  private static func scheduler(_ checkpoint: Checkpoint) -> [(name: String, value: String)] {
    guard let data = try? checkpoint.scheduler, let file = try? SchedulerFile(json: data) else { return [] }
    return [("predicts", file.noise.prediction.rawValue)]
  }

  /// Whose transformer it is, and how large.
  private static func transformer(_ network: Checkpoint.Component) -> [(name: String, value: String)] {
    if let config = try? SD3Transformer2DConfig(network.configuration) {
      let model = "Stable Diffusion " + (config.normalizesHeads ? "3.5" : "3")
      return [("base model", model), ("blocks", "\(config.layerCount), \(config.channels) wide")]
    }
    if let config = try? FluxTransformer2DConfig(network.configuration) {
      let model = "FLUX.1 " + (config.embedsGuidance ? "dev" : "schnell")
      let blocks = "\(config.layerCount) and \(config.singleLayerCount), \(config.channels) wide"
      return [("base model", model), ("blocks", blocks)]
    }
    return []
  }

  /// `4`, or `2 to 16`.
  private static func span(_ values: [Double]) -> String? {
    guard let least = values.min(), let most = values.max() else { return nil }
    func text(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? "\(value)" }
    return least == most ? text(least) : "\(text(least)) to \(text(most))"
  }

  private static func name(of upscaler: UpscalerConfig) -> String {
    switch upscaler {
    case .rrdbNet: "RRDBNet"
    case .compact: "SRVGGNetCompact"
    }
  }

  /// In which types its numbers are, and how much room they take.
  private static func encodings(_ file: any TensorFile) -> [(name: String, value: String)] {
    guard let file = file as? SafetensorsFile else {
      let names = file.names.map {
        file.encoding(of: $0)?.rawValue ?? file.spec(of: $0)?.dtype.rawValue ?? ""
      }
      return Dictionary(grouping: names) { $0 }.sorted { $0.key < $1.key }.map {
        ("encoding", "\($0), \(count($1.count))")
      }
    }
    return file.encodings.map { ("encoding", "\($0.name), \(count($0.count)), \(ByteCount.text($0.bytes))") }
  }

  private static func count(_ tensors: Int) -> String { tensors == 1 ? "1 tensor" : "\(tensors) tensors" }
}
