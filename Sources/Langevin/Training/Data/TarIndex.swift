import LangevinTensor

/// A header's size, and what contents are padded to.
private let block = 512

/// Where each file of a tar archive lies in it.
///
/// POSIX.1-2024 `pax` (ustar, and extended headers with `path` and `size`), GNU tar's long names and large
/// sizes, and the format of 1979. Only files and folders: links, devices and sparse files are refused.
struct TarIndex: Equatable {
  /// A file in the archive.
  struct Member: Equatable {
    /// Its path, without a leading `./`.
    let name: String
    /// Its bytes in the archive.
    let range: Range<Int>
  }

  /// In the archive's order.
  private(set) var members: [Member] = []

  /// Reads all headers, and no contents.
  ///
  /// Throws `DataError.truncated`, also for an archive without its end mark, `.badChecksum`, and
  /// `.malformed`.
  init(_ bytes: UnsafeRawBufferPointer, path: String) throws {
    var reader = Reader(bytes: bytes, path: path)
    guard !bytes.starts(with: [0x1F, 0x8B]), !bytes.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) else {
      throw reader.malformed("it is compressed; unpack it to a plain .tar")
    }
    while let member = try reader.next() { members.append(member) }
  }

  /// Headers and contents are padded to this many bytes.
  fileprivate static func padded(_ count: Int) -> Int { (count + block - 1) / block * block }

  private struct Reader {
    let bytes: UnsafeRawBufferPointer
    let path: String
    var position = 0

    /// What extended headers say of the next file.
    var longName: String?
    var longSize: Int?

    func malformed(_ reason: String, member: String? = nil) -> DataError {
      .malformed(DataPlace(path, member: member), reason: reason)
    }

    func truncated(_ reason: String) -> DataError {
      .truncated(path: path, byteCount: bytes.count, reason: reason)
    }

    /// The next file; nil at the archive's end.
    mutating func next() throws -> Member? {
      while true {
        guard position < bytes.count else { throw truncated("before the archive's end mark") }
        guard position + block <= bytes.count else {
          throw truncated("in the header at byte \(position)")
        }
        let header = TarHeader(UnsafeRawBufferPointer(rebasing: bytes[position..<position + block]))
        if header.isZero {
          // Of archives that were joined the rest would be lost.
          guard bytes[position...].allSatisfy({ $0 == 0 }) else {
            throw malformed("it goes on after its end mark at byte \(position); give joined archives apart")
          }
          guard longName == nil, longSize == nil else { throw truncated("after an extended header") }
          return nil
        }
        guard header.hasRightChecksum else { throw DataError.badChecksum(path: path, offset: position) }
        guard let size = header.size, let name = header.name else {
          throw malformed("the header at byte \(position) has no readable name and size")
        }
        let start = position + block
        let isFile = header.isFile(name)
        let count = isFile ? longSize ?? size : size
        let known = isFile || header.kind == .folder ? longName ?? name : name
        guard count <= bytes.count - start, TarIndex.padded(count) <= bytes.count - start else {
          throw truncated("in \(known.printable), which has \(count) bytes from byte \(start) on")
        }
        let range = start..<start + count
        position = start + TarIndex.padded(count)
        switch header.kind {
        case .file where isFile:
          (longName, longSize) = (nil, nil)
          return Member(name: Self.plain(known), range: range)
        case .file, .folder: (longName, longSize) = (nil, nil)
        case .longName:
          guard let name = TarHeader.text(bytes[range]) else { throw malformed("a name is not UTF-8") }
          longName = name
        case .extended: try extend(bytes[range], isGlobal: false)
        case .global: try extend(bytes[range], isGlobal: true)
        case .other(let letter):
          throw malformed("it is neither a file nor a folder (kind '\(letter)')", member: known)
        }
      }
    }

    private static func plain(_ name: String) -> String {
      var name = name[...]
      while name.hasPrefix("./") { name = name.dropFirst(2) }
      return String(name)
    }

    /// Reads records "LENGTH KEY=VALUE\n", whose length counts all of it.
    private mutating func extend(_ records: UnsafeRawBufferPointer.SubSequence, isGlobal: Bool) throws {
      var rest = records
      // Padding with zeros is seen behind the records of some writers.
      while let first = rest.first, first != 0 {
        guard let space = rest.firstIndex(of: 0x20),
          let length = Int(String(decoding: rest[..<space], as: UTF8.self)),
          length > space - rest.startIndex + 1, length <= rest.count,
          rest[rest.startIndex + length - 1] == 0x0A,
          case let record = rest[(space + 1)..<(rest.startIndex + length - 1)],
          let equals = record.firstIndex(of: UInt8(ascii: "="))
        else { throw malformed("a malformed extended header before byte \(position)") }
        let key = String(decoding: record[..<equals], as: UTF8.self)
        // What other records hold need not be text.
        let value = String(validating: record[(equals + 1)...], as: UTF8.self)
        if isGlobal, ["path", "size"].contains(key) { throw malformed("a name or a size for all files") }
        switch key {
        case "path":
          guard let value else { throw malformed("a name is not UTF-8") }
          longName = value
        case "size":
          guard let size = value.flatMap({ Int($0) }), size >= 0 else {
            throw malformed("a size of '\(value ?? "?")' bytes")
          }
          longSize = size
        case _ where key.hasPrefix("GNU.sparse."):
          throw malformed("it holds a sparse file; write it without --sparse")
        default: break
        }
        rest = rest[(rest.startIndex + length)...]
      }
    }
  }
}

