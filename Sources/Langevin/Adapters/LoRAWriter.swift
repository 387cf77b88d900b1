import Foundation
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor

/// A low-rank addition to one layer, W + (alpha / rank) B A.
public struct LoRALayer: Sendable {
  /// The network's name in model_index.json: `unet`.
  public var component: String
  /// The layer's name in its checkpoint, without `weight`: `down_blocks.0.attentions.0.proj_in`.
  public var name: String
  /// A, [rank, inputs] or [rank, inputs, height, width].
  public var down: Tensor
  /// B, [outputs, rank] or [outputs, rank, 1, 1].
  public var up: Tensor
  /// Divided by the rank it is the scale.
  public var alpha: Float

  /// An addition of these parts.
  public init(component: String, name: String, down: Tensor, up: Tensor, alpha: Float) {
    (self.component, self.name, self.down, self.up, self.alpha) = (component, name, down, up, alpha)
  }

  var rank: Int { down.shape[0] }
}

extension LoRAFile {
  /// What the file has for the layers of a model, under the model's names.
  ///
  /// Throws as `Checkpoint.merging` does, and `CheckpointError.unsupported` for other kinds of changes than
  /// LoRA.
  public func layers(of checkpoint: Checkpoint, on device: Device) throws -> [LoRALayer] {
    _ = try checkpoint.merging([(self, 1)])
    var known: [String: LayerNames] = [:]
    return try changes.compactMap { change in
      guard let name = try checkpoint.layer(change.target, &known) else { return nil }
      guard case .product(.product(let up, let down)) = change.form, change.norms == nil else {
        throw CheckpointError.unsupported(
          path: url.path, found: "\(change.kind) at \(name)", supported: ["LoRA"])
      }
      return LoRALayer(
        component: change.target.component, name: name, down: try file.load(down, on: device),
        up: try file.load(up, on: device), alpha: change.alpha)
    }
  }

  /// Writes layers as diffusers and PEFT do: `unet.LAYER.lora_A.weight`, `lora_B.weight`, and PEFT's settings
  /// beside them.
  ///
  /// - Parameters:
  ///   - layers: the additions, of one network or several.
  ///   - targets: what PEFT is told to look for in each component, ends of layers' names; by default the whole names.
  ///   - metadata: further texts for the file's header.
  ///   - url: the file.
  ///
  /// Throws as `SafetensorsWriter.write` does.
  public static func write(
    _ layers: [LoRALayer], targets: [String: [String]] = [:], metadata: [String: String] = [:], to url: URL
  ) throws {
    var settings: [StrictJSON.Member] = []
    for (component, layers) in grouped(layers) {
      settings += Self.settings(layers, targets[component]).map {
        StrictJSON.Member("\(component).\($0.key)", $0.value)
      }
    }
    let tensors = layers.flatMap { layer in
      let name = "\(layer.component).\(layer.peftName(withPrefix: true))"
      return [(name: "\(name).lora_A.weight", tensor: layer.down), ("\(name).lora_B.weight", layer.up)]
    }
    let own = ["format": "pt", LoRAMetadata.key: StrictJSON.object(settings).text]
    try SafetensorsWriter.write(tensors, metadata: own.merging(metadata) { $1 }, to: url)
  }

  /// Writes layers as kohya's scripts do, which A1111's web UI and ComfyUI read:
  /// `lora_unet_LAYER.lora_down.weight`, `.lora_up.weight`, `.alpha`; the UNet of Stable Diffusion XL in the
  /// original implementation's names.
  ///
  /// Throws `AdapterError.unmatched` for a layer that the layout has no name for, and as
  /// `SafetensorsWriter.write` does.
  public static func writeKohya(
    _ layers: [LoRALayer], of checkpoint: Checkpoint, metadata: [String: String] = [:], to url: URL
  ) throws {
    let isXL = checkpoint.contains("text_encoder_2")
    let prefixes = [
      "unet": "lora_unet_", "text_encoder": isXL ? "lora_te1_" : "lora_te_", "text_encoder_2": "lora_te2_",
    ]
    let originals = isXL ? try LayerNames.originalNames(checkpoint.unet) : [:]
    var tensors: [(name: String, tensor: Tensor)] = []
    for layer in layers {
      var name = layer.peftName(withPrefix: true)
      if isXL, layer.component == "unet" { name = originals[name] ?? "" }
      guard let prefix = prefixes[layer.component], !name.isEmpty else {
        throw AdapterError.unmatched(
          path: url.path, names: ["\(layer.component).\(layer.name)"], total: layers.count)
      }
      let flat = prefix + LayerNames.flat(name)
      tensors += [
        ("\(flat).lora_down.weight", layer.down), ("\(flat).lora_up.weight", layer.up),
        ("\(flat).alpha", try Tensor.fill(layer.alpha, [], on: layer.down.device)),
      ]
    }
    var own = ["ss_network_module": "networks.lora"]
    if let layer = layers.first {
      own["ss_network_dim"] = "\(layer.rank)"
      own["ss_network_alpha"] = "\(layer.alpha)"
    }
    try SafetensorsWriter.write(tensors, metadata: own.merging(metadata) { $1 }, to: url)
  }

  private static func grouped(_ layers: [LoRALayer]) -> [(String, [LoRALayer])] {
    Dictionary(grouping: layers, by: \.component).sorted { $0.key < $1.key }
  }

  /// What PEFT's LoraConfig is made of. Ranks and alphas that are not the first layer's are listed.
  private static func settings(_ layers: [LoRALayer], _ targets: [String]?) -> [StrictJSON.Member] {
    guard let first = layers.first else { return [] }
    func number(_ value: Float) -> StrictJSON {
      Int(exactly: value).map(StrictJSON.integer) ?? .real(Double(value))
    }
    let names = layers.map { $0.peftName(withPrefix: false) }
    let ranks = zip(names, layers).filter { $1.rank != first.rank }
    let alphas = zip(names, layers).filter { $1.alpha != first.alpha }
    return [
      StrictJSON.Member(
        "alpha_pattern", .object(alphas.map { StrictJSON.Member("\($0)", number($1.alpha)) })),
      StrictJSON.Member("bias", .string("none")), StrictJSON.Member("lora_alpha", number(first.alpha)),
      StrictJSON.Member("lora_dropout", .integer(0)), StrictJSON.Member("peft_type", .string("LORA")),
      StrictJSON.Member("r", .integer(first.rank)),
      StrictJSON.Member(
        "rank_pattern", .object(ranks.map { StrictJSON.Member("\($0)", .integer($1.rank)) })),
      StrictJSON.Member("target_modules", .strings(targets ?? names)),
      StrictJSON.Member("use_dora", .bool(false)), StrictJSON.Member("use_rslora", .bool(false)),
    ]
  }
}

extension LoRALayer {
  /// Text encoders' names begin with `text_model.` in files, which all versions of diffusers read; in PEFT's
  /// settings, which are of a network in memory, newer versions do not have it, and ends of names fit both.
  fileprivate func peftName(withPrefix: Bool) -> String {
    guard component.hasPrefix("text_encoder"), name != "text_projection" else { return name }
    let prefix = LayerNames.textPrefix
    let bare = name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name
    return withPrefix ? prefix + bare : bare
  }
}
