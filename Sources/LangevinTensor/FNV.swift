/// FNV-1a with 64 bits (http://www.isthe.com/chongo/tech/comp/fnv): the same for the same bytes in every process,
/// which Swift's own hashes are not. It keeps nothing secret and resists no attack.
public enum FNV {
  /// The hash of some bytes. Other seeds than 0 give independent hashes.
  public static func hash(_ bytes: some Sequence<UInt8>, seed: UInt64 = 0) -> UInt64 {
    bytes.reduce(seed ^ 0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }

  /// The hash of a text's UTF-8, in hexadecimal: short, and fit for a file's name.
  public static func name(_ text: String) -> String { String(hash(text.utf8), radix: 16) }
}
