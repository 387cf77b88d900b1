import LangevinTensor
import LangevinValidation
import Synchronization
import Testing

/// Adds up the arithmetic of the convolutions that it passes on.
private final class Counting: ForwardingBackend {
  let base: any Backend = ReferenceBackend()
  let flops = Mutex(0.0)

  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    if case .conv2d = operation {
      let work = operation.definition.work(of: inputs.map(\.spec), output: output.spec)
      flops.withLock { $0 += work.flops }
    }
    try base.execute(operation, inputs: inputs, output: output)
  }
}

@Suite struct ConvolutionGradientTests {
  /// Kernels, strides and paddings of chance: strides beyond the kernel, padding beyond its reach, rows that no window
  /// sees.
  @Test(arguments: 0..<60 as Range<UInt64>)
  func theRuleIsTheDerivativeOnAnyGeometry(seed: UInt64) throws {
    var drawn: UInt32 = 0
    func pick(_ range: ClosedRange<Int>) -> Int {
      drawn += 1
      let word = NoiseFunction.philox(counter: SIMD4(drawn, 0, 0, 0), key: SIMD2(UInt32(seed), 0)).x
      return range.lowerBound + Int(word) % range.count
    }
    let kernel = Extent2D(height: pick(1...5), width: pick(1...5))
    let padding = Padding2D(top: pick(0...5), left: pick(0...5), bottom: pick(0...5), right: pick(0...5))
    let conv = Conv2D(kernel: kernel, stride: pick(1...4), padding: padding)
    let (height, width) = (pick(1...9) + kernel.height - 1, pick(1...9) + kernel.width - 1)
    let x: Shape = [pick(1...2), height, width, pick(1...3)]
    let weight: Shape = [kernel.height * kernel.width * x[3], pick(1...4)]
    let test = OperationCase("\(conv) of \(x)", .conv2d(conv), [x, weight])
    let error = try #require(try GradientCheck.error(test, seed: seed))
    #expect(error < GradientCheck.tolerance, "\(test.name)")
  }

  @Test(arguments: [1, 2, 3]) func theGradientOfAStrideCostsWhatTheStepForwardCosts(stride: Int) throws {
    let backend = Counting()
    let device = Device(backend)
    let conv = Conv2D(kernel: Extent2D(height: 3, width: 3), stride: stride, padding: Padding2D(1))
    let weight = try Tensor.normal([27, 4], seed: 2, on: device)
    let tape = Tape()
    let x = tape.watch(try Tensor.normal([1, 24, 24, 3], seed: 1, on: device))
    let y = try Tensor.apply(.conv2d(conv), [x, weight])
    let forward = backend.flops.withLock { $0 }
    _ = try tape.gradients(of: y.reduced(.sum, axes: [0, 1, 2, 3]).reshaped([1]), at: [x])
    let backward = backend.flops.withLock { $0 } - forward
    // The border's windows reach beyond the other picture.
    #expect(forward > 0 && backward < 1.05 * forward, "\(backward) of \(forward)")
  }
}
