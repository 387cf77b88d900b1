import Foundation
import LangevinTensor

/// The header of a GGUF file: what is where.
///
/// Little-endian, versions 2 and 3: the magic number, a version, counts of tensors and of metadata, the metadata, what each
/// tensor is, and at the next multiple of the alignment the tensors' bytes. ggml's docs/gguf.md is the specification. Extents
/// are the innermost first there, and the outermost first here.
struct GGUFHeader: Sendable, Equatable {
  struct Entry: Sendable, Equatable {
    let name: String
    let type: GGUFType
    let shape: [Int]
    /// Within the file.
    let range: Range<Int>
  }

  /// Metadata that is kept: text, numbers and short lists of whole numbers.
  enum Value: Sendable, Equatable {
    case text(String)
    case integer(Int)
    case integers([Int])
  }

  static let magic = Array("GGUF".utf8)
  static let versions: ClosedRange<UInt32> = 2...3
  /// What ComfyUI-GGUF writes of a tensor whose numbers it laid out in rows of 256: the shape that they have.
  static let shapeKey = "comfy.gguf.orig_shape."
  private static let alignmentKey = "general.alignment"

  /// In the file's order.
  let entries: [Entry]
  let metadata: [String: Value]

  /// Throws `CheckpointError`.
  init(parsing file: UnsafeRawBufferPointer, path: String) throws {
    var reader = GGUFReader(file, path: path)
    guard file.starts(with: Self.magic) else { throw reader.malformed("it does not begin with GGUF") }
    reader.skip(4)
    let version = try reader.number(UInt32.self)
    guard Self.versions.contains(version) else {
      throw CheckpointError.unsupported(
        path: path, found: "GGUF version \(version)", supported: ["2", "3, little-endian"])
    }
    // No tensor and no pair takes less than this, so that a count has a limit before anything is allocated.
    let tensorCount = try reader.count(of: "tensors", leastBytes: 24)
    let pairCount = try reader.count(of: "metadata", leastBytes: 13)
    var metadata: [String: Value] = [:]
    var keys: Set<String> = []
    for _ in 0..<pairCount {
      let key = try reader.string()
      guard keys.insert(key).inserted else { throw CheckpointError.duplicateKey(path: path, key: key) }
      metadata[key] = try reader.value(key)
    }
    let infos = try (0..<tensorCount).map { _ in try Info(&reader) }
    let alignment = try Self.alignment(metadata, reader)
    let start = (reader.offset + alignment - 1) / alignment * alignment
    entries = try Self.entries(infos, metadata, from: start, alignment: alignment, reader)
    self.metadata = metadata
  }

  private struct Info {
    let name: String
    let extents: [Int]
    let type: UInt32
    let offset: UInt64

    init(_ reader: inout GGUFReader) throws {
      name = try reader.string()
      let rank = try reader.number(UInt32.self)
      // ggml has four; ComfyUI-GGUF writes the five of a convolution over time too.
      guard rank <= 5 else {
        throw reader.malformed("tensor '\(name)' has \(rank) axes, at most 5 are possible")
      }
      let name = name
      extents = try (0..<rank).map { _ in
        let extent = try reader.number(UInt64.self)
        guard let small = Int(exactly: extent) else {
          throw reader.malformed("tensor '\(name)' has an extent of \(extent)")
        }
        return small
      }
      type = try reader.number(UInt32.self)
      offset = try reader.number(UInt64.self)
    }
  }

  private static func alignment(_ metadata: [String: Value], _ reader: GGUFReader) throws -> Int {
    guard let value = metadata[alignmentKey] else { return 32 }
    guard case .integer(let alignment) = value, (1...1 << 16).contains(alignment),
      alignment & (alignment - 1) == 0
    else { throw reader.malformed("\(alignmentKey) is no power of two up to 65536") }
    return alignment
  }

