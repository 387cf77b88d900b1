/// Tells whether bytes are those that were written. Each word goes through a bijection of what came before it, so that
/// one changed word, however little of it, always changes the result. It resists no attack.
///
/// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv) on words of 64 bits instead of bytes, which makes it fast, and
/// with a rotation, without which the highest bits of two words could cancel each other.
struct StateChecksum {
  private var hash: UInt64 = 0xCBF2_9CE4_8422_2325

  private mutating func add(_ word: UInt64) {
    hash = (hash ^ word) &* 0x100_0000_01B3
    hash = hash << 29 | hash >> 35
  }

  /// The last word is filled with zeros, and the count tells them from bytes.
  mutating func add(_ bytes: UnsafeRawBufferPointer) {
    let words = bytes.count / 8
    for index in 0..<words {
      add(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)))
    }
    add(bytes[(words * 8)...].reversed().reduce(0) { $0 << 8 | UInt64($1) })
    add(UInt64(bytes.count))
  }

  mutating func add(_ text: String) {
    var text = text
    text.withUTF8 { add(UnsafeRawBufferPointer($0)) }
  }

  /// In hexadecimal.
  var text: String { String(hash, radix: 16) }
}
