/// The name of a tensor in a LoRA file: which layer of which network it belongs to, and what it is of it.
///
/// Kohya's scripts write `lora_unet_down_blocks_0_….lora_down.weight`, PEFT `unet.down_blocks.0.….lora_A.weight`. What
/// diffusers wrote and reads lies between: `….lora.down.weight`, `….lora_linear_layer.down.weight`, and, as attention
/// processors still had the matrices, `….attn1.processor.to_q_lora.down.weight`.
struct LoRAKey: Equatable {
  enum Part: Equatable { case down, up, alpha }

  /// A layer as a file names it.
  struct Target: Hashable {
    /// As model_index.json names it: `unet`.
    let component: String
    /// `down_blocks.0.attentions.0.proj_in`; where `isFlat`, with underscores for the dots.
    let layer: String
    let isFlat: Bool
  }

  let target: Target
  let part: Part

  static let kohyaPrefixes = [
    ("lora_unet_", "unet"), ("lora_te_", "text_encoder"), ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
  ]
  private static let kohyaParts: [String: Part] = [
    "lora_down.weight": .down, "lora_up.weight": .up, "alpha": .alpha,
  ]
  private static let parts: [(suffix: String, part: Part)] = [
    (".lora_A.weight", .down), (".lora_B.weight", .up), (".lora.down.weight", .down),
    (".lora.up.weight", .up),
    (".lora_linear_layer.down.weight", .down), (".lora_linear_layer.up.weight", .up),
    ("_lora.down.weight", .down), ("_lora.up.weight", .up), (".alpha", .alpha),
  ]
  /// What processors call the layers, and transformers its text encoders' projections.
  private static let unetLayers = ["to_out": "to_out.0"]
  private static let textLayers = [
    "to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj",
  ]

  /// Nil for a name that is none of these.
  init?(_ key: String) {
    guard let dot = key.firstIndex(of: ".") else { return nil }
    let (head, tail) = (key[..<dot], String(key[key.index(after: dot)...]))
    if let (prefix, component) = Self.kohyaPrefixes.first(where: { head.hasPrefix($0.0) }) {
      guard let part = Self.kohyaParts[tail] else { return nil }
      target = Target(component: component, layer: String(head.dropFirst(prefix.count)), isFlat: true)
      self.part = part
      return
    }
    let name = tail.replacing(".processor.", with: ".")
    guard let (suffix, part) = Self.parts.first(where: { name.hasSuffix($0.suffix) }) else { return nil }
    var layer = String(name.dropLast(suffix.count))
    if suffix.hasPrefix("_lora") {
      let renamed = head.hasPrefix("text_encoder") ? Self.textLayers : Self.unetLayers
      let last = layer.split(separator: ".").last.map(String.init) ?? layer
      layer = layer.dropLast(last.count) + (renamed[last] ?? last)
    }
    target = Target(component: String(head), layer: layer, isFlat: false)
    self.part = part
  }

  /// What a tensor of this name belongs to, where it is another kind of addition than a LoRA.
  static func otherKind(_ key: String) -> String? {
    let kinds = [
      ("lora_magnitude_vector", "DoRA"), ("dora_scale", "DoRA"), ("hada_", "LoHa"), ("lokr_", "LoKr"),
      ("lora_mid", "a LoRA of three factors"), (".oft_", "OFT"), ("lora_B.bias", "a LoRA with biases"),
      (".diff", "a difference of whole weights"),
    ]
    return kinds.first { key.contains($0.0) }?.1
  }
}
