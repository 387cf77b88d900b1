/// The default noise: Philox 4x32-10 words turned into normal numbers by Box-Muller, in nothing but integer
/// operations and single float32 multiplications and additions, each of which IEEE 754 rounds in one way
/// only. So every device that computes it as written, without contraction, gives the same bits.
public enum NoiseFunction {
  /// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
  public static func philox(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
    var (c, k) = (counter, key)
    for round in 0..<10 {
      if round > 0 { k = SIMD2(k.x &+ 0x9E37_79B9, k.y &+ 0xBB67_AE85) }
      let a = UInt64(0xD251_1F53) * UInt64(c.x)
      let b = UInt64(0xCD9E_8D57) * UInt64(c.z)
      c = SIMD4(
        UInt32(truncatingIfNeeded: b >> 32) ^ c.y ^ k.x, UInt32(truncatingIfNeeded: b),
        UInt32(truncatingIfNeeded: a >> 32) ^ c.w ^ k.y, UInt32(truncatingIfNeeded: a))
    }
    return c
  }

  /// Elements 4 * block ..< 4 * block + 4 of the noise with this seed, stream and step.
  public static func normals(block: UInt32, seed: UInt64, stream: UInt32, step: UInt32) -> SIMD4<Float> {
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    let words = philox(counter: SIMD4(block, stream, step, 0), key: key)
    let (a, b) = boxMuller(words.x, words.y)
    let (c, d) = boxMuller(words.z, words.w)
    return SIMD4(a, b, c, d)
  }

  /// Two independent normals: the radius from `a`'s upper 24 bits, the angle's octant and place from `b`.
  static func boxMuller(_ a: UInt32, _ b: UInt32) -> (Float, Float) {
    let radius = squareRoot(-2 * logarithm(Float((a >> 8) + 1) * 0x1p-24))
    let octant = b >> 29
    let place = Float((b >> 5) & 0xFF_FFFF) * 0x1p-24
    let (cosine, sine) = octantCosineSine(octant & 1 == 1 ? 1 - place : place)
    let swap = (octant + 1) & 2 != 0
    let x = swap ? sine : cosine
    let y = swap ? cosine : sine
    return (
      radius * ((octant + 2) & 4 != 0 ? -x : x),
      radius * (octant & 4 != 0 ? -y : y)
    )
  }

  /// ln u for u in (0, 1]; Cephes' logf polynomial.
  static func logarithm(_ u: Float) -> Float {
    var bits = u.bitPattern
    var exponent = Int32(bits >> 23) - 126
    bits = (bits & 0x007F_FFFF) | 0x3F00_0000
    var m = Float(bitPattern: bits)
    if m < 0.707106781 {
      exponent -= 1
      m = m + m
    }
    let x = m - 1
    let z = x * x
    var p: Float = 7.0376836292e-2
    for c in [
      -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
      -2.4999993993e-1, 3.3333331174e-1,
    ] as [Float] {
      p = p * x + c
    }
    let e = Float(exponent)
    var y = x * z * p
    y = y + e * -2.12194440e-4
    y = y - 0.5 * z
    return (x + y) + e * 0.693359375
  }

  /// Newton's iteration for 1 / sqrt(y), four times, from the well-known integer guess.
  static func squareRoot(_ y: Float) -> Float {
    guard y > 0 else { return 0 }
    var r = Float(bitPattern: 0x5F37_59DF - (y.bitPattern >> 1))
    for _ in 0..<4 { r = r * (1.5 - (0.5 * y) * (r * r)) }
    return y * r
  }

  /// cos and sin of place * pi / 4 for place in [0, 1]; Cephes' polynomials.
  static func octantCosineSine(_ place: Float) -> (Float, Float) {
    let x = place * 0.785398163397448
    let z = x * x
    let sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x
    let cosine =
      ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1
    return (cosine, sine)
  }
}
