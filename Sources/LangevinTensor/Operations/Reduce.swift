/// Reduced axes stay, with extent 1.
public struct Reduce: Sendable, Hashable, Codable {
  /// NaN wins in `minimum` and `maximum`.
  public enum Kind: String, Sendable, Hashable, CaseIterable, Codable { case sum, mean, minimum, maximum }
  /// What becomes of the elements of an axis.
  public var kind: Kind
  /// Distinct, ascending, not negative.
  public var axes: [Int]

  /// Over these axes, distinct and ascending.
  public init(_ kind: Kind, axes: [Int]) {
    self.kind = kind
    self.axes = axes
  }
}

extension Reduce: OperationDefinition {
  public var operationKind: Operation.Kind { .reduce }
  public var name: String { "reduce_\(kind.rawValue)" }
  public var family: OperationFamily { .norms }

  public func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    var dimensions = inputs[0].dimensions
    try inputs.require(axes == Array(Set(axes)).sorted(), "axes must be distinct and ascending")
    for axis in axes {
      try inputs.require(dimensions.indices.contains(axis), "axis \(axis) does not exist")
      try inputs.require(dimensions[axis] > 0, "cannot reduce an empty axis")
      dimensions[axis] = 1
    }
    return inputs.like(Shape(dimensions))
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    let divisions = kind == .mean ? output.shape.count : 0
    return Work(flops: Double(inputs[0].shape.count + divisions), inputs, output)
  }

  public var decomposition: Decomposition? { nil }

  /// Equal extremes share the gradient.
  public var gradient: GradientRule {
    switch kind {
    case .sum: .linear { g, call in try g.broadcast(to: call.specs[0].shape) }
    case .mean:
      .linear { g, call in
        let count = axes.reduce(1) { $0 * call.specs[0].shape[$1] }
        return try (g / Float(count)).broadcast(to: call.specs[0].shape)
      }
    case .minimum, .maximum:
      .rule(
        keeps: { _ in
          var kept: GradientRule.Kept = [0]
          kept.output = true
          return kept
        },
        pass: { call in
          let chosen = try call.input(0).isEqual(to: call.output)
          return [try chosen * (call.gradient / chosen.reduced(.sum, axes: axes))]
        })
    }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    switch kind {
    case .minimum, .maximum: return .exact
    case .sum, .mean:
      let count = axes.reduce(1) { $0 * inputs[0].shape[$1] }
      let sum = Operation.reduce(Reduce(.sum, axes: axes))
      return .sum(terms: count, squares: sum, plain: sum, divisor: kind == .mean ? Double(count) : 1)
    }
  }

  public var locality: Locality { .whole }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.reduce(self)) }
  public var representative: Operation { .reduce(self) }
}
