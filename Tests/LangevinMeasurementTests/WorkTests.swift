import LangevinTensor
import Testing

/// Work counted by hand.
@Suite struct WorkTests {
  private func work(_ operation: LangevinTensor.Operation, _ inputs: TensorSpec...) throws -> Work {
    operation.work(inputs: inputs, output: try operation.output(of: inputs))
  }

  @Test func matmulCountsTwoFlopsAMultiplyAdd() throws {
    let plain = try work(.matmul(MatMul()), TensorSpec([3, 5]), TensorSpec([5, 7]))
    #expect(plain.flops == 2 * 3 * 5 * 7)
    #expect(plain.bytesRead == 4 * (15 + 35))
    #expect(plain.bytesWritten == 4 * 21)

    // Bias, residual and SiLU: 1, 1 and 4 an element; the scale 1.
    let fused = MatMul(scale: 0.5, epilogue: Epilogue(bias: true, residual: true, activation: .silu))
    let dressed = try work(
      .matmul(fused), TensorSpec([3, 5]), TensorSpec([5, 7]), TensorSpec([7]), TensorSpec([3, 7]))
    let flops: Double = 2 * 3 * 5 * 7 + 7 * 21
    #expect(dressed.flops == flops)
    #expect(dressed.bytesRead == 4 * (15 + 35 + 7 + 21))
  }

  @Test func batchedAndTransposedProducts() throws {
    let operation = MatMul(transposeLeft: true, right: .transposed)
    let counted = try work(.matmul(operation), TensorSpec([2, 5, 3]), TensorSpec([2, 7, 5]))
    #expect(counted.flops == 2 * 2 * 3 * 5 * 7)
  }

  @Test func convolutionCountsEveryTap() throws {
    let conv = Conv2D(
      kernel: Extent2D(height: 3, width: 3), stride: 2, padding: Padding2D(1),
      epilogue: Epilogue(bias: true))
    let counted = try work(.conv2d(conv), TensorSpec([2, 8, 6, 5]), TensorSpec([45, 4]), TensorSpec([4]))
    let outputs = 2.0 * 4 * 3 * 4
    #expect(counted.flops == outputs * (2 * 45 + 1))
    #expect(counted.bytesWritten == 4 * outputs)
  }

  @Test func attentionCountsBothProductsAndTheSoftmax() throws {
    let x = TensorSpec([2, 6, 8], .float16)
    let context = TensorSpec([2, 3, 8], .float16)
    let cross = try work(.attention(Attention(heads: 4, scale: 1)), x, context, context)
    let scores = 2.0 * 6 * 3
    let outputs = 2.0 * 6 * 8
    let each = 4.0 * 8 + 5 * 4
    #expect(cross.flops == scores * each + outputs)
    #expect(cross.bytes == 576)
    // 6 queries see 1 + 2 + ... + 6 keys.
    let causal = try work(.attention(Attention(heads: 4, scale: 1, causal: true)), x, x, x)
    let seen = 2.0 * 21
    #expect(causal.flops == seen * each + outputs)
  }

  @Test func whatOnlyMovesHasNoArithmetic() throws {
    let ids = TensorSpec([3], .int32)
    let table = try work(.embedding, TensorSpec([1000, 4]), ids)
    #expect(table == Work(flops: 0, bytesRead: 60, bytesWritten: 48))
    let block = Slice(starts: [1, 0], sizes: [2, 4])
    let slice = try work(.slice(block), TensorSpec([100, 4]))
    #expect(slice == Work(flops: 0, bytesRead: 32, bytesWritten: 32))
    let cast = try work(.cast(.float16), TensorSpec([10]))
    #expect(cast == Work(flops: 0, bytesRead: 40, bytesWritten: 20))
  }

  @Test func pointwiseAndReductions() throws {
    let x = TensorSpec([4])
    let sum = try work(.linearCombination([1, 2, 3]), x, x, x)
    #expect(sum.flops == 20)
    let mean = try work(.reduce(Reduce(.mean, axes: [1])), TensorSpec([2, 5]))
    #expect(mean.flops == 12)
    let added = try work(.binary(.add), TensorSpec([2, 3]), TensorSpec([3]))
    #expect(added.bytes == 60)
    #expect(Work(flops: 8, bytesRead: 3, bytesWritten: 1).intensity == 2)
  }
}
