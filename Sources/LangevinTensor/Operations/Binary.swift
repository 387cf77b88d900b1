/// NaN wins in `minimum` and `maximum`.
public enum Binary: String, Sendable, Hashable, CaseIterable, Codable {
  case add, subtract, multiply, divide, minimum, maximum
  /// 1 where it holds, else 0; with a NaN it does not.
  case less, equal
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

  /// Equal operands of `minimum` and `maximum` share the gradient. Comparisons pass none.
  public var gradient: GradientRule {
    switch self {
    case .add: .rule(keeps: []) { call in try passed(call) { ($0, $0) } }
    case .subtract: .rule(keeps: []) { call in try passed(call) { ($0, try $0.map(.negate)) } }
    case .multiply:
      .rule(
        keeps: GradientRule.keepsOtherFactor,
        pass: { call in
          [
            try call.at(0) { try (call.gradient * call.input(1)).unbroadcast(to: call.specs[0].shape) },
            try call.at(1) { try (call.gradient * call.input(0)).unbroadcast(to: call.specs[1].shape) },
          ]
        })
    case .divide:
      .rule(keeps: [0, 1]) { call in
        let (a, b) = (call.input(0), call.input(1))
        return try passed(call) { g in
          let quotient = try g / b
          return (quotient, try (quotient * (a / b)).map(.negate))
        }
      }
    case .minimum, .maximum:
      .rule(keeps: [0, 1]) { call in
        let (a, b) = (call.input(0), call.input(1))
        let ties = try a.isEqual(to: b) * 0.5
        let isFirst = try (self == .minimum ? a.isLess(than: b) : b.isLess(than: a)) + ties
        return try passed(call) { (try $0 * isFirst, try $0 * (isFirst * -1 + 1)) }
      }
    case .less, .equal: .none
    }
  }

  /// Both gradients, summed over what was stretched.
  private func passed(_ call: GradientCall, _ pair: (Tensor) throws -> (Tensor, Tensor)) throws
    -> [Tensor?]
  {
    let (first, second) = try pair(call.gradient)
    return [
      try call.at(0) { try first.unbroadcast(to: call.specs[0].shape) },
      try call.at(1) { try second.unbroadcast(to: call.specs[1].shape) },
    ]
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    switch self {
    case .add, .subtract, .multiply: .roundings(1)
    // OpenCL's division may be 2.5 ULP off.
    case .divide: .roundings(5)
    case .minimum, .maximum, .less, .equal: .exact
    }
  }

  public var locality: Locality { .elements }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.binary(self)) }
  public var representative: Operation { .binary(self) }
}
