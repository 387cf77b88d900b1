import Foundation

/// PyTorch's CPU generator and what `torch.randn` makes of it.
///
/// MT19937 (Matsumoto and Nishimura 1998), seeded with the lower 32 bits of the seed, as PyTorch does.
public struct TorchGenerator: Sendable {
  private var twister: MersenneTwister
  /// The second number of a pair, kept by the path for short tensors.
  private var spare: Double?

  /// A generator that has drawn nothing yet.
  public init(seed: UInt64) { twister = MersenneTwister(seed: UInt32(truncatingIfNeeded: seed)) }

  /// The float32 numbers of `torch.randn(count)`, which differ with `count` and not only in how many they are:
  /// below 16 each is made from double-precision uniforms in turn, from 16 on in blocks of 16.
  public mutating func normals(_ count: Int) -> [Float] {
    if count < 16 { return (0..<count).map { _ in Float(nextDouble()) } }
    var values = (0..<count).map { _ in twister.uniform24() }
    for start in stride(from: 0, through: count - 16, by: 16) { transform(&values, start) }
    if count % 16 != 0 {
      // The last 16 are made anew, over what the blocks left of them.
      for index in count - 16..<count { values[index] = twister.uniform24() }
      transform(&values, count - 16)
    }
    return values
  }

  /// Box-Muller on 16 uniforms: 8 for the radii, 8 for the angles, 8 cosines and then 8 sines.
  private func transform(_ values: inout [Float], _ start: Int) {
    for index in start..<start + 8 {
      let radius = (-2 * Float(log(Double(1 - values[index])))).squareRoot()
      let angle = Double(Float(2 * Double.pi) * values[index + 8])
      values[index] = radius * Float(cos(angle))
      values[index + 8] = radius * Float(sin(angle))
    }
  }

  private mutating func nextDouble() -> Double {
    if let kept = spare {
      spare = nil
      return kept
    }
    let angle = 2 * Double.pi * twister.uniform53()
    let radius = (-2 * log1p(-twister.uniform53())).squareRoot()
    spare = radius * sin(angle)
    return radius * cos(angle)
  }
}

/// The generator MT19937, seeded as PyTorch seeds it.
struct MersenneTwister: Sendable {
  private var state: [UInt32]
  private var next = 624

  init(seed: UInt32) {
    state = [seed]
    for index in 1..<624 {
      let last = state[index - 1]
      state.append(1_812_433_253 &* (last ^ (last >> 30)) &+ UInt32(index))
    }
  }

  mutating func word() -> UInt32 {
    if next == 624 { twist() }
    var y = state[next]
    next += 1
    y ^= y >> 11
    y ^= (y << 7) & 0x9D2C_5680
    y ^= (y << 15) & 0xEFC6_0000
    return y ^ (y >> 18)
  }

  /// In [0, 1), from the lower 24 bits of a word.
  mutating func uniform24() -> Float { Float(word() & 0xFF_FFFF) * 0x1p-24 }

  /// In [0, 1), from the lower 53 bits of two words, the first of which is the upper.
  mutating func uniform53() -> Double {
    let high = UInt64(word())
    return Double((high << 32 | UInt64(word())) & 0x1F_FFFF_FFFF_FFFF) * 0x1p-53
  }

  private mutating func twist() {
    for index in 0..<624 {
      let y = (state[index] & 0x8000_0000) | (state[(index + 1) % 624] & 0x7FFF_FFFF)
      state[index] = state[(index + 397) % 624] ^ (y >> 1) ^ (y & 1 == 0 ? 0 : 0x9908_B0DF)
    }
    next = 0
  }
}
