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
  /// read, with their names, `unknownTensors`; `AdapterError.setting`, `.unpaired` and `.factors`, and
  /// `WeightError.unsupportedDType`.
  public init(url: URL) throws {
    let url = url.adapterFile(Self.fileName, Self.peftFileName)
    let file = try SafetensorsFile(url: url)
    (self.url, self.file) = (url, file)
    // What a file says of itself tells more than a tensor that nothing has a use for.
    let metadata = try LoRAMetadata(file)
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
