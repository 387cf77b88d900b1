import LangevinCPU
import LangevinTensor
import Testing

@Suite struct NoiseTests {
  /// The known answers of Random123 (kat_vectors, philox4x32 10).
  @Test func philoxGivesTheKnownAnswers() {
    #expect(
      NoiseFunction.philox(counter: SIMD4(repeating: 0), key: SIMD2(repeating: 0))
        == SIMD4(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
    #expect(
      NoiseFunction.philox(counter: SIMD4(repeating: .max), key: SIMD2(repeating: .max))
        == SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
    #expect(
      NoiseFunction.philox(
        counter: SIMD4(0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344),
        key: SIMD2(0xa409_3822, 0x299f_31d0))
        == SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1))
  }

  private func normals(_ count: Int, seed: UInt64 = 1, stream: UInt32 = 0, step: UInt32 = 0) throws -> [Float]
  {
    let device = Device(CPUBackend())
    return try Tensor.normal([count], seed: seed, stream: stream, step: step, on: device).floats()
  }

  @Test func momentsAreThoseOfTheNormalDistribution() throws {
    let count = 1 << 20
    let x = try normals(count).map(Double.init)
    // Standard errors of the first four moments of n draws: sqrt(1, 2, 15, 96) / sqrt(n); five of them.
    let error = 5 / Double(count).squareRoot()
    func moment(_ power: (Double) -> Double) -> Double { x.reduce(0) { $0 + power($1) } / Double(count) }
    #expect(abs(moment { $0 }) < error)
    #expect(abs(moment { $0 * $0 } - 1) < error * 2.0.squareRoot())
    #expect(abs(moment { $0 * $0 * $0 }) < error * 15.0.squareRoot())
    #expect(abs(moment { $0 * $0 * $0 * $0 } - 3) < error * 96.0.squareRoot())
    #expect(x.allSatisfy { abs($0) < 6 })
    // Neighbours, which share a Box-Muller pair or a block, are uncorrelated.
    for lag in 1...4 {
      let product = (lag..<count).reduce(0) { $0 + x[$1] * x[$1 - lag] } / Double(count)
      #expect(abs(product) < error)
    }
  }

  @Test func aLongerDrawBeginsWithTheShorter() throws {
    let long = try normals(40_001)
    for count in [1, 2, 5, 4096, 40_000] { #expect(try normals(count) == Array(long[..<count])) }
  }

  @Test func seedStreamAndStepChangeEveryNumber() throws {
    let base = try normals(1000)
    let others = [
      try normals(1000, seed: 2), try normals(1000, seed: 1 | 1 << 32), try normals(1000, stream: 1),
      try normals(1000, step: 1),
    ]
    for other in others { #expect(zip(base, other).allSatisfy { $0 != $1 }) }
  }
}
