/// Philox 4x32-10 (Salmon et al. 2011): element 4i + j is word j of the block with counter
/// (i, stream, step, 0) and the seed as key; see `NoiseFunction`.
public struct NormalNoise: Sendable, Hashable, Codable {
  /// The seed, which is Philox's key.
  public var seed: UInt64
  /// Which of the independent sequences of a seed.
  public var stream: UInt32
  /// Which tensor of the sequence.
  public var step: UInt32
  /// Of the output, float32.
  public var shape: Shape

  /// The numbers of one tensor of a seed's sequence.
  public init(seed: UInt64, stream: UInt32, step: UInt32, shape: Shape) {
    self.seed = seed
    self.stream = stream
    self.step = step
    self.shape = shape
  }
}

extension NormalNoise: OperationDefinition {
  public var operationKind: Operation.Kind { .normalNoise }
  public var family: OperationFamily { .elements }

  public func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(0)
    try inputs.require(shape.dimensions.allSatisfy { $0 >= 0 }, "extents cannot be negative")
    return TensorSpec(shape)
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    // Box-Muller: log, its factor, sqrt, the angle, sin, cos and two products a pair.
    Work(perElement: 4, inputs, output)
  }

  public var decomposition: Decomposition? { nil }

  public var gradient: GradientRule { .none }

  /// The noise is a contract to the bit.
  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  public var locality: Locality { .whole }

  public func extents(of inputs: [TensorSpec]) -> Extents {
    .shared(payload: shape) { lowered in
      var smaller = self
      smaller.shape = lowered(shape)
      return .normalNoise(smaller)
    }
  }

  public var representative: Operation {
    .normalNoise(NormalNoise(seed: 42, stream: 1, step: 2, shape: shape))
  }
}

/// A constant of a shape and a dtype.
struct Fill: OperationDefinition {
  var value: Float
  var spec: TensorSpec

  var operationKind: Operation.Kind { .fill }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(0)
    try inputs.require(spec.shape.dimensions.allSatisfy { $0 >= 0 }, "extents cannot be negative")
    return spec
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 0, inputs, output) }
  var decomposition: Decomposition? { nil }

  var gradient: GradientRule { .none }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  var locality: Locality { .whole }

  func extents(of inputs: [TensorSpec]) -> Extents {
    .shared(payload: spec.shape) { lowered in .fill(value, TensorSpec(lowered(spec.shape), spec.dtype)) }
  }

  var representative: Operation { .fill(-2.7, TensorSpec(spec.shape)) }
}

/// Rounds to another dtype.
struct Cast: OperationDefinition {
  var dtype: DType

  var operationKind: Operation.Kind { .cast }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(1)
    return TensorSpec(inputs[0], dtype)
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 0, inputs, output) }
  var decomposition: Decomposition? { nil }

  var gradient: GradientRule {
    dtype.isFloatingPoint ? .linear { g, call in try g.cast(to: call.specs[0].dtype) } : .none
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  var locality: Locality { .elements }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .cast(dtype) }
}

/// How many elements are NaN or infinite.
struct NonFiniteCount: OperationDefinition {
  var operationKind: Operation.Kind { .nonFiniteCount }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    return TensorSpec([1], .int32)
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(flops: Double(inputs[0].shape.count), inputs, output)
  }

  var decomposition: Decomposition? { nil }

  var gradient: GradientRule { .none }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  var locality: Locality { .whole }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.nonFiniteCount) }
  var representative: Operation { .nonFiniteCount }
}
