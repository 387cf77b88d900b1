import Foundation

/// SentencePiece's precompiled rules of normalization: a double-array trie of what is replaced (over UTF-8), and the
/// replacements. Applied as the Rust crate spm_precompiled applies it, by which every tokenizer.json is made.
struct CharacterMap: Sendable {
  /// Bits 0 to 7: the label, and bit 31: this is a value; bit 8: a value follows; bits 10 to 30: the offset, times
  /// 256 where bit 9 is set: the units of S. Yata's darts-clone.
  private let units: [UInt32]
  /// UTF-8, each ended by a zero.
  private let replacements: [UInt8]

  /// `base64` of the trie's size in bytes (32 bits, little-endian), the trie and the replacements; nil where it is
  /// something else.
  init?(base64: String) {
    guard let data = Data(base64Encoded: base64), data.count >= 4 else { return nil }
    let bytes = [UInt8](data)
    func word(_ position: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[position + $1]) << (8 * $1) }
    }
    let size = Int(word(0))
    guard size > 0, size % 4 == 0, size <= bytes.count - 4 else { return nil }
    units = stride(from: 4, to: 4 + size, by: 4).map(word)
    replacements = Array(bytes[(4 + size)...])
    guard String(validating: replacements, as: UTF8.self) != nil else { return nil }
  }

  /// Replaces what the map has of each grapheme cluster of at most 5 bytes, and of other clusters' characters.
  func normalized(_ text: String) -> String {
    var result: [UInt8] = []
    result.reserveCapacity(text.utf8.count)
    for cluster in text {
      let utf8 = Array(cluster.utf8)
      if utf8.count < 6, let replacement = replacement(of: utf8) {
        result += replacement
        continue
      }
      for scalar in cluster.unicodeScalars {
        let utf8 = Array(String(scalar).utf8)
        result += replacement(of: utf8).map(Array.init) ?? utf8
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  /// What the shortest entry that the key begins with becomes; that the rest of the key is dropped with it is how
  /// the reference does it.
  private func replacement(of key: [UInt8]) -> ArraySlice<UInt8>? {
    var node = 0
    var unit = units[0]
    node ^= Self.offset(unit)
    for byte in key where byte != 0 {
      node ^= Int(byte)
      guard node < units.count else { return nil }
      unit = units[node]
      guard unit & 0x8000_00FF == UInt32(byte) else { return nil }
      node ^= Self.offset(unit)
      guard unit >> 8 & 1 == 1 else { continue }
      guard node < units.count else { return nil }
      let start = Int(units[node] & 0x7FFF_FFFF)
      guard start <= replacements.count else { return nil }
      return replacements[start...].prefix { $0 != 0 }
    }
    return nil
  }

  private static func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & 1 << 9) >> 6) }
}
