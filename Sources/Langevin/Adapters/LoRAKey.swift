import LangevinTensor

/// The name of a tensor in a LoRA file: which layer of which network it belongs to, and what it is of it.
///
/// Kohya's scripts and LyCORIS write `lora_unet_down_blocks_0_….lora_down.weight`, PEFT
/// `unet.down_blocks.0.….lora_A.weight`, and where it writes itself
/// `base_model.model.down_blocks.0.….lora_A.weight`. What diffusers wrote and reads lies between:
/// `….lora.down.weight`, `….lora_linear_layer.down.weight`, and, as attention processors still had the
/// matrices, `….attn1.processor.to_q_lora.down.weight`.
struct LoRAKey: Equatable {
  /// By kohya's and LyCORIS' names of them.
  enum Part: String, Hashable, CaseIterable {
    case down = "lora_down.weight"
    case up = "lora_up.weight"
    case mid = "lora_mid.weight"
    case alpha
    case hadamard1A = "hada_w1_a"
    case hadamard1B = "hada_w1_b"
    case hadamard2A = "hada_w2_a"
    case hadamard2B = "hada_w2_b"
    case hadamardCore1 = "hada_t1"
    case hadamardCore2 = "hada_t2"
    case kronecker1 = "lokr_w1"
    case kronecker1A = "lokr_w1_a"
    case kronecker1B = "lokr_w1_b"
    case kronecker2 = "lokr_w2"
    case kronecker2A = "lokr_w2_a"
    case kronecker2B = "lokr_w2_b"
    case kroneckerCore2 = "lokr_t2"
    case interpolatedNorms = "dora_scale"
    case norms = "lora_magnitude_vector"

    /// Of which kind of change alone it can be; nil where of all.
    var kind: String? {
      switch self {
      case .down, .up, .mid: "LoRA"
      case .alpha, .interpolatedNorms, .norms: nil
      default: rawValue.hasPrefix("hada") ? "LoHa" : "LoKr"
      }
    }
  }

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
  private static let peft = "base_model.model."
  private static let suffixes: [(suffix: String, part: Part)] =
    [
      (".lora_A.weight", .down), (".lora_B.weight", .up), (".lora.down.weight", .down),
      (".lora.up.weight", .up),
      (".lora_linear_layer.down.weight", .down), (".lora_linear_layer.up.weight", .up),
      ("_lora.down.weight", .down), ("_lora.up.weight", .up), (".lora_magnitude_vector.weight", .norms),
    ] + Part.allCases.map { (".\($0.rawValue)", $0) }
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
      guard let part = Part(rawValue: tail) else { return nil }
      target = Target(component: component, layer: String(head.dropFirst(prefix.count)), isFlat: true)
      self.part = part
      return
    }
    let isPEFT = key.hasPrefix(Self.peft)
    let name = isPEFT ? String(key.dropFirst(Self.peft.count)) : tail.replacing(".processor.", with: ".")
    guard let (suffix, part) = Self.suffixes.first(where: { name.hasSuffix($0.suffix) }) else { return nil }
    var layer = String(name.dropLast(suffix.count))
    // PEFT itself does not say which network it was: text encoders' layers are their own.
    let isText = ["text_model.", "encoder.layers."].contains { layer.hasPrefix($0) }
    let component = isPEFT ? (isText ? "text_encoder" : "unet") : String(head)
    if suffix.hasPrefix("_lora") {
      let renamed = component.hasPrefix("text_encoder") ? Self.textLayers : Self.unetLayers
      let last = layer.split(separator: ".").last.map(String.init) ?? layer
      layer = layer.dropLast(last.count) + (renamed[last] ?? last)
    }
    guard !layer.isEmpty else { return nil }
    target = Target(component: component, layer: layer, isFlat: false)
    self.part = part
  }

  /// What a tensor of this name belongs to, where it is a kind of change that is not read.
  static func otherKind(_ key: String) -> String? {
    if key.contains(".oft_") { return "OFT" }
    let endings = [
      (".lora_B.bias", "a LoRA with biases"), (".on_input", "IA3"), (".a1.weight", "GLoRA"),
      (".diff", "a difference of whole weights"), (".diff_b", "a difference of biases"),
      (".w_norm", "a difference of norms"),
    ]
    return endings.first { key.hasSuffix($0.0) }?.1
  }
}
