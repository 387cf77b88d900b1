/// CRC-32C (RFC 3720, appendix B.4): the polynomial 0x1EDC6F41, reflected.
enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
  }

  static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
    ~bytes.reduce(UInt32.max) { $0 >> 8 ^ table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
  }

  /// As record files store it, so that a checksum of bytes that hold checksums is no special one.
  static func masked(_ bytes: some Sequence<UInt8>) -> UInt32 {
    let value = checksum(bytes)
    return (value >> 15 | value << 17) &+ 0xA282_EAD8
  }
}

/// A record of a TFRecord file (tensorflow.org/tutorials/load_data/tfrecord): length, masked checksum of the length,
/// payload, masked checksum of the payload, in little-endian order.
enum TFRecord {
  static func framed(_ payload: [UInt8]) -> [UInt8] {
    let length = littleEndian(UInt64(payload.count))
    return length + littleEndian(CRC32C.masked(length)) + payload + littleEndian(CRC32C.masked(payload))
  }

  static func littleEndian<Number: FixedWidthInteger>(_ value: Number) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}

/// A message in Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding), field by field in the order
/// of their numbers.
struct ProtobufMessage {
  private(set) var bytes: [UInt8] = []

  private enum WireType: UInt64 {
    case varint = 0
    case eight = 1
    case lengthDelimited = 2
    case four = 5
  }

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  private mutating func key(_ field: UInt64, _ type: WireType) { varint(field << 3 | type.rawValue) }

  /// An int32, int64 or enum; zero is the default and is left out.
  mutating func add(_ field: UInt64, integer value: Int64) {
    guard value != 0 else { return }
    key(field, .varint)
    varint(UInt64(bitPattern: value))
  }

  /// Zero is the default and is left out.
  mutating func add(_ field: UInt64, double value: Double) {
    guard value.bitPattern != 0 else { return }
    key(field, .eight)
    bytes += TFRecord.littleEndian(value.bitPattern)
  }

  /// Of a choice of several fields, so that zero counts as well.
  mutating func add(_ field: UInt64, chosen value: Float) {
    key(field, .four)
    bytes += TFRecord.littleEndian(value.bitPattern)
  }

  /// A text, bytes or a message.
  mutating func add(_ field: UInt64, _ value: [UInt8]) {
    key(field, .lengthDelimited)
    varint(UInt64(value.count))
    bytes += value
  }
}

/// What TensorBoard reads: tensorboard/compat/proto/event.proto and summary.proto.
enum TensorBoardEvent {
  /// Begins a file.
  case fileVersion
  /// A session begins: what earlier ones logged at its step and later is void.
  case sessionStart
  case scalars([(tag: String, value: Float)])
  case picture(tag: String, width: Int, height: Int, png: [UInt8])

  func encoded(step: Int, time: Double) -> [UInt8] {
    var event = ProtobufMessage()
    event.add(1, double: time)
    event.add(2, integer: Int64(step))
    switch self {
    case .fileVersion: event.add(3, Array("brain.Event:2".utf8))
    case .scalars(let scalars):
      var summary = ProtobufMessage()
      for (tag, value) in scalars {
        var entry = ProtobufMessage()
        entry.add(1, Array(tag.utf8))
        entry.add(2, chosen: value)
        summary.add(1, entry.bytes)
      }
      event.add(5, summary.bytes)
    case .picture(let tag, let width, let height, let png):
      var image = ProtobufMessage()
      image.add(1, integer: Int64(height))
      image.add(2, integer: Int64(width))
      // Red, green and blue.
      image.add(3, integer: 3)
      image.add(4, png)
      var entry = ProtobufMessage()
      entry.add(1, Array(tag.utf8))
      entry.add(4, image.bytes)
      var summary = ProtobufMessage()
      summary.add(1, entry.bytes)
      event.add(5, summary.bytes)
    case .sessionStart:
      var log = ProtobufMessage()
      log.add(1, integer: 1)
      event.add(7, log.bytes)
    }
    return event.bytes
  }
}
