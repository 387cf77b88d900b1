import Glibc
import LangevinTensor

/// Products, attention and the statistics of the norms.
extension Reference {
  static func matmul(_ matmul: MatMul, _ inputs: [HostArray], _ shape: Shape) -> [Double] {
    let a = matmul.right == .int8Blocks ? Int8Reference.rounded(inputs[0]) : inputs[0]
    let size = matmul.size(left: a.shape, right: inputs[1].shape)
    let (n, k, rowsPerMatrix) = (size.columns, size.inner, max(size.rows, 1))
    let b = (0..<size.batch).map { right(matmul.right, inputs[1], matrix: $0, rows: k, columns: n) }
    let add = addition(matmul.epilogue, inputs, columns: n, rowsPerImage: 1)
    return parallelRows(shape.count / max(n, 1), n) { row, out in
      let (matrix, i) = (row / rowsPerMatrix, row % rowsPerMatrix)
      let right = b[matrix]
      for l in 0..<k {
        let place = matmul.transposeLeft ? l * rowsPerMatrix + i : i * k + l
        let factor = a.values[matrix * rowsPerMatrix * k + place]
        for j in 0..<n { out[j] += factor * right[l * n + j] }
      }
      for j in 0..<n {
        out[j] = activate(matmul.epilogue.activation, Double(matmul.scale) * out[j] + add(row, j))
      }
    }
  }

  /// A product with a weight in blocks, as one with its numbers, which are stored as the left operand in name alone: they
  /// stay exact. What it rounds is rounded. Others as they are.
  static func dense(_ operation: Operation, _ inputs: [HostArray]) -> (Operation, [HostArray]) {
    var arrays = inputs
    func replace(_ layout: MatrixLayout, inner: Int, taps: Int) {
      if layout == .int8Blocks { arrays[0] = Int8Reference.rounded(inputs[0]) }
      let columns = layout.extents(inputs[1].shape, inner: inner).columns
      let numbers = right(layout, inputs[1], matrix: 0, rows: inner, columns: columns, taps: taps)
      arrays[1] = HostArray(TensorSpec([inner, columns], inputs[0].dtype), numbers)
    }
    switch operation {
    case .matmul(var matmul) where matmul.right.encoding != nil:
      replace(matmul.right, inner: inputs[0].shape[matmul.transposeLeft ? -2 : -1], taps: 1)
      matmul.right = .rowMajor
      return (.matmul(matmul), arrays)
    case .conv2d(var conv) where conv.weight.encoding != nil:
      replace(conv.weight, inner: conv.taps * inputs[0].shape[3], taps: conv.taps)
      conv.weight = .rowMajor
      return (.conv2d(conv), arrays)
    default: return (operation, inputs)
    }
  }

  static func conv2d(_ conv: Conv2D, _ inputs: [HostArray], _ shape: Shape) -> [Double] {
    let x = conv.weight == .int8Blocks ? Int8Reference.rounded(inputs[0]) : inputs[0]
    let (inHeight, inWidth, channels, n) = (x.shape[1], x.shape[2], x.shape[3], shape[3])
    let k = conv.taps * channels
    let weight = right(conv.weight, inputs[1], matrix: 0, rows: k, columns: n, taps: conv.taps)
    let add = addition(conv.epilogue, inputs, columns: n, rowsPerImage: shape[1] * shape[2])
    return parallelRows(shape.count / max(n, 1), n) { pixel, out in
      let index = Shape([shape[0], shape[1], shape[2]]).index(of: pixel)
      for tap in 0..<conv.taps {
        let line = index[1] * conv.stride - conv.padding.top + tap / conv.kernel.width
        let column = index[2] * conv.stride - conv.padding.left + tap % conv.kernel.width
        guard (0..<inHeight).contains(line), (0..<inWidth).contains(column) else { continue }
        for channel in 0..<channels {
          let factor = x.values[((index[0] * inHeight + line) * inWidth + column) * channels + channel]
          let row = tap * channels + channel
          for j in 0..<n { out[j] += factor * weight[row * n + j] }
        }
      }
      for j in 0..<n { out[j] = activate(conv.epilogue.activation, out[j] + add(pixel, j)) }
    }
  }

