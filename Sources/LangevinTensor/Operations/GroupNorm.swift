/// `activation` is `.identity` or `.silu`.
public struct GroupNorm: Sendable, Hashable, Codable {
  /// They divide the channels.
  public var groups: Int
  /// Added to the variance.
  public var epsilon: Float
  /// Applied last; `.identity` or `.silu`.
  public var activation: Activation

  /// By default without activation.
  public init(groups: Int, epsilon: Float, activation: Activation = .identity) {
    self.groups = groups
    self.epsilon = epsilon
    self.activation = activation
  }
}

/// The inputs of a normalisation by name, whatever stands for an operand.
public struct NormOperands<Value> {
  public var x: Value
  /// Nil where the normalisation has none.
  public var gamma, beta: Value?

  /// From an operation's inputs, in this order.
  public init(_ inputs: [Value]) {
    x = inputs[0]
    gamma = inputs.count > 1 ? inputs[1] : nil
    beta = inputs.count > 2 ? inputs[2] : nil
  }
}

extension Tensor {
  /// `(x - mean) / sqrt(variance + epsilon)`, with both moments over these axes.
  func standardized(axes: [Int], epsilon: Float) throws -> Tensor {
    try standardizing(axes: axes, epsilon: epsilon).standardized
  }

  /// As `standardized`, with the scale `1 / sqrt(variance + epsilon)`; the mean is left in where not `centred`.
  func standardizing(axes: [Int], epsilon: Float, centred: Bool = true) throws -> (
    standardized: Tensor, scale: Tensor
  ) {
    var deviation = self
    if centred {
      // A mean that is large beside the deviations is off by a part of them that shows; their own mean is that part.
      let rough = try self - reduced(.mean, axes: axes)
      deviation = try rough - rough.reduced(.mean, axes: axes)
    }
    let variance = try deviation.map(.square).reduced(.mean, axes: axes)
    let scale = try (variance + epsilon).map(.rsqrt)
    return (try deviation * scale, scale)
  }
}

extension GroupNorm: OperationDefinition {
  public var operationKind: Operation.Kind { .groupNorm }
  public var family: OperationFamily { .norms }

  public func operand(_ index: Int) -> OperandDefinition { .named("x", "gamma", "beta", at: index) }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(3)
    let x = inputs[0]
    try inputs.require(x.rank >= 2, "x must be [N, ..., C]")
    try inputs.require(
      groups > 0 && x[-1] % groups == 0, "\(x[-1]) channels do not split into \(groups) groups")
    try inputs.require(
      activation == .identity || activation == .silu, "the activation must be identity or silu")
    try inputs.requireVector(1, x[-1], "gamma")
    try inputs.requireVector(2, x[-1], "beta")
    return inputs.inputs[0]
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    // Mean 1, variance 3, scale and shift 2.
    Work(perElement: 6 + activation.flops, inputs, output)
  }

  public var decomposition: Decomposition? {
    { inputs in
      let (x, gamma, beta) = (inputs[0], inputs[1], inputs[2])
      let channels = x.shape[-1]
      let grouped = try x.reshaped([x.shape[0], -1, groups, channels / groups])
      let y = try grouped.standardized(axes: [1, 3], epsilon: epsilon).reshaped(x.shape) * gamma + beta
      return try activation.function.map { try y.map($0) } ?? y
    }
  }

  public var gradient: GradientRule {
    .rule(keeps: [0, 1, 2]) { call in
      try .normGradients(.groupNormGradient(self), (0..<3).map(call.input), call.gradient)
    }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .normalized(.groups(self)) }
  public var locality: Locality { .groups(self) }

  public func extents(of inputs: [TensorSpec]) -> Extents {
    let x = inputs[0].shape
    return .own(x.dimensions.dropLast() + [groups, x[-1] / groups]) { values in
      var smaller = self
      smaller.groups = values[values.count - 2]
      let channels = smaller.groups * values[values.count - 1]
      return (
        .groupNorm(smaller), [Shape(Array(values.dropLast(2)) + [channels]), [channels], [channels]]
      )
    }
  }

  public var representative: Operation { .groupNorm(self) }
}

extension [Tensor?] {
  /// The gradients of a normalisation of `inputs`, x and what scales and shifts it: one operation gives them in rows,
  /// those of x, then one for each of the others.
  static func normGradients(_ operation: Operation, _ inputs: [Tensor], _ g: Tensor) throws -> [Tensor?] {
    let (x, channels) = (inputs[0], inputs[0].shape[-1])
    let all = try Tensor.apply(operation, inputs + [g])
    let count = x.shape.count / channels
    let rest = try (count..<all.shape[0]).map { try all.rows($0..<$0 + 1).reshaped([channels]) }
    return [try all.rows(0..<count).reshaped(x.shape)] + rest
  }
}
