import Glibc

extension Unary {
  /// For each element.
  var slopeFlops: Int {
    switch self {
    case .silu, .quickGelu: 8
    case .gelu: 9
    case .geluTanh: 16
    case .sigmoid: 6
    case .tanh, .rsqrt: 3
    case .exp, .log, .sqrt, .sin, .cos, .square, .abs, .negate, .reciprocal: 2
    }
  }

  /// The absolute error of float32 in the slope at x.
  public func slopeError(_ x: Double, _ slope: Double) -> Double {
    let u = 0x1p-24
    let size = Swift.abs(x)
    /// Of x sigmoid(k x): `s (1 + k x (1 - s))` cancels where it crosses zero; `k x` is rounded before the exponential.
    func gated(_ k: Double) -> Double {
      let s = 1 / (1 + Glibc.exp(-k * x))
      return u * s * (16 + 4 * k * size) * (1 + k * size * (1 - s))
    }
    return switch self {
    case .silu: gated(1)
    case .quickGelu: gated(1.702)
    // Phi(x) is as exact as 1 + erf; x phi(x) has an exponent that is rounded.
    case .gelu: u * (16 + size * (8 + x * x) * Glibc.exp(-x * x / 2))
    case .geluTanh:
      {
        let inner = (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)
        let s = 1 / (1 + Glibc.exp(-2 * inner))
        let steepness = (2 / Double.pi).squareRoot() * (1 + 3 * 0.044715 * x * x)
        return u * (16 + 2 * size * steepness * s * (1 - s) * (24 + 8 * Swift.abs(inner)))
      }()
    case .sigmoid: 12 * u * (slope + u)
    case .tanh: 24 * u
    case .sin, .cos, .exp, .log, .sqrt, .reciprocal: 8 * u * Swift.abs(slope)
    case .rsqrt: 12 * u * Swift.abs(slope)
    case .square: u * Swift.abs(slope)
    case .abs, .negate: 0
    }
  }
}

/// `g f'(x)`.
struct UnaryGradient: OperationDefinition {
  var function: Unary

  var operationKind: Operation.Kind { .unaryGradient }
  var name: String { "\(function.rawValue)_gradient" }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition {
    index == 0 ? function.operand(0) : OperandDefinition("g")
  }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(2)
    try inputs.require(inputs[0] == inputs[1], "x and g differ in shape")
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: function.slopeFlops + 1, inputs, output)
  }

  var decomposition: Decomposition? { nil }
  var gradient: GradientRule { .undefined }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    .elements { inputs, i, value in
      let (x, g) = (inputs[0][i], inputs[1][i])
      return abs(g) * function.slopeError(x, g == 0 ? 0 : value / g) + 2 * 0x1p-24 * abs(value)
    }
  }

  var locality: Locality { .elements }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .unaryGradient(function) }
}

/// The gradient of `GEGLU`: [g gelu(b), g a gelu'(b)] for x = [a, b].
struct GEGLUGradient: OperationDefinition {
  var operationKind: Operation.Kind { .gegluGradient }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition { .named("x", "g", at: index) }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(2)
    let x = inputs[0]
    try inputs.require(x.rank >= 1 && x[-1] % 2 == 0, "the last axis must be even")
    let half = x.replacing(axis: -1, with: x[-1] / 2)
    try inputs.require(inputs[1] == half, "g must be \(half)")
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: (Unary.gelu.flops + Unary.gelu.slopeFlops + 3) / 2, inputs, output)
  }

  var decomposition: Decomposition? {
    { inputs in
      let (x, width) = (inputs[0], inputs[0].shape[-1] / 2)
      let (rows, g) = (try x.reshaped([-1, 2 * width]), try inputs[1].reshaped([-1, width]))
      let (a, b) = (try rows.sliced(0..<width, axis: 1), try rows.sliced(width..<2 * width, axis: 1))
      let parts = [try g * b.map(.gelu), try Tensor.apply(.unaryGradient(.gelu), [b, g * a])]
      return try Tensor.concatenated(parts, axis: 1).reshaped(x.shape)
    }
  }

  var gradient: GradientRule { .undefined }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    let width = inputs[1].shape[-1]
    return .elements { inputs, i, value in
      let (row, column) = (i / (2 * width), i % (2 * width))
      let (a, b) = (
        inputs[0][row * 2 * width + column % width], inputs[0][row * 2 * width + width + column % width]
      )
      let g = inputs[1][row * width + column % width]
      let error = column < width ? Unary.gelu.error(b, 0) : abs(a) * Unary.gelu.slopeError(b, 0)
      return abs(g) * error + 3 * 0x1p-24 * abs(value)
    }
  }

  var locality: Locality { .whole }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.gegluGradient) }
  var representative: Operation { .gegluGradient }
}

/// The gradient of `Embedding` at its table.
struct EmbeddingGradient: OperationDefinition {
  var rows: Int

  var operationKind: Operation.Kind { .embeddingGradient }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition {
    index == 0 ? OperandDefinition("ids", domain: .index(below: rows)) : OperandDefinition("g")
  }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(2)
    try inputs.require(
      inputs.inputs[0].dtype == .int32 && inputs.inputs[1].dtype.isFloatingPoint,
      "needs int32 ids and a floating-point g")
    try inputs.require(rows >= 0, "rows cannot be negative")
    let (ids, g) = (inputs[0], inputs[1])
    try inputs.require(
      g.rank == ids.rank + 1 && Array(g.dimensions.dropLast()) == ids.dimensions,
      "g must be the shape of the ids and the channels")
    return TensorSpec([rows, g[-1]], inputs.inputs[1].dtype)
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(flops: Double(inputs[1].shape.count), inputs, output)
  }

  /// A product with a matrix that is 1 where an id is the row's number.
  var decomposition: Decomposition? {
    { inputs in
      let (ids, g) = (inputs[0], inputs[1])
      let numbers = try Tensor((0..<rows).map(Float.init), [rows, 1], on: g.device).cast(to: g.dtype)
      let chosen = try numbers.isEqual(to: ids.cast(to: g.dtype).reshaped([1, ids.shape.count]))
      return try chosen.matmul(g.reshaped([ids.shape.count, g.shape[-1]]))
    }
  }

  var gradient: GradientRule { .undefined }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    .sum(terms: inputs[0].shape.count, squares: representative, plain: representative, divisor: 1)
  }

  var locality: Locality { .whole }

  func extents(of inputs: [TensorSpec]) -> Extents {
    .shared(payload: [rows]) { lowered in .embeddingGradient(rows: lowered([rows])[0]) }
  }

  var representative: Operation { .embeddingGradient(rows: rows) }
}
