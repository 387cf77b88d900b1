/// How the right operand of a product, logically [K, N], lies in memory.
public enum MatrixLayout: Sendable, Hashable, Codable {
  /// Rows one after another, [K, N].
  case rowMajor
  /// [N, K], as PyTorch's Linear keeps it.
  case transposed
  /// [K, N] in the form of the backend that packed it, which alone can read it.
  case packed
  /// Words of blocks, of the numbers as a checkpoint has them: [N, K], or [N, C, taps] for a convolution, one after another.
  case blocks(BlockEncoding)
  /// As blocks of `q8_0`, for K a multiple of 32; products round the left operand's rows too. See `Int8Rounding`.
  case int8Blocks
}

/// A [..., M, K] (or [..., K, M] when transposed) times B. B of rank 2 serves all of A's rows;
/// B with A's leading axes is a batched product. Output [..., M, N].
public struct MatMul: Sendable, Hashable, Codable {
  /// A is stored as its transpose.
  public var transposeLeft: Bool
  /// How B is stored.
  public var right: MatrixLayout
  /// Of the product, before anything is added.
  public var scale: Float
  /// What is added to the scaled product, and the activation.
  public var epilogue: Epilogue

  /// By default `A B`, both row-major.
  public init(
    transposeLeft: Bool = false, right: MatrixLayout = .rowMajor, scale: Float = 1,
    epilogue: Epilogue = Epilogue()
  ) {
    self.transposeLeft = transposeLeft
    self.right = right
    self.scale = scale
    self.epilogue = epilogue
  }
}

/// The extents of a matrix product: `batch` times [rows, inner] x [inner, columns].
public struct ProductSize: Sendable, Hashable {
  /// How many products of their own, with a right operand each.
  public var batch: Int
  /// Rows of each left operand; of all, where one right operand serves them.
  public var rows: Int
  /// The extent that is summed over.
  public var inner: Int
  /// Columns of each right operand.
  public var columns: Int
}

extension MatMul {
  /// Of operands that passed shape inference.
  public func size(left: Shape, right: Shape) -> ProductSize {
    let inner = left[transposeLeft ? -2 : -1]
    let (_, columns) = self.right.extents(right, inner: inner)
    let rows = left[transposeLeft ? -1 : -2]
    let lead = left.dimensions.dropLast(2).reduce(1, *)
    return isBatched(right)
      ? ProductSize(batch: lead, rows: rows, inner: inner, columns: columns)
      : ProductSize(batch: 1, rows: lead * rows, inner: inner, columns: columns)
  }

  private func isBatched(_ right: Shape) -> Bool { right.rank > 2 }
}

extension MatrixLayout {
  /// Of the blocks in which it is stored; nil where each number is by itself.
  public var encoding: BlockEncoding? {
    switch self {
    case .rowMajor, .transposed, .packed: nil
    case .blocks(let encoding): encoding
    case .int8Blocks: .q8
    }
  }

  /// For products of the left operand's own numbers.
  var withoutRounding: MatrixLayout { self == .int8Blocks ? .blocks(.q8) : self }

  /// (K, N) of a right operand of this layout, for a left one of that inner extent.
  public func extents(_ shape: Shape, inner: Int) -> (rows: Int, columns: Int) {
    if let encoding {
      let count = encoding.count(TensorSpec(shape, .int32)) ?? 0
      return (inner, count / max(inner, 1))
    }
    return self == .transposed ? (shape[-1], shape[-2]) : (shape[-2], shape[-1])
  }

  /// The shape of a matrix [K, N] of this layout.
  public func storing(rows: Int, columns: Int) -> Shape {
    if let encoding { return encoding.spec(rows * columns).shape }
    return self == .transposed ? [columns, rows] : [rows, columns]
  }

