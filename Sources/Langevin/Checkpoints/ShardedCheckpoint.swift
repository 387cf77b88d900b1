import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor

/// Several safetensors files and the index (`*.safetensors.index.json`) that says which tensor is in which.
public final class ShardedCheckpoint: WeightSource {
  /// Where the index file lies, which names each tensor's shard.
  public let url: URL
  /// In the index's order.
  public let names: [String]

  private let shards: [SafetensorsFile]
  private let places: [String: Int]

  /// Opens every shard and checks that each holds what the index places in it.
  ///
  /// Throws `CheckpointError`, in particular `missingShard` and `notInShard`.
  public init(index url: URL) throws {
    self.url = url
    let path = url.path
    let document = try JSONFile.read(url)
    guard case .object(let map) = document["weight_map"] else {
      throw CheckpointError.malformed(path: path, reason: "it has no weight_map")
    }
    var shards: [SafetensorsFile] = []
    var numbers: [String: Int] = [:]
    var places: [String: Int] = [:]
    for entry in map {
      guard let shard = entry.value.string else {
        throw CheckpointError.malformed(path: path, reason: "weight_map '\(entry.key)' is not a file name")
      }
      // A shard lies beside its index; a path out of the folder is not a name.
      guard !shard.isEmpty, !shard.contains("/"), shard != "..", shard != "." else {
        throw CheckpointError.malformed(
          path: path, reason: "weight_map names '\(shard)', not a file beside it")
      }
      if numbers[shard] == nil {
        do {
          shards.append(
            try SafetensorsFile(url: url.deletingLastPathComponent().appendingPathComponent(shard)))
        } catch CheckpointError.missingFile {
          throw CheckpointError.missingShard(index: path, shard: shard)
        }
        numbers[shard] = shards.count - 1
      }
      guard let number = numbers[shard] else { continue }
      guard shards[number].shape(of: entry.key) != nil else {
        throw CheckpointError.notInShard(index: path, shard: shard, tensor: entry.key)
      }
      places[entry.key] = number
    }
    for (shard, number) in numbers {
      for name in shards[number].names where places[name] != number {
        throw CheckpointError.malformed(
          path: path, reason: "\(shard) holds '\(name)', which the index does not place there")
      }
    }
    names = map.map(\.key)
    self.shards = shards
    self.places = places
  }

  /// The index file's path, for messages.
  public var description: String { url.path }

  /// Shape and dtype; nil where there is no such tensor, or its dtype has no equal here.
  public func spec(of name: String) -> TensorSpec? { places[name].flatMap { shards[$0].spec(of: name) } }

  /// Copies a tensor to a device.
  ///
  /// Throws `CheckpointError.missingTensor`, `.unsupportedDType`, or what the device throws.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    try shard(name).load(name, on: device)
  }
}

extension ShardedCheckpoint: TensorFile {
  private func shard(_ name: String) throws -> SafetensorsFile {
    guard let place = places[name] else { throw CheckpointError.missingTensor(path: url.path, name: name) }
    return shards[place]
  }

  func shape(of name: String) -> Shape? { places[name].flatMap { shards[$0].shape(of: name) } }
  func load(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor {
    try shard(name).load(name, rows: rows, on: device)
  }
  func ggufType(of name: String) -> GGUFType? { places[name].flatMap { shards[$0].ggufType(of: name) } }
  func integer(_ name: String) -> Int64? { places[name].flatMap { shards[$0].integer(name) } }
  func withBytes<Result>(of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
  {
    try shard(name).withBytes(of: name, body)
  }
}

/// Small JSON files of a model folder, as Python writes them: a scheduler's has `"lambda_min_clipped": -Infinity`.
enum JSONFile {
  /// Throws `CheckpointError.missingFile`, `.unreadable`, `.malformed` or `.duplicateKey`.
  static func read(_ url: URL) throws -> StrictJSON {
    let bytes = try CheckpointError.reading(url, RegularFile.contents(path:))
    do {
      return try StrictJSON(parsing: bytes, nonFinite: true)
    } catch StrictJSON.ParseError.duplicateKey(let key) {
      throw CheckpointError.duplicateKey(path: url.path, key: key)
    } catch StrictJSON.ParseError.invalid(let reason) {
      throw CheckpointError.malformed(path: url.path, reason: reason)
    }
  }
}
