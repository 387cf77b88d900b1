import LangevinTensor
import Testing

/// What shape inference refuses: an operation, the shapes of its inputs and words of the reason.
private struct Refusal: Sendable, CustomTestStringConvertible {
  let operation: Operation
  let inputs: [TensorSpec]
  let reason: String

  init(_ operation: Operation, _ shapes: [Shape], _ reason: String) {
    self.init(operation, specs: shapes.map { TensorSpec($0) }, reason)
  }

  init(_ operation: Operation, specs: [TensorSpec], _ reason: String) {
    self.operation = operation
    self.inputs = specs
    self.reason = reason
  }

  var testDescription: String { "\(operation.name): \(reason)" }
}

@Suite struct InferenceTests {
  private static let half = TensorSpec([2, 2], .float16)
  private static let int = TensorSpec([2], .int32)
  private static let conv = Conv2D(kernel: Extent2D(height: 3, width: 3))

  private static func heads(_ count: Int, causal: Bool = false, mask: Bool = false) -> Operation {
    .attention(Attention(heads: count, scale: 1, causal: causal, mask: mask))
  }

  private static let refusals: [Refusal] = [
    Refusal(.matmul(MatMul()), [[2, 3]], "at least 2 inputs"),
    Refusal(.matmul(MatMul()), [[2, 3], [4, 5]], "inner extents 3 and 4 differ"),
    Refusal(.matmul(MatMul()), [[3], [3, 5]], "two axes"),
    Refusal(.matmul(MatMul()), specs: [half, TensorSpec([2, 2])], "differ in dtype"),
    Refusal(.matmul(MatMul()), specs: [int, int], "floating-point"),
    Refusal(.matmul(MatMul()), [[2, 3, 4], [3, 4, 5]], "leading axes differ"),
    Refusal(.matmul(MatMul(transposeLeft: true)), [[2, 4, 3], [4, 5]], "transposed batch"),
    Refusal(
      .matmul(MatMul(right: .packed)), [[1, 2, 3], [1, 3, 8]], "must be [K, N]"),
    Refusal(.matmul(MatMul(epilogue: Epilogue(bias: true))), [[2, 3], [3, 5]], "takes 3 inputs, got 2"),
    Refusal(.matmul(MatMul(epilogue: Epilogue(bias: true))), [[2, 3], [3, 5], [4]], "bias must be [5]"),
    Refusal(
      .matmul(MatMul(epilogue: Epilogue(residual: true))), [[2, 3], [3, 5], [5]], "residual must be [2, 5]"),
    Refusal(
      .matmul(MatMul(epilogue: Epilogue(perImage: true))), [[2, 3], [3, 5], [2, 5]], "belongs to conv2d"),
    Refusal(.conv2d(conv), [[4, 4, 3], [27, 5]], "[N, H, W, C]"),
    Refusal(.conv2d(conv), [[1, 4, 4, 3], [28, 5]], "9 taps of 3 channels need 27"),
    Refusal(.conv2d(conv), [[1, 2, 4, 3], [27, 5]], "smaller than the kernel"),
    Refusal(
      .conv2d(Conv2D(kernel: Extent2D(height: 1, width: 1), stride: 0)), [[1, 2, 2, 3], [3, 5]],
      "must be positive"),
    Refusal(
      .conv2d(Conv2D(kernel: Extent2D(height: 1, width: 1), weight: .transposed)), [[1, 2, 2, 3], [5, 4]],
      "the weight has 4 rows"),
    Refusal(heads(3), [[1, 2, 8], [1, 2, 8], [1, 2, 8]], "8 channels do not split into 3 heads"),
    Refusal(heads(2), [[1, 2, 8], [2, 2, 8], [2, 2, 8]], "differ in images"),
    Refusal(heads(2), [[1, 2, 8], [1, 2, 8], [1, 3, 8]], "alike"),
    Refusal(heads(2), [[1, 2, 8], [1, 0, 8], [1, 0, 8]], "at least one key"),
    Refusal(heads(2, causal: true), [[1, 2, 8], [1, 3, 8], [1, 3, 8]], "as many keys"),
    Refusal(heads(2, mask: true), [[1, 2, 8], [1, 3, 8], [1, 3, 8], [3, 2]], "mask must be"),
    Refusal(.groupNorm(GroupNorm(groups: 3, epsilon: 1)), [[1, 4], [4], [4]], "do not split into 3 groups"),
    Refusal(.groupNorm(GroupNorm(groups: 2, epsilon: 1)), [[1, 4], [4], [2]], "beta must be [4]"),
    Refusal(
      .groupNorm(GroupNorm(groups: 2, epsilon: 1, activation: .gelu)), [[1, 4], [4], [4]], "identity or silu"),
    Refusal(.layerNorm(LayerNorm(epsilon: 1)), [[1, 4], [3], [4]], "gamma must be [4]"),
    Refusal(.layerNorm(LayerNorm(epsilon: 1, affine: false)), [[1, 4], [4]], "takes 1 inputs"),
    Refusal(.rmsNorm(epsilon: 1), [[1, 4], [3]], "gamma must be [4]"),
    Refusal(.rotary(Rotary(heads: 3)), [[1, 2, 9], [2, 1], [2, 1]], "do not split into pairs of 3 heads"),
    Refusal(.rotary(Rotary(heads: 1)), [[2, 8], [2, 4], [2, 4]], "must be [N, T, C]"),
    Refusal(.rotary(Rotary(heads: 2)), [[1, 2, 8], [2, 4], [2, 4]], "must be float32 [2, 2]"),
    Refusal(.rotary(Rotary(heads: 2)), [[1, 2, 8], [2, 2]], "takes 3 inputs"),
    Refusal(
      .rotary(Rotary(heads: 1)),
      specs: [
        TensorSpec([1, 1, 2], .float16), TensorSpec([1, 1], .float16), TensorSpec([1, 1], .float16),
      ],
      "must be float32"),
    Refusal(.softmax, [[]], "needs an axis"),
    Refusal(.unary(.silu), specs: [int], "floating-point"),
    Refusal(.geglu, [[3]], "must be even"),
    Refusal(.binary(.add), [[2, 3], [2, 4]], "do not broadcast"),
    Refusal(.binary(.add), [[2]], "takes 2 inputs"),
    Refusal(.linearCombination([]), [], "1 to 8 terms"),
    Refusal(.linearCombination([1, 2]), [[2], [3]], "shapes differ"),
    Refusal(.reduce(Reduce(.sum, axes: [1, 0])), [[2, 3]], "ascending"),
    Refusal(.reduce(Reduce(.sum, axes: [2])), [[2, 3]], "axis 2 does not exist"),
    Refusal(.reduce(Reduce(.sum, axes: [0])), [[0, 3]], "empty axis"),
    Refusal(.embedding, [[2, 3], [2]], "int32 ids"),
    Refusal(.embedding, specs: [TensorSpec([6]), int], "must be [V, C]"),
    Refusal(.transpose([0, 0]), [[2, 3]], "does not permute"),
    Refusal(.broadcast([3, 2]), [[2, 3]], "does not broadcast"),
    Refusal(.slice(Slice(starts: [1, 0], sizes: [2, 3])), [[2, 3]], "axis 0 has no elements 1..<3"),
    Refusal(.slice(Slice(starts: [1], sizes: [1])), [[2, 3]], "need 2 numbers"),
    Refusal(.concatenate(axis: 0), [], "needs an input"),
    Refusal(.concatenate(axis: 2), [[2, 3]], "axis 2 does not exist"),
    Refusal(.concatenate(axis: 0), [[2, 3], [2, 4]], "differ off axis 0"),
    Refusal(.concatenate(axis: 0), specs: [half, TensorSpec([2, 2])], "differ in dtype"),
    Refusal(.pad(Pad(before: [-1], after: [0])), [[3]], "cannot be negative"),
    Refusal(.pad(Pad(before: [0], after: [])), [[3]], "need 1 numbers"),
    Refusal(.upsampleNearest(factor: 0), [[1, 2, 2, 3]], "must be positive"),
    Refusal(.upsampleNearest(factor: 2), [[2, 2, 3]], "[N, H, W, C]"),
    Refusal(.cast(.float16), [[1], [1]], "takes 1 inputs"),
    Refusal(.fill(0, TensorSpec([-1])), [], "cannot be negative"),
    Refusal(.normalNoise(NormalNoise(seed: 0, stream: 0, step: 0, shape: [-1])), [], "cannot be negative"),
    Refusal(.nonFiniteCount, specs: [int], "floating-point"),
  ]

  @Test(arguments: refusals)
  private func isRefused(refusal: Refusal) {
    #expect {
      try refusal.operation.output(of: refusal.inputs)
    } throws: { error in
      guard case TensorError.invalidOperands(let name, let inputs, let reason) = error else { return false }
      return name == refusal.operation.name && inputs == refusal.inputs && reason.contains(refusal.reason)
    }
  }
}
