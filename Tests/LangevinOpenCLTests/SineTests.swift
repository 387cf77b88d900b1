import Foundation
import LangevinTensor
import LangevinTestSupport
import Testing

/// The kernels' own sine and cosine over all of float32, of which `validate` draws a small part.
@Suite struct SineTests {
  private static func arguments(seed: UInt64) -> [Float] {
    var random = SeededGenerator(state: seed)
    let finite = (0..<60_000).map { _ in
      Float(
        bitPattern: UInt32.random(in: 0..<0x7f80_0000, using: &random) | UInt32.random(
          in: 0...1, using: &random) << 31)
    }
    // Around multiples of pi / 2 nearly nothing is left of the argument; from 32,768 on it is reduced otherwise.
    let zeros = (0..<60_000).map { _ in
      Float(Double(Int.random(in: -(1 << 20)...(1 << 20), using: &random)) * .pi / 2)
    }
    let ordinary = (0..<60_000).map { _ in Float.random(in: -40_000...40_000, using: &random) }
    let borders: [Float] = [32_768, Float(32_768).nextUp, .leastNonzeroMagnitude, .greatestFiniteMagnitude]
    return finite + zeros + ordinary + borders + borders.map { -$0 }
  }

  @Test(arguments: TestDevice.all)
  func sinesOfAnyFloatAreRight(test: TestDevice) throws {
    let device = try test.open()
    for seed: UInt64 in 1...3 {
      let arguments = Self.arguments(seed: seed)
      let x = try Tensor(arguments, [arguments.count], on: device)
      for (function, exact) in [(Unary.sin, sin as (Double) -> Double), (.cos, cos)] {
        let found = try x.map(function).floats()
        for (argument, value) in zip(arguments, found) {
          let expected = exact(Double(argument))
          let error = abs(Double(value) - expected)
          // A device may flush what is below the normal range.
          let tolerance = max(4 * Double(Float(expected).ulp), Double(Float.leastNormalMagnitude))
          #expect(error <= tolerance, "\(function) of \(argument) on \(test), seed \(seed): \(value)")
        }
      }
    }
  }

  @Test(arguments: TestDevice.all)
  func sinesOfWhatIsNotFiniteAreNaN(test: TestDevice) throws {
    let x = try Tensor([.infinity, -.infinity, .nan, 1], [4], on: test.open())
    for function in [Unary.sin, .cos] {
      #expect(
        try x.map(function).floats().map(\.isNaN) == [true, true, true, false], "\(function) on \(test)")
    }
  }
}
