import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor

/// A GGUF file, mapped into memory and checked in full before anything is read from it: weights in ggml's blocks, as
/// stable-diffusion.cpp and ComfyUI-GGUF write them.
public final class GGUFFile: WeightSource {
  /// Where the file lies.
  public let url: URL
  /// In the file's order.
  public let names: [String]

  private let mapping: RegularFile
  private let entries: [String: GGUFHeader.Entry]

  /// Maps a file and checks its header.
  ///
  /// Throws `CheckpointError`: `missingFile`, `unreadable`, `truncated`, `malformed`, `duplicateKey`, and `unsupported` for a
  /// version or a tensor's type that is not read, with its name.
  public init(url: URL) throws {
    self.url = url
    mapping = try CheckpointError.reading(url, RegularFile.init(path:))
    let header = try GGUFHeader(parsing: mapping.bytes, path: url.path)
    names = header.entries.map(\.name)
    entries = Dictionary(uniqueKeysWithValues: header.entries.map { ($0.name, $0) })
  }

  /// The file's path, for messages.
  public var description: String { url.path }

  /// Shape and dtype, float32 for what is in blocks; nil where there is no such tensor, or its type has no equal here.
  public func spec(of name: String) -> TensorSpec? {
    guard let entry = entries[name] else { return nil }
    let dtype = entry.type.encoding == nil ? entry.type.dtype : .float32
    return dtype.map { TensorSpec(Shape(entry.shape), $0) }
  }

  /// Of the tensor's type.
  public func encoding(of name: String) -> BlockEncoding? { entries[name]?.type.encoding }

  /// A tensor on a device, decoded there to float32 where it is in blocks.
  ///
  /// Throws `CheckpointError.missingTensor`, `.unsupportedDType`, or what the device throws.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    try load(name, rows: nil, on: device)
  }

  /// The blocks where they lie in the mapped file if the device computes on host memory (the file must not change while the
  /// tensor lives), otherwise copied.
  ///
  /// Throws `CheckpointError.missingTensor`, `WeightError.notInBlocks`, or what the device throws.
  public func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try loadBlocks(name, rows: nil, on: device)
  }

  private func entry(_ name: String) throws -> GGUFHeader.Entry {
    guard let entry = entries[name] else { throw CheckpointError.missingTensor(path: url.path, name: name) }
    return entry
  }
}

extension GGUFFile: TensorFile {
  func shape(of name: String) -> Shape? { entries[name].map { Shape($0.shape) } }

  func load(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor {
    let entry = try entry(name)
    let shape = Shape(entry.shape)
    if let encoding = entry.type.encoding {
      let all = try loadBlocks(name, on: device).dequantized(encoding).reshaped(shape)
      return try rows.map { try all.rows($0) } ?? all
    }
    guard let dtype = entry.type.dtype else {
      throw CheckpointError.unsupportedDType(path: url.path, tensor: name, dtype: entry.type.name)
    }
    let rows = rows ?? 0..<(shape.rank > 0 ? shape[0] : 1)
    let stride = entry.range.count / max(shape.rank > 0 ? shape[0] : 1, 1)
    let start = entry.range.lowerBound
    let bytes = MappedBytes(
      mapping, start + rows.lowerBound * stride..<start + rows.upperBound * stride)
    let part = shape.rank > 0 ? shape.replacing(axis: 0, with: rows.count) : shape
    return try Tensor(adopting: bytes.bytes, owner: bytes, TensorSpec(part, dtype), on: device)
  }

  func loadBlocks(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor {
    let entry = try entry(name)
    guard let encoding = entry.type.encoding else {
      throw WeightError.notInBlocks(name: name, source: description)
    }
    let shape = Shape(entry.shape)
    let row = shape.count / max(shape[0], 1)
    let numbers = (rows?.lowerBound ?? 0) * row..<(rows?.upperBound ?? shape[0]) * row
    precondition(
      numbers.lowerBound % encoding.elementCount == 0 && numbers.count % encoding.elementCount == 0)
    let start = entry.range.lowerBound + encoding.byteCount(numbers.lowerBound)
    let spec = encoding.spec(numbers.count)
    if start + spec.byteCount <= mapping.bytes.count {
      let bytes = MappedBytes(mapping, start..<start + spec.byteCount)
      return try Tensor(adopting: bytes.bytes, owner: bytes, spec, on: device)
    }
    // The file ends within the last word.
    var copy = [UInt8](mapping.bytes[start..<start + encoding.byteCount(numbers.count)])
    copy += [UInt8](repeating: 0, count: spec.byteCount - copy.count)
    return try copy.withUnsafeBytes { try Tensor(bytes: $0, spec, on: device) }
  }

  func integer(_ name: String) -> Int64? {
    guard let entry = entries[name], entry.type == .i64, entry.range.count == 8 else { return nil }
    return Int64(
      littleEndian: mapping.bytes.loadUnaligned(fromByteOffset: entry.range.lowerBound, as: Int64.self))
  }

  func withBytes<Result>(of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
  {
    let range = try entry(name).range
    return try withExtendedLifetime(mapping) {
      try body(UnsafeRawBufferPointer(rebasing: mapping.bytes[range]))
    }
  }

  func ggufType(of name: String) -> GGUFType? { entries[name]?.type }
}
