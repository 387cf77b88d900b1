/// NaN wins in `minimum` and `maximum`.
public enum Binary: String, Sendable, Hashable, CaseIterable, Codable {
  case add, subtract, multiply, divide, minimum, maximum
}

extension Binary: OperationDefinition {
  public var operationKind: Operation.Kind { .binary }
  public var name: String { rawValue }
  public var family: OperationFamily { .elements }

  public func operand(_ index: Int) -> OperandDefinition {
    index == 0
      ? OperandDefinition("a") : OperandDefinition("b", domain: self == .divide ? .positive : .any)
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(2)
    guard let shape = inputs[0].broadcast(with: inputs[1]) else {
      throw inputs.failure("shapes do not broadcast")
    }
    return inputs.like(shape)
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: 1, inputs, output)
  }

  public var decomposition: Decomposition? { nil }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    switch self {
    case .add, .subtract, .multiply: .roundings(1)
    // OpenCL's division may be 2.5 ULP off.
    case .divide: .roundings(5)
    case .minimum, .maximum: .exact
    }
  }

  public var locality: Locality { .elements }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.binary(self)) }
  public var representative: Operation { .binary(self) }
}