/// 512 bytes before each file of an archive.
private struct TarHeader {
  enum Kind: Equatable {
    case file, folder
    /// GNU's: the contents are the name of the next file.
    case longName
    case extended, global
    case other(Character)
  }

  private let bytes: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isZero: Bool { bytes.allSatisfy { $0 == 0 } }

  var kind: Kind {
    switch bytes[156] {
    case 0, UInt8(ascii: "0"), UInt8(ascii: "7"): .file
    case UInt8(ascii: "5"): .folder
    case UInt8(ascii: "L"): .longName
    case UInt8(ascii: "x"): .extended
    case UInt8(ascii: "g"): .global
    case let other: .other(Character(Unicode.Scalar(other)))
    }
  }

  /// Before ustar a folder was a file whose name ends in a slash.
  func isFile(_ name: String) -> Bool { kind == .file && !name.hasSuffix("/") }

  /// Nil where it is not UTF-8 or there is none. Only ustar's form has the beginning of a long path in a
  /// field of its own.
  var name: String? {
    guard let name = Self.text(bytes[0..<100]), !name.isEmpty else { return nil }
    guard bytes[257..<263].elementsEqual(Array("ustar\0".utf8)) else { return name }
    return Self.text(bytes[345..<500]).map { $0.isEmpty ? name : "\($0)/\(name)" }
  }

  /// In bytes; nil where it is no number.
  var size: Int? { Self.number(bytes[124..<136]) }

  /// The sum of all bytes, with spaces in place of the sum; some old writers took bytes as signed.
  var hasRightChecksum: Bool {
    guard let sum = Self.number(bytes[148..<156]) else { return false }
    var (unsigned, signed) = (0, 0)
    for (index, byte) in bytes.enumerated() {
      let byte = (148..<156).contains(index) ? 0x20 : byte
      unsigned += Int(byte)
      signed += Int(Int8(bitPattern: byte))
    }
    return sum == unsigned || sum == signed
  }

  /// Up to the first zero; nil where it is not UTF-8.
  static func text(_ field: UnsafeRawBufferPointer.SubSequence) -> String? {
    String(validating: field.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// Octal digits between spaces and zeros, or GNU's form for what they cannot hold: big-endian behind a byte
  /// of 128.
  private static func number(_ field: UnsafeRawBufferPointer.SubSequence) -> Int? {
    if field.first == 0x80 {
      var value = 0
      for byte in field.dropFirst() {
        guard value <= Int.max >> 8 else { return nil }
        value = value << 8 | Int(byte)
      }
      return value
    }
    let digits = field.drop { $0 == 0x20 }.prefix { $0 != 0x20 && $0 != 0 }
    guard !digits.isEmpty, digits.allSatisfy({ (0x30...0x37).contains($0) }) else { return nil }
    return Int(String(decoding: digits, as: UTF8.self), radix: 8)
  }
}
