import Foundation
import LangevinJSON
import LangevinTensor

/// Writes tensors and metadata as one safetensors file.
public enum SafetensorsWriter {
  /// Writes tensors in the order given; the file appears under its name only when it is complete.
  ///
  /// Tensors of wide elements come first in other writers, for alignment's sake; here the caller's order is
  /// kept, and the header is padded so that the first tensor is aligned to 8 bytes. Throws
  /// `CheckpointError.unwritable`, `.duplicateKey`, or what reading a tensor back throws.
  public static func write(
    _ tensors: [(name: String, tensor: Tensor)], metadata: [String: String] = [:], to url: URL
  ) throws {
    try write(tensors.map { ($0.name, $0.tensor.spec) }, metadata: metadata, to: url) { tensors[$0].tensor }
  }

  /// Writes tensors of these specs in the order given, each of which is asked for when its turn comes. Throws as
  /// `write(_:metadata:to:)` and what `tensor` throws.
  static func write(
    _ specs: [(name: String, spec: TensorSpec)], metadata: [String: String], to url: URL,
    _ tensor: (_ index: Int) throws -> Tensor
  ) throws {
    let header = try header(
      specs.map { ($0.name, ElementType($0.spec.dtype), $0.spec.shape.dimensions, $0.spec.byteCount) },
      metadata: metadata, path: url.path)
    do {
      try OutputFile.write(to: url) { put in
        try header.withUnsafeBytes(put)
        for index in specs.indices { try tensor(index).withBytes(put) }
      }
    } catch ImageError.unwritable(let path, let reason) {
      throw CheckpointError.unwritable(path: path, reason: reason)
    }
  }

  /// Writes one float32 tensor, [count, …], whose rows come one after the other: each call of `put` gives latents of
  /// one shape, [rows, …]. The file appears under its name when `body` has returned.
  ///
  /// Throws `ImageError.unwritable`, `CheckpointError.malformed` where the rows are not `count` of one shape, and what
  /// `body` throws.
  public static func write(
    _ name: String, rows count: Int, to url: URL, _ body: (_ put: (HostLatents) throws -> Void) throws -> Void
  ) throws {
    try OutputFile.write(to: url) { put in
      var (shape, written): (Shape?, Int) = (nil, 0)
      try withoutActuallyEscaping(put) { put in
        try body { rows in
          let whole = rows.shape.replacing(axis: 0, with: count)
          if shape == nil {
            let entry = [(name, ElementType(.float32), whole.dimensions, whole.count * 4)]
            try header(entry, metadata: [:], path: url.path).withUnsafeBytes(put)
          }
          let expected = shape ?? whole
          guard whole == expected, rows.values.count == rows.shape.count else {
            throw CheckpointError.malformed(
              path: url.path, reason: "rows of \(rows.shape) do not fit \(expected)")
          }
          shape = expected
          written += rows.shape[0]
          try rows.values.withUnsafeBytes(put)
        }
      }
      guard written == count else {
        throw CheckpointError.malformed(path: url.path, reason: "\(written) rows came of \(count)")
      }
    }
  }

  /// The length and the JSON, padded with spaces to a multiple of 8 bytes.
  static func header(
    _ tensors: [(name: String, dtype: ElementType, shape: [Int], byteCount: Int)], metadata: [String: String],
    path: String
  ) throws -> [UInt8] {
    var members: [StrictJSON.Member] = []
    var seen: Set<String> = [SafetensorsHeader.metadataKey]
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { StrictJSON.Member($0.key, .string($0.value)) }
      members.append(StrictJSON.Member(SafetensorsHeader.metadataKey, .object(pairs)))
    }
    var offset = 0
    for (name, dtype, shape, byteCount) in tensors {
      guard seen.insert(name).inserted else { throw CheckpointError.duplicateKey(path: path, key: name) }
      members.append(
        StrictJSON.Member(
          name,
          .object([
            StrictJSON.Member("dtype", .string(dtype.rawValue)),
            StrictJSON.Member("shape", .integers(shape)),
            StrictJSON.Member("data_offsets", .integers([offset, offset + byteCount])),
          ])))
      offset += byteCount
    }
    var json = Array(StrictJSON.object(members).text.utf8)
    json += [UInt8](repeating: 0x20, count: (8 - json.count % 8) % 8)
    let length = UInt64(json.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) } + json
  }
}
