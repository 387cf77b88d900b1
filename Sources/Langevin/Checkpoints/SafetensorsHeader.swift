import Foundation
import LangevinJSON
import LangevinTensor

/// The header of a safetensors file: what is where.
///
/// The format is an unsigned 64-bit little-endian length, that many bytes of JSON, then the tensors' bytes
/// without gap or overlap. The checks are those of the reference implementation (the Rust crate
/// `safetensors`, `SafeTensors::read_metadata` and `Metadata::validate`), and duplicate keys, unknown fields
/// and a header that does not begin with `{` are refused besides.
struct SafetensorsHeader: Sendable, Equatable {
  struct Entry: Sendable, Equatable {
    let name: String
    let dtype: ElementType
    let shape: [Int]
    /// Within the tensors' bytes.
    let range: Range<Int>
  }

  /// In the order of their bytes.
  let entries: [Entry]
  let metadata: [String: String]
  /// Where the tensors' bytes begin in the file.
  let dataOffset: Int

  static let maximumLength = 100_000_000
  static let metadataKey = "__metadata__"

  /// Throws `CheckpointError`.
  init(parsing file: UnsafeRawBufferPointer, path: String) throws {
    guard file.count >= 8 else { throw CheckpointError.truncated(path: path, expected: 8, got: file.count) }
    let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
    guard length <= Self.maximumLength else {
      throw CheckpointError.malformed(
        path: path, reason: "a header of \(length) bytes (at most \(Self.maximumLength)); is it safetensors?")
    }
    dataOffset = 8 + Int(length)
    guard file.count >= dataOffset else {
      throw CheckpointError.truncated(path: path, expected: dataOffset, got: file.count)
    }
    let bytes = [UInt8](file[8..<dataOffset])
    guard bytes.first == UInt8(ascii: "{") else {
      throw CheckpointError.malformed(path: path, reason: "the header does not begin with '{'")
    }
    let members: [StrictJSON.Member]
    do {
      guard case .object(let found) = try StrictJSON(parsing: bytes) else {
        throw StrictJSON.ParseError.invalid("it is no object")
      }
      members = found
    } catch StrictJSON.ParseError.duplicateKey(let key) {
      throw CheckpointError.duplicateKey(path: path, key: key)
    } catch StrictJSON.ParseError.invalid(let reason) {
      throw CheckpointError.malformed(path: path, reason: "header: \(reason)")
    }

    var metadata: [String: String] = [:]
    var entries: [Entry] = []
    for member in members {
      if member.key == Self.metadataKey {
        metadata = try Self.metadata(member.value, path: path)
      } else {
        entries.append(try Self.entry(member.key, member.value, path: path))
      }
    }
    entries.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    let end = try Self.validate(entries, path: path)
    let available = file.count - dataOffset
    if available < end {
      throw CheckpointError.truncated(path: path, expected: dataOffset + end, got: file.count)
    }
    if available > end {
      throw CheckpointError.malformed(
        path: path, reason: "\(available - end) bytes at its end belong to no tensor")
    }
    self.entries = entries
    self.metadata = metadata
  }

  private static func metadata(_ value: StrictJSON, path: String) throws -> [String: String] {
    guard case .object(let members) = value else {
      throw CheckpointError.malformed(path: path, reason: "\(metadataKey) is not an object")
    }
    var result: [String: String] = [:]
    for member in members {
      guard case .string(let text) = member.value else {
        throw CheckpointError.malformed(path: path, reason: "\(metadataKey) '\(member.key)' is not a string")
      }
      result[member.key] = text
    }
    return result
  }

  private static func entry(_ name: String, _ value: StrictJSON, path: String) throws -> Entry {
    func fail(_ reason: String) -> CheckpointError {
      .malformed(path: path, reason: "tensor '\(name)': \(reason)")
    }
    guard case .object(let fields) = value else { throw fail("its entry is not an object") }
    if let unknown = fields.first(where: { !["dtype", "shape", "data_offsets"].contains($0.key) }) {
      throw fail("the field '\(unknown.key)' is unknown")
    }
    guard let spelling = value["dtype"]?.string else { throw fail("no dtype") }
    guard let dtype = ElementType(rawValue: spelling) else {
      throw fail("the dtype '\(spelling)' is unknown")
    }
    guard case .array(let extents) = value["shape"] else { throw fail("no shape") }
    let shape = extents.compactMap(\.count)
    guard shape.count == extents.count else { throw fail("its shape is not a list of non-negative integers") }
    guard Shape(shape).checkedCount != nil else { throw fail("its shape \(shape) is no possible one") }
    guard case .array(let offsets) = value["data_offsets"] else { throw fail("no data_offsets") }
    let bounds = offsets.compactMap(\.count)
    guard offsets.count == 2, bounds.count == 2 else { throw fail("data_offsets is not a pair of integers") }
    guard bounds[0] <= bounds[1] else { throw fail("its data end before they begin") }
    return Entry(name: name, dtype: dtype, shape: shape, range: bounds[0]..<bounds[1])
  }

  /// Checks that the tensors lie back to back and have the sizes that their shapes ask for; returns the end.
  private static func validate(_ entries: [Entry], path: String) throws -> Int {
    var end = 0
    for entry in entries {
      func fail(_ reason: String) -> CheckpointError {
        .malformed(path: path, reason: "tensor '\(entry.name)': \(reason)")
      }
      guard entry.range.lowerBound == end else {
        throw fail("its data begin at \(entry.range.lowerBound), but \(end) is where the data before it end")
      }
      end = entry.range.upperBound
      let bits = entry.dtype.bitCount * Shape(entry.shape).count
      guard bits % 8 == 0 else { throw fail("its shape \(entry.shape) is no whole number of bytes") }
      guard entry.range.count == bits / 8 else {
        throw fail(
          "\(entry.range.count) bytes for \(entry.dtype.rawValue)\(entry.shape), which needs \(bits / 8)")
      }
    }
    return end
  }
}

/// The element types that the safetensors format knows.
enum ElementType: String, Sendable, CaseIterable {
  case bool = "BOOL"
  case f4 = "F4"
  case f6E2M3 = "F6_E2M3"
  case f6E3M2 = "F6_E3M2"
  case u8 = "U8"
  case i8 = "I8"
  case f8E5M2 = "F8_E5M2"
  case f8E4M3 = "F8_E4M3"
  case f8E8M0 = "F8_E8M0"
  case f8E4M3FNUZ = "F8_E4M3FNUZ"
  case f8E5M2FNUZ = "F8_E5M2FNUZ"
  case i16 = "I16"
  case u16 = "U16"
  case f16 = "F16"
  case bf16 = "BF16"
  case i32 = "I32"
  case u32 = "U32"
  case f32 = "F32"
  case c64 = "C64"
  case f64 = "F64"
  case i64 = "I64"
  case u64 = "U64"

  var bitCount: Int {
    switch self {
    case .f4: 4
    case .f6E2M3, .f6E3M2: 6
    case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: 8
    case .i16, .u16, .f16, .bf16: 16
    case .i32, .u32, .f32: 32
    case .c64, .f64, .i64, .u64: 64
    }
  }

  /// The runtime's equal; nil where it has none.
  var dtype: DType? {
    switch self {
    case .f32: .float32
    case .f16: .float16
    case .bf16: .bfloat16
    case .i32: .int32
    default: nil
    }
  }

  init(_ dtype: DType) {
    self =
      switch dtype {
      case .float32: .f32
      case .float16: .f16
      case .bfloat16: .bf16
      case .int32: .i32
      }
  }
}
