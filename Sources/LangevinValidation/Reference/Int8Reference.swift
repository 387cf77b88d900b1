import LangevinTensor

/// `Int8Rounding` in float64.
enum Int8Reference {
  /// What a float32 computation of the steps may be off by, of themselves: a division by 2.5 ULP, as OpenCL's may be, and a
  /// product.
  private static let stepError = 0x1p-21

  /// What rows of x stand for once they are rounded: the same spec, though the numbers are exact.
  static func rounded(_ x: HostArray) -> HostArray {
    HostArray(
      x.spec,
      blockwise(x.values) { steps, scale in steps.map { $0.rounded(.toNearestOrAwayFromZero) * scale } })
  }

  /// How much the other rounding of a number is away, where its step is so near to a half that float32 may take either;
  /// else 0.
  static func ties(_ x: HostArray) -> HostArray {
    HostArray(
      x.spec,
      blockwise(x.values) { steps, scale in
        steps.map { step in
          let toHalf = abs(abs(step - step.rounded(.down)) - 0.5)
          return toHalf <= abs(step) * stepError ? scale : 0
        }
      })
  }

  /// How far such ties move each element of a product or a convolution in which the weight's numbers stand for its blocks.
  static func allowance(
    _ operation: Operation, ties: HostArray, _ weight: HostArray,
    evaluate: (Operation, [HostArray]) throws -> HostArray
  ) throws -> [Double] {
    let plain: Operation
    switch operation {
    case .matmul(let matmul): plain = .matmul(MatMul(right: matmul.right, scale: abs(matmul.scale)))
    case .conv2d(var conv):
      conv.epilogue = Epilogue()
      plain = .conv2d(conv)
    default: return []
    }
    // An activation's slope is at most 1.13.
    return try evaluate(plain, [ties, weight.map { abs($0) }]).values.map { 1.13 * $0 }
  }

  private static func blockwise(_ x: [Double], _ body: ([Double], _ scale: Double) -> [Double]) -> [Double] {
    let size = Int8Rounding.count
    return parallelRows(x.count / size, size) { block, out in
      let numbers = x[block * size..<(block + 1) * size]
      guard numbers.allSatisfy(\.isFinite) else {
        for i in 0..<size { out[i] = .nan }
        return
      }
      let magnitude = numbers.reduce(Double(Int8Rounding.leastMagnitude)) { max($0, abs($1)) }
      let scale = magnitude / Double(Int8Rounding.largest)
      for (i, number) in body(numbers.map { $0 / scale }, scale).enumerated() { out[i] = number }
    }
  }
}