  /// As `extents`, of a shape that may not fit.
  func checkedExtents(_ index: Int, _ inputs: OperandSpecs, inner: Int) throws -> (rows: Int, columns: Int) {
    let shape = inputs[index]
    if let encoding {
      try inputs.require(
        self != .int8Blocks || inner % Int8Rounding.count == 0,
        "rows of \(inner) numbers are no whole blocks of \(Int8Rounding.count)")
      let count = try inputs.blockCount(index, encoding)
      try inputs.require(
        inner > 0 && count % inner == 0, "\(count) numbers in blocks are no columns of \(inner)")
      return (inner, count / inner)
    }
    try inputs.require(shape.rank >= 2, "the right operand needs two axes")
    try inputs.require(self != .packed || shape.rank == 2, "a packed right operand must be [K, N]")
    return extents(shape, inner: inner)
  }

  /// The operand of this layout, as a product's own names have it.
  func operand(_ index: Int, _ plain: OperandDefinition) -> OperandDefinition {
    guard index == 1, let encoding else { return plain }
    return OperandDefinition(plain.name, domain: .blocks(encoding))
  }

  /// The same matrix [K, N], row-major; K is `taps` times that many channels. What was in blocks is float32.
  func rowMajor(_ matrix: Tensor, inner: Int, taps: Int = 1) throws -> Tensor {
    switch self {
    case .rowMajor: return matrix
    case .transposed: return try matrix.transposingLastAxes()
    case .packed: return try matrix.device.unpack(matrix)
    case .blocks(let encoding): return try rowMajor(matrix, in: encoding, inner: inner, taps: taps)
    case .int8Blocks: return try rowMajor(matrix, in: .q8, inner: inner, taps: taps)
    }
  }

  private func rowMajor(_ words: Tensor, in encoding: BlockEncoding, inner: Int, taps: Int) throws -> Tensor {
    let numbers = try words.dequantized(encoding)
    let columns = numbers.shape.count / max(inner, 1)
    return try numbers.reshaped([columns, inner / taps, taps]).transposed([2, 1, 0])
      .reshaped([inner, columns])
  }
}

extension MatMul: OperationDefinition {
  public var operationKind: Operation.Kind { .matmul }
  public var family: OperationFamily { .products }

  public func operand(_ index: Int) -> OperandDefinition {
    right.operand(index, epilogue.operand(index, left: "a", right: "b"))
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.require(inputs.count >= 2, "takes at least 2 inputs")
    try inputs.requireFloats(except: right.encoding == nil ? nil : 1)
    let (a, b) = (inputs[0], inputs[1])
    try inputs.require(a.rank >= 2, "the left operand needs two axes")
    let (rows, inner) = transposeLeft ? (a[-1], a[-2]) : (a[-2], a[-1])
    let (k, columns) = try right.checkedExtents(1, inputs, inner: inner)
    try inputs.require(k == inner, "inner extents \(inner) and \(k) differ")
    try inputs.require(!(transposeLeft && right == .int8Blocks), "rows that are rounded lie in one piece")
    if isBatched(b) {
      try inputs.require(a.dimensions.dropLast(2) == b.dimensions.dropLast(2), "leading axes differ")
    } else {
      try inputs.require(
        !transposeLeft || a.rank == 2, "a transposed batch needs a batched right operand")
    }
    let output = Shape(a.dimensions.dropLast(2) + [rows, columns])
    try epilogue.check(inputs, output: output, images: nil)
    return inputs.like(output)
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    let inner = inputs[0].shape[transposeLeft ? -2 : -1]
    return Work(perElement: 2 * inner + epilogue.flops + (scale == 1 ? 0 : 1), inputs, output)
  }

  /// The primitive is the plain product of row-major operands.
  public var decomposition: Decomposition? {
    if self == MatMul() { return nil }
    if right == .int8Blocks {
      return { inputs in
        var (plain, operands) = (self, inputs)
        plain.right = right.withoutRounding
        operands[0] = try inputs[0].roundedToInt8()
        return try .apply(.matmul(plain), operands)
      }
    }
    if let encoding = right.encoding {
      return { inputs in
        var (dense, operands) = (self, inputs)
        dense.right = .transposed
        let inner = inputs[0].shape[transposeLeft ? -2 : -1]
        operands[1] = try inputs[1].dequantized(encoding).reshaped([-1, inner])
        return try .apply(.matmul(dense), operands)
      }
    }
    return { inputs in
      let operands = epilogue.operands(inputs)
      let a = transposeLeft ? try operands.left.transposingLastAxes() : operands.left
      let product = try a.matmul(right.rowMajor(operands.right, inner: a.shape[-1]))
      return try epilogue.decomposed(scale == 1 ? product : product * scale, operands)
    }
  }