  static func attention(_ attention: Attention, _ inputs: [HostArray]) -> [Double] {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2])
    let (queries, keys, channels) = (q.shape[1], k.shape[1], q.shape[2])
    let size = channels / attention.heads
    return parallelRows(q.shape[0] * queries, channels) { row, out in
      let (image, query) = (row / queries, row % queries)
      for head in 0..<attention.heads {
        var scores = (0..<keys).map { key -> Double in
          if attention.causal && key > query { return -.infinity }
          var sum = 0.0
          for c in head * size..<(head + 1) * size {
            sum += q.values[row * channels + c] * k.values[(image * keys + key) * channels + c]
          }
          sum *= Double(attention.scale)
          guard attention.mask else { return sum }
          let start = inputs[3].shape.rank == 3 ? image * queries * keys : 0
          return sum + inputs[3].values[start + query * keys + key]
        }
        let maximum = scores.max() ?? 0
        // A query that sees nothing gives zeros.
        guard maximum > -.infinity else { continue }
        scores = scores.map { exp($0 - maximum) }
        let total = scores.reduce(0, +)
        for (key, score) in scores.enumerated() {
          for c in head * size..<(head + 1) * size {
            out[c] += score / total * v.values[(image * keys + key) * channels + c]
          }
        }
      }
    }
  }

  /// Mean and 1 / sqrt(variance + epsilon) of each row.
  static func rowMoments(_ x: HostArray, epsilon: Float) -> [(mean: Double, scale: Double)] {
    let width = x.shape[-1]
    return (0..<x.values.count / max(width, 1)).map { row in
      moments(x.values[row * width..<(row + 1) * width], epsilon)
    }
  }

  /// Mean and 1 / sqrt(variance + epsilon) of each group of each image; see `group`.
  static func groupMoments(_ norm: GroupNorm, _ x: HostArray) -> [(mean: Double, scale: Double)] {
    var members = [[Double]](repeating: [], count: x.shape[0] * norm.groups)
    for (i, value) in x.values.enumerated() { members[group(norm, x.shape, i)].append(value) }
    return members.map { moments($0[...], norm.epsilon) }
  }

  /// Which group, counted over all images, an element belongs to.
  static func group(_ norm: GroupNorm, _ shape: Shape, _ element: Int) -> Int {
    let channels = shape[-1]
    return element / (shape.count / shape[0]) * norm.groups + element % channels / (channels / norm.groups)
  }

  private static func moments(_ values: ArraySlice<Double>, _ epsilon: Float) -> (mean: Double, scale: Double)
  {
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
    return (mean, 1 / (variance + Double(epsilon)).squareRoot())
  }

  /// One right operand as [rows, columns], row-major.
  private static func right(
    _ layout: MatrixLayout, _ b: HostArray, matrix: Int, rows: Int, columns: Int, taps: Int = 1
  ) -> [Double] {
    let numbers = layout.encoding.map { Operand(b).decoded($0).array.values } ?? b.values
    let start = matrix * rows * columns
    return parallelMap(rows * columns) { i in
      let (row, column) = (i / columns, i % columns)
      switch layout {
      case .rowMajor, .packed: return numbers[start + i]
      case .transposed: return numbers[start + column * rows + row]
      case .blocks, .int8Blocks:
        let channels = rows / taps
        return numbers[(column * channels + row % channels) * taps + row / channels]
      }
    }
  }

  /// What an epilogue adds to element (row, column).
  private static func addition(_ epilogue: Epilogue, _ inputs: [HostArray], columns: Int, rowsPerImage: Int)
    -> (Int, Int) -> Double
  {
    let operands = epilogue.operands(inputs)
    let (bias, perImage) = (operands.bias?.values, operands.perImage?.values)
    let residual = operands.residual?.values
    return { row, column in
      (bias?[column] ?? 0) + (perImage?[row / rowsPerImage * columns + column] ?? 0)
        + (residual?[row * columns + column] ?? 0)
    }
  }
}
