import Foundation
import LangevinJSON
import LangevinTensor

/// What can be wrong with the files of a model.
public enum CheckpointError: Error, Sendable, Equatable, CustomStringConvertible {
  case missingFile(path: String)
  /// The operating system refused; `reason` is its message.
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  /// The file ends before what its header promises.
  case truncated(path: String, expected: Int, got: Int)
  case malformed(path: String, reason: String)
  case duplicateKey(path: String, key: String)
  /// A Python pickle, which can run code when read.
  case pickle(path: String)
  case missingTensor(path: String, name: String)
  /// Tensors which no part of the model takes.
  case unknownTensors(path: String, names: [String])
  case unsupportedDType(path: String, tensor: String, dtype: String)
  /// A pipeline or component class, or a layout of keys, that is not implemented.
  case unsupported(path: String, found: String, supported: [String])
  /// Products of int8 need weights in `q8_0`.
  case noInt8Weights(path: String)
  /// A component that the pipeline needs.
  case missingComponent(path: String, name: String)
  /// The index of a sharded checkpoint names a file that is not there.
  case missingShard(index: String, shard: String)
  case notInShard(index: String, shard: String, tensor: String)

  /// One line that says which file and what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .missingFile(let path): "\(path): no such file"
    case .unreadable(let path, let reason): "\(path): cannot be read: \(reason)"
    case .unwritable(let path, let reason): "\(path): cannot be written: \(reason)"
    case .truncated(let path, let expected, let got):
      "\(path): truncated: \(got) bytes of \(expected); download it again"
    case .malformed(let path, let reason): "\(path): malformed: \(reason)"
    case .duplicateKey(let path, let key): "\(path): malformed: the key '\(key)' appears twice"
    case .pickle(let path):
      "\(path): is a Python pickle, which can run code when read; \(Self.conversion(path))"
    case .missingTensor(let path, let name): "\(path): has no tensor '\(name)'"
    case .unknownTensors(let path, let names):
      "\(path): \(names.count) tensors belong to no part of the model: "
        + names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
    case .unsupportedDType(let path, let tensor, let dtype):
      "\(path): tensor '\(tensor)' is stored as \(dtype), which is not supported (F32, F16, BF16 and I32 are)"
    case .unsupported(let path, let found, let supported):
      "\(path): \(found) is not supported (supported: \(supported.joined(separator: ", ")))"
    case .noInt8Weights(let path):
      "\(path): has no weights in q8_0, which arithmetic in int8 needs; --encoding q8_0 makes them"
    case .missingComponent(let path, let name): "\(path): the component \(name) is missing"
    case .missingShard(let index, let shard): "\(index): names the shard \(shard), which is not there"
    case .notInShard(let index, let shard, let tensor):
      "\(index): places the tensor '\(tensor)' in \(shard), which does not hold it"
    }
  }

  /// What opening or reading a file gives. Throws `missingFile` and `unreadable`.
  static func reading<Result>(
    _ url: URL, _ body: (String) throws(RegularFile.Failure) -> Result
  ) throws(CheckpointError) -> Result {
    do {
      return try body(url.path)
    } catch {
      switch error {
      case .missing: throw .missingFile(path: url.path)
      case .unreadable(let reason): throw .unreadable(path: url.path, reason: reason)
      }
    }
  }

  /// A line for a shell; the paths are arguments, which need no second quoting for Python.
  private static func conversion(_ path: String) -> String {
    let parts = path.split(separator: ".", omittingEmptySubsequences: false)
    let isMisnamed = parts.last == "safetensors"
    let stem = parts.dropLast().joined(separator: ".") + (isMisnamed ? "-converted" : "")
    let script =
      "import sys, torch; from safetensors.torch import save_file; d = torch.load(sys.argv[1], "
      + "map_location=\"cpu\", weights_only=True); d = next((d[k] for k in (\"state_dict\", "
      + "\"params_ema\", \"params\") if k in d), d); save_file({k: "
      + "v.clone().contiguous() for k, v in d.items() if hasattr(v, \"dtype\")}, sys.argv[2])"
    return "convert it with: python -c '\(script)' \(path.shellQuoted) \((stem + ".safetensors").shellQuoted)"
  }
}
