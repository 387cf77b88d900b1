import LangevinOpenCL
import LangevinTensor
import Testing

/// Processors decode a large weight in blocks part by part.
@Suite struct BlockPartsTests {
  /// However many the parts are, the sums are those of the decoded numbers, bit by bit.
  @Test(arguments: TestDevice.all.filter { $0.family == .cpu }) func partsAreTheWhole(test: TestDevice) throws
  {
    let backend = try OpenCLBackend(index: test.index, family: test.family)
    let device = Device(backend)
    // A panel of so many inputs is 2 MiB, and there are panels for three rounds of all cores.
    let (inputs, columns) = (16_416, 32 * (2 * max(1, backend.description.computeUnits) + 1) + 5)
    let words = try q8(inputs * columns).withUnsafeBytes {
      try Tensor(bytes: $0, BlockEncoding.q8.spec(inputs * columns), on: device)
    }
    let numbers = try words.dequantized(.q8).reshaped([columns, inputs])
    let x = try Tensor.normal([3, inputs], seed: 1, stream: 0, step: 0, on: device)
    let bias = try Tensor.normal([columns], seed: 2, stream: 0, step: 0, on: device)
    let weight = try Weight(blocks: words, .q8, checkpointShape: [columns, inputs])
    try backend.startRecording()
    let got = try x.matmul(weight, bias: bias, activation: .silu)
    let launches = try backend.takeRecords().filter { $0.kernel == "dequantize_panels" }.count
    try backend.stopRecording()
    #expect(launches >= 3)
    let expected = try x.matmul(Weight(linear: numbers), bias: bias, activation: .silu)
    #expect(try got.floats() == expected.floats())
    // The taps of a convolution, of which blocks hold parts.
    let kernel = Extent2D(height: 3, width: 3)
    let picture = try Tensor.normal([1, 2, 2, inputs / 9], seed: 3, stream: 0, step: 0, on: device)
    let shape: Shape = [columns, inputs / 9, 3, 3]
    let convolved = try picture.conv2d(
      Weight(blocks: words, .q8, checkpointShape: shape), kernel: kernel, padding: Padding2D(1), bias: bias)
    let dense = try picture.conv2d(
      Weight(convolution: numbers.reshaped(shape)), kernel: kernel, padding: Padding2D(1), bias: bias)
    #expect(try convolved.floats() == dense.floats())
  }
}

/// Blocks of bytes that follow no pattern, with scales of 2^-10.
private func q8(_ count: Int) -> [UInt8] {
  var (bytes, state) = ([UInt8](repeating: 0, count: BlockEncoding.q8.spec(count).byteCount), UInt32(1))
  for i in 0..<BlockEncoding.q8.byteCount(count) {
    state = state &* 1_664_525 &+ 1_013_904_223
    switch i % 34 {
    case 0: bytes[i] = 0
    case 1: bytes[i] = 0x14
    default: bytes[i] = UInt8(state >> 24)
    }
  }
  return bytes
}
