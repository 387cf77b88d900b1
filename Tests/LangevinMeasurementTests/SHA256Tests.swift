import Testing

@testable import LangevinMeasurement

@Suite struct SHA256Tests {
  /// FIPS 180-4's examples.
  @Test(arguments: [
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
  ])
  func examplesHaveTheirDigests(text: String, digest: String) {
    #expect(SHA256.hex(Array(text.utf8)) == digest)
    Array(text.utf8).withUnsafeBytes { #expect(SHA256.ownHex(of: $0) == digest) }
  }

  /// Around the sizes at which a block begins.
  @Test func theSystemsDigestsAreTheSame() {
    for count in [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 31) }
      bytes.withUnsafeBytes { bytes in
        let own = SHA256.ownHex(of: bytes)
        #expect(SHA256.systemHex(of: bytes) ?? own == own, "\(count)")
      }
    }
  }
}