  private static func entries(
    _ infos: [Info], _ metadata: [String: Value], from start: Int, alignment: Int, _ reader: GGUFReader
  ) throws -> [Entry] {
    var names: Set<String> = []
    let entries = try infos.map { info in
      func malformed(_ reason: String) -> CheckpointError {
        reader.malformed("tensor '\(info.name)': \(reason)")
      }
      guard names.insert(info.name).inserted else {
        throw CheckpointError.duplicateKey(path: reader.path, key: info.name)
      }
      guard let type = GGUFType(rawValue: info.type) else {
        throw CheckpointError.unsupported(
          path: reader.path, found: "tensor '\(info.name)' of type \(GGUFType.name(info.type))",
          supported: GGUFType.allCases.map(\.name))
      }
      let rows = Shape(Array(info.extents.reversed()))
      guard let count = rows.checkedCount else { throw malformed("its shape \(rows) is no possible one") }
      let width = info.extents.first ?? 1
      guard width % type.elementCount == 0 else {
        throw malformed("rows of \(width) numbers are no whole blocks of \(type.name)")
      }
      guard info.offset % UInt64(alignment) == 0 else {
        throw malformed("its data begin at \(info.offset), no multiple of \(alignment)")
      }
      let byteCount = count / type.elementCount * type.byteCount
      guard let offset = Int(exactly: info.offset), offset <= reader.bytes.count - start,
        byteCount <= reader.bytes.count - start - offset
      else {
        let end = info.offset.addingReportingOverflow(UInt64(start + byteCount))
        throw CheckpointError.truncated(
          path: reader.path, expected: end.overflow ? Int.max : Int(clamping: end.partialValue),
          got: reader.bytes.count)
      }
      var shape = rows.dimensions
      if let value = metadata[shapeKey + info.name] {
        guard case .integers(let given) = value, Shape(given).checkedCount == count else {
          throw malformed("\(shapeKey)\(info.name) is no shape of its \(count) numbers")
        }
        shape = given
      }
      return Entry(
        name: info.name, type: type, shape: shape,
        range: start + offset..<start + offset + byteCount)
    }
    let ordered = entries.filter { !$0.range.isEmpty }.sorted { $0.range.lowerBound < $1.range.lowerBound }
    for (first, second) in zip(ordered, ordered.dropFirst())
    where second.range.lowerBound < first.range.upperBound {
      throw reader.malformed("the data of '\(first.name)' and '\(second.name)' overlap")
    }
    return entries
  }
}

/// The types of tensors that are read, by ggml's numbers.
enum GGUFType: UInt32, Sendable, CaseIterable {
  case f32 = 0
  case f16 = 1
  case q4 = 2
  case q5 = 6
  case q8 = 8
  case q4K = 12
  case q6K = 14
  case i8 = 24
  case i16 = 25
  case i32 = 26
  case i64 = 27
  case f64 = 28
  case bf16 = 30

  /// All of ggml's, for messages.
  private static let names: [UInt32: String] = [
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
    18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16",
    26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    40: "NVFP4", 41: "Q1_0",
  ]

  /// What ggml calls the type of a number.
  static func name(_ number: UInt32) -> String { names[number] ?? "\(number), which ggml does not have" }
  var name: String { Self.name(rawValue) }

  /// Nil where each number is by itself.
  var encoding: BlockEncoding? {
    switch self {
    case .q8: .q8
    case .q5: .q5
    case .q4: .q4
    case .q4K: .q4K
    case .q6K: .q6K
    default: nil
    }
  }

  /// The runtime's equal; nil for what is in blocks and where it has none.
  var dtype: DType? {
    switch self {
    case .f32: .float32
    case .f16: .float16
    case .bf16: .bfloat16
    case .i32: .int32
    default: nil
    }
  }

  /// Numbers that are stored together.
  var elementCount: Int { encoding?.elementCount ?? 1 }

  /// Bytes of so many.
  var byteCount: Int {
    switch self {
    case .f32, .i32: 4
    case .f16, .bf16, .i16: 2
    case .i8: 1
    case .f64, .i64: 8
    case .q8, .q5, .q4, .q4K, .q6K: encoding?.byteCount ?? 0
    }
  }

