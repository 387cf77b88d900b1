extension Operation {
  /// The output's shape and dtype. Throws `TensorError.invalidOperands` with the reason, which may be that a tensor is
  /// larger than any can be (`Shape.checkedCount`).
  public func output(of inputs: [TensorSpec]) throws -> TensorSpec {
    func check(_ spec: TensorSpec, _ what: String) throws {
      guard spec.shape.checkedCount == nil else { return }
      throw TensorError.invalidOperands(
        operation: name, inputs: inputs, reason: "\(what) \(spec.shape) is no possible shape")
    }
    for input in inputs { try check(input, "the input's") }
    let output = try inferredOutput(of: inputs)
    try check(output, "the output's")
    return output
  }

  private func inferredOutput(of inputs: [TensorSpec]) throws -> TensorSpec {
    func fail(_ reason: String) -> TensorError {
      .invalidOperands(operation: name, inputs: inputs, reason: reason)
    }
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw fail(reason()) }
    }
    func expect(_ count: Int) throws {
      try require(inputs.count == count, "takes \(count) inputs, got \(inputs.count)")
    }
    /// All inputs floating point and alike.
    func floats() throws {
      for input in inputs {
        try require(input.dtype.isFloatingPoint, "needs floating-point inputs")
        try require(input.dtype == inputs[0].dtype, "its inputs differ in dtype")
      }
    }
    func product(_ factors: Int...) throws -> Int {
      guard let product = Shape(factors).checkedCount else {
        throw fail("\(factors) are not numbers that it can have")
      }
      return product
    }
    func like(_ shape: Shape) -> TensorSpec { TensorSpec(shape, inputs[0].dtype) }
    func vector(_ index: Int, _ count: Int, _ what: String) throws {
      try require(inputs[index].shape == [count], "\(what) must be [\(count)]")
    }
    /// Checks the epilogue's operands, which begin at input 2.
    func epilogue(_ epilogue: Epilogue, output: Shape, images: Int?) throws {
      try expect(2 + epilogue.inputCount)
      var next = 2
      if epilogue.bias {
        try vector(next, output[-1], "bias")
        next += 1
      }
      if epilogue.perImage {
        guard let images else { throw fail("perImage belongs to conv2d") }
        try require(
          inputs[next].shape == [images, output[-1]], "perImage must be [\(images), \(output[-1])]")
        next += 1
      }
      if epilogue.residual { try require(inputs[next].shape == output, "residual must be \(output)") }
    }

    switch self {
    case .matmul(let matmul):
      try require(inputs.count >= 2, "takes at least 2 inputs")
      try floats()
      let (a, b) = (inputs[0].shape, inputs[1].shape)
      try require(a.rank >= 2, "the left operand needs two axes")
      let rows = matmul.transposeLeft ? a[-1] : a[-2]
      let inner = matmul.transposeLeft ? a[-2] : a[-1]
      let (k, columns) = try rightExtent(matmul.right, b, fail)
      try require(k == inner, "inner extents \(inner) and \(k) differ")
      let batched = if case .panels = matmul.right { false } else { b.rank > 2 }
      if batched {
        try require(a.dimensions.dropLast(2) == b.dimensions.dropLast(2), "leading axes differ")
      } else {
        try require(!matmul.transposeLeft || a.rank == 2, "a transposed batch needs a batched right operand")
      }
      let output = Shape(a.dimensions.dropLast(2) + [rows, columns])
      try epilogue(matmul.epilogue, output: output, images: nil)
      return like(output)

    case .conv2d(let conv):
      try require(inputs.count >= 2, "takes at least 2 inputs")
      try floats()
      let x = inputs[0].shape
      try require(x.rank == 4, "x must be [N, H, W, C]")
      try require(
        conv.stride > 0 && conv.kernel.height > 0 && conv.kernel.width > 0,
        "kernel and stride must be positive")
      let (k, columns) = try rightExtent(conv.weight, inputs[1].shape, fail)
      let taps = try product(conv.kernel.height, conv.kernel.width)
      let rows = try product(taps, x[3])
      try require(k == rows, "the weight has \(k) rows, \(taps) taps of \(x[3]) channels need \(rows)")
      let height = x[1] + conv.padding.top + conv.padding.bottom - conv.kernel.height
      let width = x[2] + conv.padding.left + conv.padding.right - conv.kernel.width
      try require(height >= 0 && width >= 0, "the picture is smaller than the kernel")
      let output: Shape = [x[0], height / conv.stride + 1, width / conv.stride + 1, columns]
      try epilogue(conv.epilogue, output: output, images: x[0])
      return like(output)

    case .attention(let attention):
      try expect(attention.mask ? 4 : 3)
      try floats()
      let (q, k, v) = (inputs[0].shape, inputs[1].shape, inputs[2].shape)
      try require(q.rank == 3 && k.rank == 3 && v == k, "Q must be [N, T, C] and K, V alike [N, S, C]")
      try require(q[0] == k[0] && q[2] == k[2], "Q and K differ in images or channels")
      try require(
        attention.heads > 0 && q[2] % attention.heads == 0,
        "\(q[2]) channels do not split into \(attention.heads) heads")
      try require(k[1] > 0, "needs at least one key")
      try require(!attention.causal || q[1] == k[1], "causal attention needs as many keys as queries")
      if attention.mask {
        let mask = inputs[3].shape
        try require(mask == [q[1], k[1]] || mask == [q[0], q[1], k[1]], "mask must be [T, S] or [N, T, S]")
      }
      return like(q)

    case .groupNorm(let norm):
      try expect(3)
      try floats()
      let x = inputs[0].shape
      try require(x.rank >= 2, "x must be [N, ..., C]")
      try require(
        norm.groups > 0 && x[-1] % norm.groups == 0,
        "\(x[-1]) channels do not split into \(norm.groups) groups")
      try require(
        norm.activation == .identity || norm.activation == .silu, "the activation must be identity or silu")
      try vector(1, x[-1], "gamma")
      try vector(2, x[-1], "beta")
      return inputs[0]

    case .layerNorm(let norm):
      try expect(norm.affine ? 3 : 1)
      try floats()
      try require(inputs[0].shape.rank >= 1, "needs an axis")
      if norm.affine {
        try vector(1, inputs[0].shape[-1], "gamma")
        try vector(2, inputs[0].shape[-1], "beta")
      }
      return inputs[0]

    case .rmsNorm:
      try expect(2)
      try floats()
      try require(inputs[0].shape.rank >= 1, "needs an axis")
      try vector(1, inputs[0].shape[-1], "gamma")
      return inputs[0]

    case .rotary(let rotary):
      try expect(3)
      let x = inputs[0].shape
      try require(inputs[0].dtype.isFloatingPoint, "needs a floating-point x")
      try require(x.rank == 3, "x must be [N, T, C]")
      try require(
        rotary.heads > 0 && x[2] % (2 * rotary.heads) == 0,
        "\(x[2]) channels do not split into pairs of \(rotary.heads) heads")
      let table = TensorSpec([x[1], x[2] / rotary.heads / 2])
      try require(
        inputs[1] == table && inputs[2] == table, "cosines and sines must be float32 \(table.shape)")
      return inputs[0]

    case .softmax:
      try expect(1)
      try floats()
      try require(inputs[0].shape.rank >= 1, "needs an axis")
      return inputs[0]

    case .unary, .affine, .clamp:
      try expect(1)
      try floats()
      return inputs[0]

    case .geglu:
      try expect(1)
      try floats()
      let x = inputs[0].shape
      try require(x.rank >= 1 && x[-1] % 2 == 0, "the last axis must be even")
      return like(x.replacing(axis: -1, with: x[-1] / 2))

    case .binary:
      try expect(2)
      try floats()
      guard let shape = inputs[0].shape.broadcast(with: inputs[1].shape) else {
        throw fail("shapes do not broadcast")
      }
      return like(shape)

    case .linearCombination(let coefficients):
      try require(!coefficients.isEmpty && coefficients.count <= 8, "takes 1 to 8 terms")
      try expect(coefficients.count)
      try floats()
      for input in inputs { try require(input.shape == inputs[0].shape, "shapes differ") }
      return inputs[0]

    case .reduce(let reduce):
      try expect(1)
      try floats()
      var dimensions = inputs[0].shape.dimensions
      try require(reduce.axes == Array(Set(reduce.axes)).sorted(), "axes must be distinct and ascending")
      for axis in reduce.axes {
        try require(dimensions.indices.contains(axis), "axis \(axis) does not exist")
        try require(dimensions[axis] > 0, "cannot reduce an empty axis")
        dimensions[axis] = 1
      }
      return like(Shape(dimensions))

    case .embedding:
      try expect(2)
      try require(
        inputs[0].dtype.isFloatingPoint && inputs[1].dtype == .int32,
        "needs a floating-point table and int32 ids")
      try require(inputs[0].shape.rank == 2, "the table must be [V, C]")
      return like(Shape(inputs[1].shape.dimensions + [inputs[0].shape[1]]))

    case .transpose(let permutation):
      try expect(1)
      let x = inputs[0].shape
      try require(permutation.sorted() == Array(0..<x.rank), "\(permutation) does not permute the axes")
      try require(x.rank <= 6, "at most 6 axes")
      return like(Shape(permutation.map { x[$0] }))

    case .broadcast(let shape):
      try expect(1)
      try require(inputs[0].shape.broadcast(with: shape) == shape, "does not broadcast to \(shape)")
      try require(shape.rank <= 6, "at most 6 axes")
      return like(shape)

    case .slice(let slice):
      try expect(1)
      let x = inputs[0].shape
      try require(
        slice.starts.count == x.rank && slice.sizes.count == x.rank, "starts and sizes need \(x.rank) numbers"
      )
      try require(x.rank <= 6, "at most 6 axes")
      for axis in 0..<x.rank {
        let (start, size) = (slice.starts[axis], slice.sizes[axis])
        try require(
          start >= 0 && size >= 0 && size <= x[axis] && start <= x[axis] - size,
          "axis \(axis) has no elements \(start)..<\(start &+ size)")
      }
      return like(Shape(slice.sizes))

    case .concatenate(let axis):
      try require(!inputs.isEmpty, "needs an input")
      let first = inputs[0].shape
      try require(axis >= 0 && axis < first.rank, "axis \(axis) does not exist")
      for input in inputs {
        try require(input.dtype == inputs[0].dtype, "its inputs differ in dtype")
        try require(
          input.shape.rank == first.rank
            && input.shape.replacing(axis: axis, with: 0) == first.replacing(axis: axis, with: 0),
          "shapes differ off axis \(axis)")
      }
      return like(first.replacing(axis: axis, with: inputs.reduce(0) { $0 + $1.shape[axis] }))

    case .pad(let pad):
      try expect(1)
      try floats()
      let x = inputs[0].shape
      try require(
        pad.before.count == x.rank && pad.after.count == x.rank, "before and after need \(x.rank) numbers")
      try require((pad.before + pad.after).allSatisfy { $0 >= 0 }, "padding cannot be negative")
      try require(x.rank <= 6, "at most 6 axes")
      return like(Shape((0..<x.rank).map { x[$0] + pad.before[$0] + pad.after[$0] }))

    case .upsampleNearest(let factor):
      try expect(1)
      try floats()
      let x = inputs[0].shape
      try require(x.rank == 4, "x must be [N, H, W, C]")
      try require(factor > 0, "the factor must be positive")
      return like([x[0], x[1] * factor, x[2] * factor, x[3]])

    case .cast(let dtype):
      try expect(1)
      return TensorSpec(inputs[0].shape, dtype)

    case .normalNoise(let noise):
      try expect(0)
      try require(noise.shape.dimensions.allSatisfy { $0 >= 0 }, "extents cannot be negative")
      return TensorSpec(noise.shape)

    case .fill(_, let spec):
      try expect(0)
      try require(spec.shape.dimensions.allSatisfy { $0 >= 0 }, "extents cannot be negative")
      return spec

    case .arrangeWeight(let arrangement):
      try expect(1)
      try floats()
      let rows = try product(arrangement.taps, arrangement.channels)
      let count = try product(rows, arrangement.columns)
      try require(
        inputs[0].shape.count == count, "the weight does not hold \(rows) x \(arrangement.columns) elements")
      let steps = [
        (arrangement.taps, arrangement.tapStride), (arrangement.channels, arrangement.channelStride),
        (arrangement.columns, arrangement.columnStride),
      ]
      let last = try steps.reduce(0) { try $0 + product(max($1.0 - 1, 0), $1.1) }
      try require(last < max(count, 1), "its strides lead out of the weight")
      switch arrangement.layout {
      case .rowMajor: return like([rows, arrangement.columns])
      case .transposed: return like([arrangement.columns, rows])
      case .panels(let width, let columns):
        try require(width > 0 && columns == arrangement.columns, "the panels do not fit the columns")
        return like([(columns + width - 1) / width, rows, width])
      }

    case .nonFiniteCount:
      try expect(1)
      try floats()
      return TensorSpec([1], .int32)
    }
  }

  /// (K, N) of a right operand.
  private func rightExtent(_ layout: MatrixLayout, _ shape: Shape, _ fail: (String) -> TensorError) throws
    -> (Int, Int)
  {
    guard shape.rank >= 2 else { throw fail("the right operand needs two axes") }
    switch layout {
    case .rowMajor: return (shape[-2], shape[-1])
    case .transposed: return (shape[-1], shape[-2])
    case .panels(let width, let columns):
      guard shape.rank == 3, shape[2] == width, width > 0, shape[0] == (columns + width - 1) / width else {
        throw fail("the right operand must be [\((columns + width - 1) / max(width, 1)), K, \(width)]")
      }
      return (shape[1], columns)
    }
  }
}
