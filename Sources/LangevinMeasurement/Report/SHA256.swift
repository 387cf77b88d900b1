import Foundation

/// The Secure Hash Algorithm with 256 bits (FIPS 180-4, section 6.2): tells whether two pictures are the
/// same.
public enum SHA256 {
  /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes, and of the square
  /// roots of the first eight (sections 4.2.2 and 5.3.3).
  private static let constants: (rounds: [UInt32], start: [UInt32]) = {
    let primes = (2...311).filter { n in !(2..<n).contains { n % $0 == 0 } }
    func fraction(_ root: Double, _ isRoot: (UInt64, UInt64) -> Bool, of prime: Int) -> UInt32 {
      // Doubles have bits enough for a first guess, which whole numbers then make exact: floor(root * 2^32).
      var guess = UInt64(root * 4_294_967_296)
      while !isRoot(guess, UInt64(prime)) { guess -= 1 }
      while isRoot(guess + 1, UInt64(prime)) { guess += 1 }
      return UInt32(truncatingIfNeeded: guess)
    }
    // g^3 <= p * 2^96 and g^2 <= p * 2^64, in 128 bits.
    func cube(_ guess: UInt64, _ prime: UInt64) -> Bool {
      let g = UInt128(guess)
      return g * g * g <= UInt128(prime) << 96
    }
    func square(_ guess: UInt64, _ prime: UInt64) -> Bool {
      let g = UInt128(guess)
      return g * g <= UInt128(prime) << 64
    }
    func cubeRoot(_ x: Double) -> Double {
      var root = 1.0
      for _ in 0..<64 { root = (2 * root + x / (root * root)) / 3 }
      return root
    }
    return (
      primes.map { fraction(cubeRoot(Double($0)), cube, of: $0) },
      primes.prefix(8).map { fraction(Double($0).squareRoot(), square, of: $0) }
    )
  }()

  /// The digest in 64 hexadecimal digits.
  public static func hex(_ bytes: [UInt8]) -> String { bytes.withUnsafeBytes { hex(of: $0) } }

  /// The digest in 64 hexadecimal digits: by OpenSSL's libcrypto, which knows the processor's instructions
  /// for it, where the system has it.
  public static func hex(of bytes: UnsafeRawBufferPointer) -> String {
    systemHex(of: bytes) ?? ownHex(of: bytes)
  }

  private typealias SystemDigest =
    @convention(c) (UnsafeRawPointer?, Int, UnsafeMutablePointer<UInt8>?) -> UnsafeMutablePointer<UInt8>?

  private static let system: SystemDigest? = {
    for name in ["libcrypto.so.3", "libcrypto.so.1.1"] {
      guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL), let symbol = dlsym(library, "SHA256") else {
        continue
      }
      return unsafeBitCast(symbol, to: SystemDigest.self)
    }
    return nil
  }()

  /// Nil where there is no libcrypto.
  static func systemHex(of bytes: UnsafeRawBufferPointer) -> String? {
    guard let system else { return nil }
    var digest = [UInt8](repeating: 0, count: 32)
    guard system(bytes.baseAddress, bytes.count, &digest) != nil else { return nil }
    return digest.map { text(UInt32($0), digits: 2) }.joined()
  }

  static func ownHex(of bytes: UnsafeRawBufferPointer) -> String {
    var hash = constants.start
    let whole = bytes.count / 64 * 64
    for start in stride(from: 0, to: whole, by: 64) {
      compress(UnsafeRawBufferPointer(rebasing: bytes[start..<start + 64]), into: &hash)
    }
    var rest = [UInt8](bytes[whole...]) + [0x80]
    rest += [UInt8](repeating: 0, count: (120 - rest.count % 64) % 64)
    rest += (0..<8).map { UInt8(truncatingIfNeeded: UInt64(bytes.count * 8) >> (56 - 8 * $0)) }
    rest.withUnsafeBytes { rest in
      for start in stride(from: 0, to: rest.count, by: 64) {
        compress(UnsafeRawBufferPointer(rebasing: rest[start..<start + 64]), into: &hash)
      }
    }
    return hash.map { text($0, digits: 8) }.joined()
  }

  private static func text(_ word: UInt32, digits count: Int) -> String {
    let digits = String(word, radix: 16)
    return String(repeating: "0", count: count - digits.count) + digits
  }

  private static func compress(_ block: UnsafeRawBufferPointer, into hash: inout [UInt32]) {
    func rotated(_ x: UInt32, _ count: UInt32) -> UInt32 { x >> count | x << (32 - count) }
    var w = (0..<16).map { word in
      UInt32(bigEndian: block.loadUnaligned(fromByteOffset: 4 * word, as: UInt32.self))
    }
    for i in 16..<64 {
      let s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3
      let s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10
      w.append(w[i - 16] &+ s0 &+ w[i - 7] &+ s1)
    }
    var (a, b, c, d) = (hash[0], hash[1], hash[2], hash[3])
    var (e, f, g, h) = (hash[4], hash[5], hash[6], hash[7])
    for i in 0..<64 {
      let s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)
      let t1 = h &+ s1 &+ (e & f ^ ~e & g) &+ constants.rounds[i] &+ w[i]
      let t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) &+ (a & b ^ a & c ^ b & c)
      (h, g, f, e, d, c, b, a) = (g, f, e, d &+ t1, c, b, a, t1 &+ t2)
    }
    for (i, word) in [a, b, c, d, e, f, g, h].enumerated() { hash[i] = hash[i] &+ word }
  }
}
