/// The two fields of EXIF that matter here, in its TIFF form: which way up a picture is, and the comment in which A1111's
/// web UI keeps a picture's parameters where a file has no texts.
struct Exif: Equatable {
  /// 1...8 of the TIFF standard: 1 is upright.
  var orientation = 1
  /// `UserComment`.
  var comment: String?

  private enum Tag {
    static let orientation = 0x0112
    static let exif = 0x8769
    static let userComment = 0x9286
  }

  init(orientation: Int = 1, comment: String? = nil) {
    (self.orientation, self.comment) = (orientation, comment)
  }

  // MARK: Reading

  /// What a TIFF block says, with or without the `Exif\0\0` before it; what is damaged counts as absent.
  init(parsing block: [UInt8]) {
    let prefix = Array("Exif\0\0".utf8)
    let tiff = Reader(bytes: block.starts(with: prefix) ? Array(block.dropFirst(prefix.count)) : block)
    guard let first = tiff.firstDirectory else { return }
    if let entry = tiff.entry(Tag.orientation, at: first), let value = tiff.short(entry + 8),
      (1...8).contains(value)
    {
      orientation = value
    }
    guard let entry = tiff.entry(Tag.exif, at: first), let directory = tiff.long(entry + 8),
      let comment = tiff.entry(Tag.userComment, at: directory), let count = tiff.long(comment + 4),
      let offset = tiff.long(comment + 8), count >= 8, offset <= tiff.bytes.count,
      count <= tiff.bytes.count - offset
    else { return }
    self.comment = Self.text(Array(tiff.bytes[offset..<offset + count]), isLittleEndian: tiff.isLittleEndian)
  }

  private struct Reader {
    let bytes: [UInt8]

    var isLittleEndian: Bool { bytes.first == UInt8(ascii: "I") }

    /// Where the first directory is; nil for anything but TIFF.
    var firstDirectory: Int? {
      guard bytes.starts(with: [0x49, 0x49, 0x2A, 0]) || bytes.starts(with: [0x4D, 0x4D, 0, 0x2A]) else {
        return nil
      }
      return long(4)
    }

    private func number(_ offset: Int, bytes count: Int) -> Int? {
      guard offset >= 0, offset <= bytes.count - count else { return nil }
      let part = bytes[offset..<offset + count]
      return isLittleEndian
        ? part.reversed().reduce(0) { $0 << 8 | Int($1) } : part.reduce(0) { $0 << 8 | Int($1) }
    }

    func short(_ offset: Int) -> Int? { number(offset, bytes: 2) }
    func long(_ offset: Int) -> Int? { number(offset, bytes: 4) }

    /// Where the entry with this tag lies in the directory at `offset`: tag, type, count, value or offset.
    func entry(_ tag: Int, at offset: Int) -> Int? {
      guard let count = short(offset) else { return nil }
      return (0..<count).lazy.map { offset + 2 + 12 * $0 }.first { short($0) == tag }
    }
  }

  /// A comment: 8 bytes that name its characters, and the characters.
  private static func text(_ comment: [UInt8], isLittleEndian: Bool) -> String {
    let body = comment.dropFirst(8)
    guard comment.starts(with: Array("UNICODE\0".utf8)) else {
      return String(decoding: body.prefix { $0 != 0 }, as: UTF8.self)
    }
    var units = stride(from: body.startIndex, to: body.endIndex - 1, by: 2).map { (body[$0], body[$0 + 1]) }
    var swaps: Bool
    switch units.first.map({ [$0.0, $0.1] }) {
    case [0xFE, 0xFF]: swaps = false
    case [0xFF, 0xFE]: swaps = true
    default:
      // Writers disagree on the order; in most languages' letters the high byte is zero more often.
      let (high, low) = (units.count { $0.0 == 0 }, units.count { $0.1 == 0 })
      swaps = high == low ? isLittleEndian : low > high
    }
    if let first = units.first, [[0xFE, 0xFF], [0xFF, 0xFE]].contains([first.0, first.1]) {
      units.removeFirst()
    }
    let codes = units.map { swaps ? UInt16($0.1) << 8 | UInt16($0.0) : UInt16($0.0) << 8 | UInt16($0.1) }
    return String(decoding: codes.prefix { $0 != 0 }, as: UTF16.self)
  }

  // MARK: Writing

  /// A TIFF block, big-endian, with the comment alone: what A1111's web UI writes and reads.
  var block: [UInt8] {
    func short(_ value: Int) -> [UInt8] {
      [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }
    func long(_ value: Int) -> [UInt8] { short(value >> 16) + short(value) }
    let units = (comment ?? "").unicodeScalars.filter { $0 != "\0" }
    let text = String(String.UnicodeScalarView(units)).utf16.flatMap { short(Int($0)) }
    let body = Array("UNICODE\0".utf8) + text
    // Each directory: how many entries, tag, type, count, value or offset, and where the next directory is.
    let first = short(1) + short(Tag.exif) + short(4) + long(1) + long(26) + long(0)
    let second = short(1) + short(Tag.userComment) + short(7) + long(body.count) + long(44) + long(0)
    return [0x4D, 0x4D, 0, 0x2A] + long(8) + first + second + body
  }
}

extension Picture {
  /// As it is meant to be seen, of one that is stored in one of EXIF's eight orientations.
  func upright(from orientation: Int) -> Picture {
    guard (2...8).contains(orientation) else { return self }
    let (w, h) = (width, height)
    let isTurned = orientation >= 5
    let (newWidth, newHeight) = isTurned ? (h, w) : (w, h)
    var result = [UInt8]()
    result.reserveCapacity(pixels.count)
    for y in 0..<newHeight {
      for x in 0..<newWidth {
        let (column, row) =
          switch orientation {
          case 2: (w - 1 - x, y)
          case 3: (w - 1 - x, h - 1 - y)
          case 4: (x, h - 1 - y)
          case 5: (y, x)
          case 6: (y, h - 1 - x)
          case 7: (w - 1 - y, h - 1 - x)
          default: (w - 1 - y, x)
          }
        let start = (row * w + column) * 3
        result.append(contentsOf: pixels[start..<start + 3])
      }
    }
    return Picture(unchecked: result, width: newWidth, height: newHeight)
  }
}