  init(_ encoding: BlockEncoding) {
    self =
      switch encoding {
      case .q8: .q8
      case .q5: .q5
      case .q4: .q4
      case .q4K: .q4K
      case .q6K: .q6K
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

/// Reads numbers and text one after another, within the file.
private struct GGUFReader {
  let bytes: UnsafeRawBufferPointer
  let path: String
  private(set) var offset = 0

  /// Lists of more numbers are passed over: tokenizers have them.
  private static let longestList = 16

  init(_ bytes: UnsafeRawBufferPointer, path: String) { (self.bytes, self.path) = (bytes, path) }

  func malformed(_ reason: String) -> CheckpointError { .malformed(path: path, reason: reason) }

  private var left: Int { bytes.count - offset }

  private func require(_ count: Int) throws {
    guard count <= left else {
      throw CheckpointError.truncated(path: path, expected: offset + count, got: bytes.count)
    }
  }

  /// Within what was required.
  mutating func skip(_ count: Int) { offset += count }

  mutating func number<T: FixedWidthInteger>(_ type: T.Type) throws -> T {
    try require(MemoryLayout<T>.size)
    defer { offset += MemoryLayout<T>.size }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// How many there are of what takes so many bytes at least.
  mutating func count(of what: String, leastBytes: Int) throws -> Int {
    let count = try number(UInt64.self)
    guard count <= UInt64(left / leastBytes) else {
      throw malformed("it counts \(count) \(what), for which it is too short")
    }
    return Int(count)
  }

  mutating func string() throws -> String {
    let count = try count(of: "bytes of a text", leastBytes: 1)
    defer { offset += count }
    return String(decoding: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]), as: UTF8.self)
  }

  /// Nil for what nobody needs.
  mutating func value(_ key: String) throws -> GGUFHeader.Value? {
    let type = try number(UInt32.self)
    if type == 8 { return .text(try string()) }
    if type == 9 { return try list(key) }
    guard let size = Self.size(type) else { throw malformed("'\(key)' is of the unknown type \(type)") }
    try require(size)
    defer { offset += size }
    return integer(type).map { .integer($0) }
  }

  private mutating func list(_ key: String) throws -> GGUFHeader.Value? {
    let type = try number(UInt32.self)
    if type == 8 {
      for _ in 0..<(try count(of: "texts in '\(key)'", leastBytes: 8)) { _ = try string() }
      return nil
    }
    guard let size = Self.size(type) else {
      throw malformed("'\(key)' is a list of the type \(type), which is none of a list")
    }
    let count = try count(of: "numbers in '\(key)'", leastBytes: size)
    guard count <= Self.longestList else {
      offset += count * size
      return nil
    }
    var numbers: [Int] = []
    for _ in 0..<count {
      if let number = integer(type) { numbers.append(number) }
      offset += size
    }
    return numbers.count == count ? .integers(numbers) : nil
  }

  /// Bytes of a number of a type; nil for text, lists and unknown ones.
  private static func size(_ type: UInt32) -> Int? {
    switch type {
    case 0, 1, 7: 1
    case 2, 3: 2
    case 4, 5, 6: 4
    case 10, 11, 12: 8
    default: nil
    }
  }

  /// A whole number that is not advanced past; nil for others, and for what `Int` cannot hold.
  private func integer(_ type: UInt32) -> Int? {
    func read<T: FixedWidthInteger>(_ type: T.Type) -> Int? {
      Int(exactly: T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self)))
    }
    switch type {
    case 0: return read(UInt8.self)
    case 1: return read(Int8.self)
    case 2: return read(UInt16.self)
    case 3: return read(Int16.self)
    case 4: return read(UInt32.self)
    case 5: return read(Int32.self)
    case 10: return read(UInt64.self)
    case 11: return read(Int64.self)
    default: return nil
    }
  }
}
