import Foundation
import LangevinCPU
import LangevinJSON
import LangevinNN
import LangevinTensor

/// Low-rank changes of the layers of a pipeline's networks, as diffusers, PEFT, kohya's scripts or LyCORIS
/// write them: LoRA (arXiv:2106.09685), LoCon, LoHa and LoKr (arXiv:2309.14859), each also as DoRA
/// (arXiv:2402.09353). Only names, shapes and scales are read when it is opened.
public struct LoRAFile: Sendable {
  /// The name that diffusers gives such a file in a folder.
  public static let fileName = "pytorch_lora_weights.safetensors"
  /// The name that PEFT gives it, beside an `adapter_config.json`.
  static let peftFileName = "adapter_model.safetensors"

  /// Where it lies.
  public let url: URL
  let file: SafetensorsFile
  /// In the file's order.
  let changes: [LayerChange]

  /// How many tensors it has for layers.
  var tensorCount: Int { changes.reduce(0) { $0 + $1.names.count } }

  /// Opens a file, or a folder's `pytorch_lora_weights.safetensors` or `adapter_model.safetensors`.
  ///
  /// Throws `CheckpointError`: what opening the file throws, `unsupported` for kinds of changes that are not
  /// read, with their names, `unknownTensors`; `AdapterError.unpaired` and `.factors`, and
  /// `WeightError.unsupportedDType`.
  public init(url: URL) throws {
    let url = url.adapterFile(Self.fileName, Self.peftFileName)
    let file = try SafetensorsFile(url: url)
    (self.url, self.file) = (url, file)
    var parts: [LoRAKey.Target: [LoRAKey.Part: String]] = [:]
    var order: [LoRAKey.Target] = []
    var unknown: [String] = []
    for name in file.names {
      if let kind = LoRAKey.otherKind(name) {
        throw CheckpointError.unsupported(
          path: url.path, found: "\(kind) ('\(name)')", supported: ["LoRA", "LoCon", "LoHa", "LoKr", "DoRA"])
      }
      guard let key = LoRAKey(name) else {
        unknown.append(name)
        continue
      }
      if parts[key.target] == nil { order.append(key.target) }
      if let other = parts[key.target, default: [:]].updateValue(name, forKey: key.part) {
        throw CheckpointError.malformed(path: url.path, reason: "'\(other)' and '\(name)' are the same")
      }
    }
    guard unknown.isEmpty else { throw CheckpointError.unknownTensors(path: url.path, names: unknown) }
    guard !order.isEmpty else { throw CheckpointError.malformed(path: url.path, reason: "it has no tensors") }
    let metadata = try LoRAMetadata(file)
    changes = try order.map { try LayerChange($0, parts[$0] ?? [:], of: file, metadata) }
  }
}

extension URL {
  /// The first file of these names that there is where this is a folder, or the first name; else itself.
  func adapterFile(_ names: String...) -> URL {
    var isFolder: ObjCBool = false
    let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    guard isThere && isFolder.boolValue else { return self }
    let files = names.map { appendingPathComponent($0) }
    return files.first { FileManager.default.fileExists(atPath: $0.path) } ?? files[0]
  }
}

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
      guard case .object(let patterns) = member.value else { throw fail("\(member.key) is no object") }
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

    /// Takes up a setting; LoHa's and LoKr's alpha is called `alpha`.
    mutating func read(_ member: StrictJSON.Member, _ fail: (String) -> CheckpointError) throws {
      switch member.key {
      case "lora_alpha", "alpha", "alpha_pattern": try alpha.read(member, fail)
      case "r", "rank_pattern": try rank.read(member, fail)
      case "use_rslora": isRankStabilized = member.value == .bool(true)
      default: break
      }
    }
  }

  private var networks: [String: Network] = [:]
  /// Of a file of one network.
  private var only: Network?

  /// Throws `CheckpointError.malformed`, and what reading adapter_config.json throws.
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
        try network.read(member) { .malformed(path: beside.path, reason: $0) }
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
      try networks[parts[0], default: Network()].read(StrictJSON.Member(parts[1], member.value), fail)
    }
  }

  /// A layer's alpha; the rank, which makes the scale 1, where nothing is said. Where the tensors have no
  /// rank it is the scale.
  func alpha(of target: LoRAKey.Target, rank: Int?) -> Float {
    let network = networks[target.component] ?? only
    guard let network, let alpha = network.alpha.of(target.layer) else { return Float(rank ?? 1) }
    guard let divisor = rank.map(Double.init) ?? network.rank.of(target.layer), divisor > 0 else { return 1 }
    let scale = alpha / (network.isRankStabilized ? divisor.squareRoot() : divisor)
    return Float(scale * Double(rank ?? 1))
  }
}
