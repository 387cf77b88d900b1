import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinTensor

/// PEFT's settings of each network's adapters: as diffusers keeps them in the file since 2025, or as PEFT
/// writes them beside it.
struct LoRAMetadata {
  static let key = "lora_adapter_metadata"

  /// A number, and those of layers whose names a pattern matches to their end.
  private struct Setting {
    var value: Double?
    var patterns: [(regex: Regex<AnyRegexOutput>, value: Double)] = []

    func of(_ layer: String) -> Double? {
      patterns.first { (try? $0.regex.wholeMatch(in: layer)) != nil }?.value ?? value
    }

    mutating func read(_ member: StrictJSON.Member, _ fail: (String) -> CheckpointError) throws {
      guard member.key.hasSuffix("_pattern") else {
        guard let value = member.value.double else { throw fail("\(member.key) is no number") }
        self.value = value
        return
      }
      let patterns: [StrictJSON.Member]
      switch member.value {
      case .object(let members): patterns = members
      case .null: patterns = []
      default: throw fail("\(member.key) is no object")
      }
      self.patterns = try patterns.map { pattern in
        guard let value = pattern.value.double, let regex = try? Regex("(?:.*\\.)?(?:\(pattern.key))") else {
          throw fail("\(member.key) has no number for '\(pattern.key)', or that is no pattern")
        }
        return (regex, value)
      }
    }
  }

  private struct Network {
    var alpha = Setting()
    var rank = Setting()
    /// Divided by the rank's square root instead of the rank (arXiv:2312.03732).
    var isRankStabilized = false
    var isDoRA = false

    /// Takes up a setting; LoHa's and LoKr's alpha is called `alpha`.
    mutating func read(_ member: StrictJSON.Member, path: String, _ fail: (String) -> CheckpointError) throws
    {
      func bool() throws -> Bool {
        switch member.value {
        case .bool(let value): return value
        case .null: return false
        default: throw fail("\(member.key) is neither true nor false")
        }
      }
      switch member.key {
      case "lora_alpha", "alpha", "alpha_pattern": try alpha.read(member, fail)
      case "r", "rank_pattern": try rank.read(member, fail)
      case "use_rslora": isRankStabilized = try bool()
      case "use_dora": isDoRA = try bool()
      default:
        guard PEFTSetting.isRead(member) else {
          throw AdapterError.setting(
            path: path, name: member.key, value: String(member.value.text.prefix(60)))
        }
      }
    }
  }

  private var networks: [String: Network] = [:]
  /// Of a file of one network.
  private var only: Network?

  /// Throws `CheckpointError.malformed`, `AdapterError.setting`, and what reading adapter_config.json throws.
  init(_ file: SafetensorsFile) throws {
    let beside = file.url.deletingLastPathComponent().appendingPathComponent("adapter_config.json")
    if file.url.lastPathComponent == LoRAFile.peftFileName,
      FileManager.default.fileExists(atPath: beside.path)
    {
      guard case .object(let members) = try JSONFile.read(beside) else {
        throw CheckpointError.malformed(path: beside.path, reason: "it is no object")
      }
      var network = Network()
      for member in members {
        try network.read(member, path: beside.path) { .malformed(path: beside.path, reason: $0) }
      }
      only = network
    }
    guard let text = file.metadata[Self.key] else { return }
    func fail(_ reason: String) -> CheckpointError {
      .malformed(path: file.url.path, reason: "\(Self.key): \(reason)")
    }
    guard case .object(let members) = try? StrictJSON(parsing: Array(text.utf8)) else {
      throw fail("it is no JSON object")
    }
    for member in members {
      let parts = member.key.split(separator: ".", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { continue }
      try networks[parts[0], default: Network()].read(
        StrictJSON.Member(parts[1], member.value), path: file.url.path, fail)
    }
  }

  private func network(_ target: LoRAKey.Target) -> Network? { networks[target.component] ?? only }

  /// Whether the settings say that the layer's norms are given too.
  func isDoRA(_ target: LoRAKey.Target) -> Bool { network(target)?.isDoRA ?? false }

  /// A layer's alpha; the rank, which makes the scale 1, where nothing is said. Where the tensors have no
  /// rank it is the scale.
  func alpha(of target: LoRAKey.Target, rank: Int?) -> Float {
    guard let network = network(target), let alpha = network.alpha.of(target.layer) else {
      return Float(rank ?? 1)
    }
    guard let divisor = rank.map(Double.init) ?? network.rank.of(target.layer), divisor > 0 else { return 1 }
    let scale = alpha / (network.isRankStabilized ? divisor.squareRoot() : divisor)
    return Float(scale * Double(rank ?? 1))
  }
}

/// What the settings of PEFT's LoraConfig, LoHaConfig and LoKrConfig mean to an adapter that is finished.
/// Those that scale it are `LoRAMetadata`'s.
private enum PEFTSetting {
  /// Where the adapter came from, how it was trained, and which layers it has, which its tensors tell.
  private static let harmless: Set<String> = [
    "auto_mapping", "base_model_name_or_path", "corda_config", "decompose_both", "decompose_factor",
    "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode", "init_weights",
    "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_config",
    "megatron_core",
    "module_dropout", "peft_version", "qalora_group_size", "rank_dropout", "rank_dropout_scale", "revision",
    "runtime_config", "target_modules", "task_type", "use_effective_conv2d", "velora_config",
  ]
  /// What others may say. The other ways to begin (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) change the model's
  /// own weights.
  private static let read: [String: [StrictJSON]] = [
    "bias": [.string("none")], "peft_type": [.string("LORA"), .string("LOHA"), .string("LOKR")],
    "init_lora_weights": [
      .bool(true), .bool(false), .string("gaussian"), .string("eva"), .string("orthogonal"),
    ],
  ]

  /// False for a setting that gives the tensors another meaning, and for one that is not known, unless it is
  /// off.
  static func isRead(_ member: StrictJSON.Member) -> Bool {
    if harmless.contains(member.key) { return true }
    switch member.value {
    case .null, .bool(false), .string(""), .array([]), .object([]): return true
    default: return read[member.key]?.contains(member.value) ?? false
    }
  }
}
