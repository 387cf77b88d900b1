import Foundation
import LangevinCPU
import LangevinJSON
import LangevinNN
import LangevinTensor

/// Low-rank additions to the layers of a pipeline's networks (arXiv:2106.09685), as diffusers, PEFT or kohya's scripts
/// write them. Only names, shapes and scales are read when it is opened.
public struct LoRAFile: Sendable {
  /// W + scale B A of one layer.
  struct Pair: Sendable {
    let target: LoRAKey.Target
    /// The name of A, [rank, inputs] or [rank, inputs, height, width].
    let down: String
    /// The name of B, [outputs, rank] or [outputs, rank, 1, 1].
    let up: String
    let rank: Int
    /// Divided by the rank it is the scale.
    let alpha: Float
  }

  /// The name that diffusers gives such a file in a folder.
  public static let fileName = "pytorch_lora_weights.safetensors"

  /// Where it lies.
  public let url: URL
  let file: SafetensorsFile
  /// In the file's order.
  let pairs: [Pair]

  /// Opens a file, or a folder's `pytorch_lora_weights.safetensors`.
  ///
  /// Throws `CheckpointError`: what opening the file throws, `unsupported` for other kinds of additions (DoRA, LoHa,
  /// LoKr), `unknownTensors`; and `AdapterError.unpaired`.
  public init(url: URL) throws {
    let url = url.adapterFile(Self.fileName)
    let file = try SafetensorsFile(url: url)
    (self.url, self.file) = (url, file)
    var parts: [LoRAKey.Target: [String?]] = [:]
    var order: [LoRAKey.Target] = []
    var unknown: [String] = []
    for name in file.names {
      if let kind = LoRAKey.otherKind(name) {
        throw CheckpointError.unsupported(path: url.path, found: "\(kind) ('\(name)')", supported: ["LoRA"])
      }
      guard let key = LoRAKey(name) else {
        unknown.append(name)
        continue
      }
      if parts[key.target] == nil { order.append(key.target) }
      var known = parts[key.target] ?? [nil, nil, nil]
      let index = [LoRAKey.Part.down: 0, .up: 1, .alpha: 2][key.part] ?? 0
      if let other = known[index] {
        throw CheckpointError.malformed(path: url.path, reason: "'\(other)' and '\(name)' are the same")
      }
      known[index] = name
      parts[key.target] = known
    }
    guard unknown.isEmpty else { throw CheckpointError.unknownTensors(path: url.path, names: unknown) }
    guard !order.isEmpty else { throw CheckpointError.malformed(path: url.path, reason: "it has no tensors") }
    let metadata = try LoRAMetadata(file)
    pairs = try order.map { target in
      let names = parts[target] ?? []
      guard let down = names[0], let up = names[1] else {
        throw AdapterError.unpaired(path: url.path, name: names.compactMap { $0 }.first ?? "")
      }
      let rank = try file.requiredShape(of: down)[0]
      guard rank > 0 else {
        throw CheckpointError.malformed(path: url.path, reason: "'\(down)' has no rows")
      }
      let alpha = try names[2].map { try Self.number($0, of: file) } ?? metadata.alpha(of: target, rank: rank)
      guard alpha.isFinite else {
        throw CheckpointError.malformed(path: url.path, reason: "the alpha of '\(down)' is \(alpha)")
      }
      return Pair(target: target, down: down, up: up, rank: rank, alpha: alpha)
    }
  }

  /// A tensor of one element, of an integer or a floating-point type.
  private static func number(_ name: String, of file: SafetensorsFile) throws -> Float {
    guard file.shape(of: name)?.count == 1 else {
      throw CheckpointError.malformed(path: file.url.path, reason: "'\(name)' is more than one number")
    }
    if let integer = file.integers(name)?.first { return Float(integer) }
    return try file.load(name, on: Device(CPUBackend())).cast(to: .float32).floats()[0]
  }
}

extension LoRAKey.Part: Hashable {}

extension URL {
  /// A file of this name where this is a folder, else itself.
  func adapterFile(_ name: String) -> URL {
    var isFolder: ObjCBool = false
    let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    return isThere && isFolder.boolValue ? appendingPathComponent(name) : self
  }
}

/// PEFT's settings of each network's adapters, as diffusers keeps them beside the weights since 2025.
struct LoRAMetadata {
  static let key = "lora_adapter_metadata"

  private struct Network {
    var alpha: Double?
    var patterns: [(regex: Regex<AnyRegexOutput>, alpha: Double)] = []
    /// Divided by the rank's square root instead of the rank (arXiv:2312.03732).
    var isRankStabilized = false
  }

  private var networks: [String: Network] = [:]

  /// Throws `CheckpointError.malformed`.
  init(_ file: SafetensorsFile) throws {
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
      var network = networks[parts[0]] ?? Network()
      switch parts[1] {
      case "lora_alpha":
        guard let alpha = member.value.double else { throw fail("\(member.key) is no number") }
        network.alpha = alpha
      case "alpha_pattern":
        guard case .object(let patterns) = member.value else { throw fail("\(member.key) is no object") }
        network.patterns = try patterns.map { pattern in
          guard let alpha = pattern.value.double, let regex = try? Regex("(?:.*\\.)?(?:\(pattern.key))")
          else {
            throw fail("\(member.key) has no number for '\(pattern.key)', or that is no pattern")
          }
          return (regex, alpha)
        }
      case "use_rslora": network.isRankStabilized = member.value == .bool(true)
      default: break
      }
      networks[parts[0]] = network
    }
  }

  /// A layer's alpha; the rank, which makes the scale 1, where nothing is said.
  func alpha(of target: LoRAKey.Target, rank: Int) -> Float {
    guard let network = networks[target.component] else { return Float(rank) }
    let own = network.patterns.first { (try? $0.regex.wholeMatch(in: target.layer)) != nil }?.alpha
    guard let alpha = own ?? network.alpha else { return Float(rank) }
    return Float(network.isRankStabilized ? alpha * Double(rank).squareRoot() : alpha)
  }
}