  /// dA = s g B^T, dB = s A^T g; the activation is recorded apart. Where A is rounded its gradient is that of A itself.
  public var gradient: GradientRule {
    .rule(
      keeps: GradientRule.keepsOtherFactor,
      pass: { call in
        let (g, positions) = (call.gradient, epilogue.operands(Array(call.specs.indices)))
        var gradients = [Tensor?](repeating: nil, count: call.specs.count)
        gradients[0] = try call.at(0) { try leftGradient(g, call.input(1), like: call.specs[0].shape) }
        gradients[1] = try call.at(1) { try rightGradient(g, call.input(0), like: call.specs[1].shape) }
        if let bias = positions.bias { gradients[bias] = try call.at(bias) { try g.summedRows() } }
        if let residual = positions.residual { gradients[residual] = g }
        return gradients
      })
  }

  /// `s g B^T`, as A is stored.
  private func leftGradient(_ g: Tensor, _ b: Tensor, like a: Shape) throws -> Tensor {
    let isPlain = right == .rowMajor || right == .transposed
    let b = isPlain ? b : try right.rowMajor(b, inner: a[transposeLeft ? -2 : -1]).cast(to: g.dtype)
    if transposeLeft {
      // B g^T, [K, N] x [N, M].
      return try b.matmul(g, transposeLeft: right == .transposed, right: .transposed, scale: scale)
    }
    return try g.matmul(b, right: right == .transposed ? .rowMajor : .transposed, scale: scale)
  }

  /// `s A^T g`, as B is stored. One right operand for all rows has the sum over all of them.
  private func rightGradient(_ g: Tensor, _ a: Tensor, like b: Shape) throws -> Tensor {
    let isShared = b.rank == 2
    func rows(_ x: Tensor) throws -> Tensor { isShared ? try x.flattened() : x }
    let (a, g) = (try rows(a), try rows(g))
    if right == .transposed {
      // g^T A, [N, M] x [M, K].
      return try g.matmul(
        a, transposeLeft: true, right: transposeLeft ? .transposed : .rowMajor, scale: scale)
    }
    return try a.matmul(g, transposeLeft: !transposeLeft, scale: scale)
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    var (squares, plain) = (self, self)
    squares.scale = scale * scale
    squares.epilogue.activation = .identity
    plain.epilogue.activation = .identity
    return .sum(
      terms: inputs[0].shape[transposeLeft ? -2 : -1] + 3, squares: .matmul(squares), plain: .matmul(plain),
      divisor: 1)
  }

  public var locality: Locality { .product(self) }

  public func extents(of inputs: [TensorSpec]) -> Extents {
    let (a, b) = (inputs[0].shape, inputs[1].shape)
    let (rows, inner) = transposeLeft ? (a[-1], a[-2]) : (a[-2], a[-1])
    let hasOwnRight = isBatched(b)
    return .own(a.dimensions.dropLast(2) + [rows, right.extents(b, inner: inner).columns, inner]) { values in
      let batch = Array(values.dropLast(3))
      let (m, n, k) = (values[values.count - 3], values[values.count - 2], values[values.count - 1])
      let matrix = right.storing(rows: k, columns: n)
      let left = Shape(batch + (transposeLeft ? [k, m] : [m, k]))
      let shapes = [left, hasOwnRight ? Shape(batch + matrix.dimensions) : matrix]
      return (.matmul(self), shapes + epilogue.shapes(output: Shape(batch + [m, n])))
    }
  }

  public var representative: Operation { .matmul(self) }
}

extension Tensor {
  /// [..., M, N] -> [..., N, M].
  func transposingLastAxes() throws -> Tensor {
    let rank = shape.rank
    return try transposed(Array(0..<rank - 2) + [rank - 1, rank - 2])
  }
}
