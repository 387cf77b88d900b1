import LangevinTensor
import Testing

@testable import LangevinCPU

@Suite struct Int8ProductTests {
  private let device = Device(CPUBackend())

  /// A weight whose column j has `step` times `scale` at its row j and zeros elsewhere.
  private func diagonal(_ inputs: Int, _ columns: Int, scale: Float16, step: Int8) throws -> Weight {
    var bytes = [UInt8](repeating: 0, count: BlockEncoding.q8.spec(inputs * columns).byteCount)
    for column in 0..<columns {
      for block in 0..<inputs / 32 {
        let start = (column * inputs / 32 + block) * 34
        bytes.replaceSubrange(start..<start + 2, with: withUnsafeBytes(of: scale) { [UInt8]($0) })
        if column / 32 == block { bytes[start + 2 + column % 32] = UInt8(bitPattern: step) }
      }
    }
    return try weight(bytes, inputs, columns)
  }

  private func weight(
    _ bytes: [UInt8], _ inputs: Int, _ columns: Int, _ arithmetic: ProductArithmetic = .int8
  ) throws -> Weight {
    let words = try bytes.withUnsafeBytes {
      try Tensor(bytes: $0, BlockEncoding.q8.spec(inputs * columns), on: device)
    }
    return try Weight(blocks: words, .q8, checkpointShape: [columns, inputs], arithmetic: arithmetic)
  }

  /// Halves go away from zero, and what a block's scale makes of its numbers has no effect on the next block.
  @Test func numbersAreRoundedAsTheDefinitionSays() throws {
    var x = [Float](repeating: 0, count: 64)
    x.replaceSubrange(0..<8, with: [127, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49, 126.5])
    x.replaceSubrange(32..<36, with: [0.0127, 0.00005, 0.00004, -0.0127])
    let y = try float32(x, [1, 64], on: device).matmul(diagonal(64, 64, scale: 0.5, step: -128)).floats()
    #expect(Array(y[0..<8]) == [127, 1, -1, 2, 3, -3, 0, 127].map { -64 * $0 })
    let second = y[32..<36].map { $0 / -64 }
    for (got, expected) in zip(second, [0.0127, 0.0001, 0, -0.0127] as [Float]) {
      #expect(abs(got - expected) < 1e-8, "\(got) is not \(expected)")
    }
    #expect(y[8..<32].allSatisfy { $0 == 0 } && y[36...].allSatisfy { $0 == 0 })
  }

  /// Of a row with such a number everything is, and of the others nothing.
  @Test(arguments: [Float.nan, .infinity, -.infinity]) func whatIsNotFiniteStaysSo(value: Float) throws {
    var x = [Float](repeating: 1, count: 8 * 64)
    x[3 * 64 + 40] = value
    let y = try float32(x, [8, 64], on: device).matmul(diagonal(64, 40, scale: 1, step: 1)).floats()
    for row in 0..<8 {
      #expect(y[row * 40..<(row + 1) * 40].allSatisfy { $0.isFinite == (row != 3) })
    }
  }

  @Test func zerosAndTheSmallestNumbersGiveZeros() throws {
    let x: [Float] = [Float](repeating: 0, count: 32) + [Float](repeating: 0x1p-140, count: 32)
    let y = try float32(x, [2, 32], on: device).matmul(diagonal(32, 32, scale: 1, step: 127)).floats()
    #expect(y.allSatisfy { $0 == 0 })
  }

  /// However the columns are shared out, each is one sum in one order.
  @Test func partsAreTheWhole() throws {
    let (inputs, columns) = (8192, 32 * (8 * coreCount + 3) + 5)
    var (bytes, state) = (
      [UInt8](repeating: 0, count: BlockEncoding.q8.spec(inputs * columns).byteCount), UInt32(1)
    )
    for i in 0..<BlockEncoding.q8.byteCount(inputs * columns) {
      state = state &* 1_664_525 &+ 1_013_904_223
      // Scales of 2^-10.
      bytes[i] = i % 34 == 0 ? 0 : i % 34 == 1 ? 0x14 : UInt8(state >> 24)
    }
    let x = try Tensor.normal([101, inputs], seed: 1, on: device)
    let all = try x.matmul(weight(bytes, inputs, columns)).floats()
    for (first, count) in [(0, 33), (columns - 37, 37)] {
      let some = Array(bytes[first * inputs / 32 * 34..<(first + count) * inputs / 32 * 34])
      let part = try x.matmul(weight(some, inputs, count)).floats()
      for row in 0..<101 {
        #expect(
          part[row * count..<(row + 1) * count] == all[row * columns + first..<row * columns + first + count])
      }
    }
    // 8 bits of the inputs show, and no more.
    let exact = try x.matmul(weight(bytes, inputs, columns, .float32)).floats()
    let squares = zip(all, exact).reduce((0, 0) as (Double, Double)) {
      ($0.0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)), $0.1 + Double($1.1 * $1.1))
    }
    let error = (squares.0 / squares.1).squareRoot()
    #expect(error > 0.001 && error < 0.01, "\(error)")
  }

  /// Blocks that lie across rows, and other encodings, are multiplied in float32 whatever is asked for.
  @Test func whatCannotBeMultipliedInInt8IsNot() throws {
    func arithmetic(_ encoding: BlockEncoding, _ shape: Shape) throws -> ProductArithmetic {
      let spec = encoding.spec(shape.count)
      let words = try [UInt8](repeating: 0, count: spec.byteCount).withUnsafeBytes {
        try Tensor(bytes: $0, spec, on: device)
      }
      return try Weight(blocks: words, encoding, checkpointShape: shape, arithmetic: .int8).arithmetic
    }
    #expect(try arithmetic(.q8, [8, 64]) == .int8)
    #expect(try arithmetic(.q8, [8, 64, 1, 1]) == .int8)
    #expect(try arithmetic(.q8, [8, 32, 3, 3]) == .float32)
    #expect(try arithmetic(.q8, [32, 16]) == .float32)
    #expect(try arithmetic(.q4, [8, 64]) == .float32)
  }
}
