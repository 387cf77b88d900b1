/// Archives for tests, also such as no program writes.
struct TarWriter {
  private(set) var bytes: [UInt8] = []

  /// A header of ustar's form with its checksum, and the contents with their padding.
  mutating func add(
    _ name: String, _ contents: [UInt8] = [], kind: Character = "0", magic: String = "ustar\u{0}00",
    size: [UInt8]? = nil, prefix: String = ""
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: some Sequence<UInt8>, at start: Int) {
      for (index, byte) in text.enumerated() { header[start + index] = byte }
    }
    func octal(_ number: Int, _ digits: Int) -> [UInt8] {
      let text = String(number, radix: 8)
      return Array((String(repeating: "0", count: digits - text.count) + text).utf8)
    }
    put(name.utf8, at: 0)
    put(octal(0o644, 7), at: 100)
    put(size ?? octal(contents.count, 11), at: 124)
    put([UInt8](repeating: 0x20, count: 8), at: 148)
    put(String(kind).utf8, at: 156)
    put(magic.utf8, at: 257)
    put(prefix.utf8, at: 345)
    put(octal(header.reduce(0) { $0 + Int($1) }, 6) + [0], at: 148)
    bytes += header + contents
    bytes += [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
  }

  /// With two blocks of zeros.
  func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}
