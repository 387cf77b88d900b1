/// `gelu` is exact (erf), `geluTanh` its tanh approximation, `quickGelu` x * sigmoid(1.702 x).
public enum Unary: String, Sendable, Hashable, CaseIterable, Codable {
  case silu, gelu
  case geluTanh = "gelu_tanh"
  case quickGelu = "quick_gelu"
  case sigmoid, tanh, exp, log, sqrt, rsqrt,
    sin, cos, square, abs, negate, reciprocal
}

extension Unary {
  /// For each element.
  var flops: Int {
    switch self {
    case .silu, .quickGelu, .sigmoid: 4
    case .gelu: 5
    case .geluTanh: 9
    case .rsqrt: 2
    case .tanh, .exp, .log, .sqrt, .sin, .cos, .square, .abs, .negate, .reciprocal: 1
    }
  }

  /// The absolute error of float32 at x, where the exact value is y.
  func error(_ x: Double, _ y: Double) -> Double {
    let u = 0x1p-24
    return switch self {
    // 1 + erf and 1 + tanh cancel for negative x, where they are as exact as their terms of about 1.
    case .gelu, .geluTanh: 16 * u * Swift.abs(x)
    // The product 1.702 x is rounded before the exponential.
    case .quickGelu: u * Swift.abs(y) * (8 + 4 * Swift.abs(x))
    // 4 ULP: OpenCL promises 3 for exp and log, 4 for sin and cos, 5 for tanh.
    case .silu, .sigmoid, .tanh: 10 * u * Swift.abs(y)
    case .exp, .log, .sin, .cos: 8 * u * Swift.abs(y)
    case .sqrt, .rsqrt, .reciprocal: 6 * u * Swift.abs(y)
    case .square: u * Swift.abs(y)
    case .abs, .negate: 0
    }
  }
}

extension Unary: OperationDefinition {
  public var operationKind: Operation.Kind { .unary }
  public var name: String { rawValue }
  public var family: OperationFamily { .elements }

  public func operand(_ index: Int) -> OperandDefinition {
    switch self {
    case .log, .sqrt, .rsqrt, .reciprocal: OperandDefinition("x", domain: .positive)
    case .silu, .gelu, .geluTanh, .quickGelu, .sigmoid, .tanh, .exp, .sin, .cos, .square, .abs, .negate:
      OperandDefinition("x")
    }
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    return inputs.inputs[0]
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: flops, inputs, output)
  }

  public var decomposition: Decomposition? { nil }

  public var gradient: GradientRule {
    .rule(keeps: [0]) { [try Tensor.apply(.unaryGradient(self), [$0.input(0), $0.gradient])] }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    .elements { inputs, i, value in error(inputs[0][i], value) }
  }

  public var locality: Locality { .elements }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.unary(self)) }
  public var representative: Operation { .unary(self) }
}
