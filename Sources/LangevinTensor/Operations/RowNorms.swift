/// Over the last axis.
public struct LayerNorm: Sendable, Hashable, Codable {
  /// Added to the variance.
  public var epsilon: Float
  /// Whether gamma and beta are inputs.
  public var affine: Bool

  /// By default with gamma and beta.
  public init(epsilon: Float, affine: Bool = true) {
    self.epsilon = epsilon
    self.affine = affine
  }
}

extension LayerNorm: OperationDefinition {
  public var operationKind: Operation.Kind { .layerNorm }
  public var family: OperationFamily { .norms }

  public func operand(_ index: Int) -> OperandDefinition { .named("x", "gamma", "beta", at: index) }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(affine ? 3 : 1)
    try inputs.require(inputs[0].rank >= 1, "needs an axis")
    if affine {
      try inputs.requireVector(1, inputs[0][-1], "gamma")
      try inputs.requireVector(2, inputs[0][-1], "beta")
    }
    return inputs.inputs[0]
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: affine ? 8 : 6, inputs, output)
  }

  public var decomposition: Decomposition? {
    { inputs in
      let y = try inputs[0].standardized(axes: [-1], epsilon: epsilon)
      return affine ? try y * inputs[1] + inputs[2] : y
    }
  }

  public var gradient: GradientRule {
    .rule(keeps: affine ? [0, 1] : [0]) { call in
      let gradients: [Tensor?] = try .normGradients(
        .layerNormGradient(self), (0..<(affine ? 2 : 1)).map(call.input), call.gradient)
      return gradients
    }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .normalized(.rows(self)) }
  public var locality: Locality { .rows }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.layerNorm(self)) }
  public var representative: Operation { .layerNorm(self) }
}

struct RMSNorm: OperationDefinition {
  var epsilon: Float

  var operationKind: Operation.Kind { .rmsNorm }
  var family: OperationFamily { .norms }

  func operand(_ index: Int) -> OperandDefinition { .named("x", "gamma", at: index) }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(2)
    try inputs.require(inputs[0].rank >= 1, "needs an axis")
    try inputs.requireVector(1, inputs[0][-1], "gamma")
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 4, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let square = try inputs[0].map(.square).reduced(.mean, axes: [-1])
      return try inputs[0] * (square + epsilon).map(.rsqrt) * inputs[1]
    }
  }

  var gradient: GradientRule {
    .rule(keeps: [0, 1]) { call in
      try .normGradients(.rmsNormGradient(epsilon: epsilon), (0..<2).map(call.input), call.gradient)
    }
  }

  /// A mean of positive terms, a root, two products.
  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .roundings(16) }
  var locality: Locality { .rows }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .rmsNorm(epsilon: epsilon) }
}

struct Softmax: OperationDefinition {
  var operationKind: Operation.Kind { .softmax }
  var family: OperationFamily { .norms }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    try inputs.require(inputs[0].rank >= 1, "needs an axis")
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 5, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let weights = try (inputs[0] - inputs[0].reduced(.maximum, axes: [-1])).map(.exp)
      return try weights / weights.reduced(.sum, axes: [-1])
    }
  }

  /// y (g - sum(g y)).
  var gradient: GradientRule {
    .rule(keeps: .output) { call in
      let (g, y) = (call.gradient, call.output)
      return [try y * (g - (g * y).reduced(.sum, axes: [-1]))]
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .softmax }
  var locality: Locality { .rows }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.softmax) }
  var representative: Operation { .softmax }
}
