import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor

/// A safetensors file, mapped into memory and checked in full before anything is read from it.
public final class SafetensorsFile: WeightSource, TensorFile {
  /// Where the file lies.
  public let url: URL
  /// The `__metadata__` of the header.
  public let metadata: [String: String]
  /// In the order of their bytes.
  public let names: [String]

  private let mapping: RegularFile
  private let entries: [String: SafetensorsHeader.Entry]
  private let dataOffset: Int

  /// Maps a file and checks its header.
  ///
  /// Throws `CheckpointError`: `missingFile`, `unreadable`, `pickle`, `truncated`, `malformed`, `duplicateKey`.
  public init(url: URL) throws {
    self.url = url
    mapping = try CheckpointError.reading(url, RegularFile.init(path:))
    try PickleCheck.refuse(mapping.bytes, path: url.path)
    let header = try SafetensorsHeader(parsing: mapping.bytes, path: url.path)
    metadata = header.metadata
    names = header.entries.map(\.name)
    entries = Dictionary(uniqueKeysWithValues: header.entries.map { ($0.name, $0) })
    dataOffset = header.dataOffset
  }

  /// The file's path, for messages.
  public var description: String { url.path }

  /// Shape and dtype; nil where there is no such tensor, or its dtype has no equal here.
  public func spec(of name: String) -> TensorSpec? {
    guard let entry = entries[name], let dtype = entry.dtype.dtype else { return nil }
    return TensorSpec(Shape(entry.shape), dtype)
  }

  /// The shape of a tensor of whatever dtype; nil where there is no such tensor.
  public func shape(of name: String) -> Shape? { entries[name].map { Shape($0.shape) } }

  /// A tensor on a device: where it lies in the mapped file if the device computes on host memory (the file must
  /// not change while the tensor lives), otherwise copied. Its pages go back to the system with it.
  ///
  /// Throws `CheckpointError.missingTensor`, `.unsupportedDType`, or what the device throws.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    try load(name, rows: nil, on: device)
  }

  /// Copies rows of the first axis, or all of them.
  func load(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor {
    guard let entry = entries[name] else { throw CheckpointError.missingTensor(path: url.path, name: name) }
    guard let dtype = entry.dtype.dtype else {
      throw CheckpointError.unsupportedDType(path: url.path, tensor: name, dtype: entry.dtype.rawValue)
    }
    var shape = Shape(entry.shape)
    var range = dataOffset + entry.range.lowerBound..<dataOffset + entry.range.upperBound
    if let rows {
      precondition(shape.rank > 0 && rows.lowerBound >= 0 && rows.upperBound <= shape[0])
      let stride = entry.range.count / max(shape[0], 1)
      range = range.lowerBound + rows.lowerBound * stride..<range.lowerBound + rows.upperBound * stride
      shape = shape.replacing(axis: 0, with: rows.count)
    }
    let bytes = MappedBytes(mapping, range)
    return try Tensor(adopting: bytes.bytes, owner: bytes, TensorSpec(shape, dtype), on: device)
  }

  /// Lends the bytes of a tensor as the file has them. Throws `CheckpointError.missingTensor` and what `body` throws.
  func withBytes<Result>(of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
  {
    guard let range = entries[name]?.range else {
      throw CheckpointError.missingTensor(path: url.path, name: name)
    }
    return try withExtendedLifetime(mapping) {
      try body(
        UnsafeRawBufferPointer(
          rebasing: mapping.bytes[dataOffset + range.lowerBound..<dataOffset + range.upperBound]))
    }
  }

  func ggufType(of name: String) -> GGUFType? {
    switch entries[name]?.dtype {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    case .f64: .f64
    case .i8: .i8
    case .i16: .i16
    case .i32: .i32
    case .i64: .i64
    default: nil
    }
  }

  /// How many tensors are stored as what, and their bytes; the largest first.
  var encodings: [(name: String, count: Int, bytes: Int)] {
    Dictionary(grouping: entries.values, by: \.dtype.rawValue).map { name, entries in
      (name, entries.count, entries.reduce(0) { $0 + $1.range.count })
    }.sorted { ($0.bytes, $1.name) > ($1.bytes, $0.name) }
  }

  /// Whether a tensor is of int32, int64 or bool.
  func isInteger(_ name: String) -> Bool {
    entries[name].map { [.i64, .i32, .bool].contains($0.dtype) } ?? false
  }

  /// The elements of an int32, int64 or bool tensor, bools as 0 and 1; nil for others.
  func integers(_ name: String) -> [Int64]? {
    guard let entry = entries[name], isInteger(name) else { return nil }
    func read<T: FixedWidthInteger>(_ type: T.Type) -> [Int64] {
      let start = dataOffset + entry.range.lowerBound
      return stride(from: start, to: start + entry.range.count, by: MemoryLayout<T>.size).map {
        Int64(T(littleEndian: mapping.bytes.loadUnaligned(fromByteOffset: $0, as: T.self)))
      }
    }
    switch entry.dtype {
    case .i64: return read(Int64.self)
    case .i32: return read(Int32.self)
    default: return read(UInt8.self)
    }
  }

  /// The value of an int64 tensor of one element; nil where there is none of this name.
  func integer(_ name: String) -> Int64? {
    guard let entry = entries[name], entry.dtype == .i64, entry.range.count == 8 else { return nil }
    return Int64(
      littleEndian: mapping.bytes.loadUnaligned(
        fromByteOffset: dataOffset + entry.range.lowerBound, as: Int64.self))
  }
}

/// A part of a mapped file; its pages leave resident memory when nobody uses it any more.
final class MappedBytes: Sendable {
  private let mapping: RegularFile
  private let range: Range<Int>

  init(_ mapping: RegularFile, _ range: Range<Int>) {
    self.mapping = mapping
    self.range = range
  }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: mapping.bytes[range]) }

  deinit { mapping.release(range) }
}

/// Recognises what `torch.save` writes.
enum PickleCheck {
  static let suffixes: Set<String> = ["ckpt", "pt", "pth", "bin", "pkl"]

  /// Throws `CheckpointError.pickle` for a zip archive, a pickle or a file named like one.
  static func refuse(_ bytes: UnsafeRawBufferPointer, path: String) throws {
    let suffix = path.split(separator: ".").last.map { $0.lowercased() } ?? ""
    let zip = bytes.starts(with: [0x50, 0x4B, 0x03, 0x04])
    // Opcode PROTO and a protocol number; as a header length it would be no sensible size either.
    let pickle = bytes.count >= 2 && bytes[0] == 0x80 && (2...5).contains(bytes[1]) && !looksLikeHeader(bytes)
    if suffixes.contains(suffix) || zip || pickle { throw CheckpointError.pickle(path: path) }
  }

  private static func looksLikeHeader(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count > 8 && bytes[8] == UInt8(ascii: "{")
  }
}
