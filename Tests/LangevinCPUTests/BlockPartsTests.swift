import LangevinTensor
import Testing

@testable import LangevinCPU

/// A large weight in blocks is decoded part by part.
@Suite struct BlockPartsTests {
  /// However many the parts are, the sums are those of the decoded numbers, bit by bit. So many rows take the dense weight
  /// in panels too.
  @Test func partsAreTheWhole() throws {
    let device = Device(CPUBackend())
    let (inputs, columns) = (16_416, 32 * (2 * coreCount + 1) + 5)
    var (bytes, state) = (
      [UInt8](repeating: 0, count: BlockEncoding.q4.spec(inputs * columns).byteCount), UInt32(1)
    )
    for i in 0..<BlockEncoding.q4.byteCount(inputs * columns) {
      state = state &* 1_664_525 &+ 1_013_904_223
      // Scales of 2^-10.
      bytes[i] = i % 18 == 0 ? 0 : i % 18 == 1 ? 0x14 : UInt8(state >> 24)
    }
    let words = try bytes.withUnsafeBytes {
      try Tensor(bytes: $0, BlockEncoding.q4.spec(inputs * columns), on: device)
    }
    let numbers = try words.dequantized(.q4).reshaped([columns, inputs])
    func normal(_ shape: Shape, _ seed: UInt64) throws -> Tensor {
      try Tensor.normal(shape, seed: seed, stream: 0, step: 0, on: device)
    }
    let (x, bias) = (try normal([200, inputs], 1), try normal([columns], 2))
    let got = try x.matmul(
      Weight(blocks: words, .q4, checkpointShape: [columns, inputs]), bias: bias, activation: .silu)
    let expected = try x.matmul(Weight(linear: numbers), bias: bias, activation: .silu)
    #expect(try got.floats() == expected.floats())
    // The taps of a convolution, of which blocks hold parts.
    let shape: Shape = [columns, inputs / 9, 3, 3]
    let kernel = Extent2D(height: 3, width: 3)
    let picture = try normal([1, 14, 14, inputs / 9], 3)
    let convolved = try picture.conv2d(
      Weight(blocks: words, .q4, checkpointShape: shape), kernel: kernel, padding: Padding2D(1), bias: bias)
    let dense = try picture.conv2d(
      Weight(convolution: numbers.reshaped(shape)), kernel: kernel, padding: Padding2D(1), bias: bias)
    #expect(try convolved.floats() == dense.floats())
  }
}
