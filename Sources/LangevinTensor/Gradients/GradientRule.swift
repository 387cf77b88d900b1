/// How a gradient passes through an operation, from its output to its inputs.
public enum GradientRule: Sendable {
  /// None does: the output is a constant, or counts.
  case none
  /// There is no rule, as for a gradient's own gradient.
  case undefined
  /// Through the operations of the decomposition, one after another.
  case decomposed
  /// `keeps` names what the rule reads, `pass` computes.
  case rule(keeps: Keeps, pass: Pass)

  /// Which operands a rule reads where these inputs need a gradient; the tape keeps no others.
  public typealias Keeps = @Sendable (_ needed: [Bool]) -> Kept
  /// The gradient at each input, as long as the inputs; nil where none is needed or none passes.
  public typealias Pass = @Sendable (_ call: GradientCall) throws -> [Tensor?]

  /// What a tape keeps of a call.
  public struct Kept: Sendable, ExpressibleByArrayLiteral {
    /// Positions of inputs.
    var inputs: Set<Int>
    var output = false

    public init(arrayLiteral inputs: Int...) { self.inputs = Set(inputs) }
    static let output: Kept = {
      var kept: Kept = []
      kept.output = true
      return kept
    }()
  }

  /// What a product of inputs 0 and 1 keeps: of the two, the one that the other's gradient is a product with.
  static let keepsOtherFactor: @Sendable (_ needed: [Bool]) -> Kept = { needed in
    var kept: Kept = []
    if needed[0] { kept.inputs.insert(1) }
    if needed[1] { kept.inputs.insert(0) }
    return kept
  }

  /// The rule with its gradients changed, by which tests plant faults.
  package func tampered(_ change: @escaping @Sendable ([Tensor?]) throws -> [Tensor?]) -> GradientRule {
    guard case .rule(let keeps, let pass) = self else { return self }
    return .rule(keeps: keeps, pass: { try change(pass($0)) })
  }

  /// A rule that reads the same, whatever is needed.
  static func rule(keeps: Kept, _ pass: @escaping Pass) -> GradientRule {
    .rule(keeps: { _ in keeps }, pass: pass)
  }

  /// A rule of one input that reads nothing.
  static func linear(_ pass: @escaping @Sendable (_ g: Tensor, _ call: GradientCall) throws -> Tensor)
    -> GradientRule
  {
    .rule(keeps: []) { [try pass($0.gradient, $0)] }
  }
}

/// One call of an operation, as its gradient's rule sees it.
public struct GradientCall: Sendable {
  /// The gradient at the output, of its shape and dtype.
  public let gradient: Tensor
  /// Shapes and dtypes of the inputs.
  public let specs: [TensorSpec]
  /// Which inputs need a gradient.
  public let needed: [Bool]
  let inputs: [Tensor?]
  let kept: Tensor?

  /// An input that the rule keeps.
  func input(_ index: Int) -> Tensor {
    guard let input = inputs[index] else { preconditionFailure("the rule does not keep input \(index)") }
    return input
  }

  /// The output, where the rule keeps it.
  var output: Tensor {
    guard let kept else { preconditionFailure("the rule does not keep the output") }
    return kept
  }

  /// The tensor that `body` makes where that input needs a gradient.
  func at(_ index: Int, _ body: () throws -> Tensor) rethrows -> Tensor? {
    needed[index] ? try body() : nil
  }
}

extension Tensor {
  /// The sum over the axes along which a shape was stretched to this one.
  func unbroadcast(to shape: Shape) throws -> Tensor {
    if shape == self.shape { return self }
    let lead = self.shape.rank - shape.rank
    let axes = (0..<self.shape.rank).filter { axis in
      axis < lead || (shape[axis - lead] == 1 && self.shape[axis] != 1)
    }
    return try (axes.isEmpty ? self : reduced(.sum, axes: axes)).reshaped(shape)
  }

  /// All rows one after another: [..., C] -> [rows, C].
  func flattened() throws -> Tensor {
    try reshaped([Shape(Array(shape.dimensions.dropLast())).count, shape[-1]])
  }

  /// The sum of all rows: [..., C] -> [C].
  func summedRows() throws -> Tensor { try flattened().reduced(.sum, axes: [0]).reshaped([shape[-1]]) }

  /// 1 where this is less than a number, else 0.
  func isLess(than other: Tensor) throws -> Tensor { try Tensor.apply(.binary(.less), [self, other]) }
  /// 1 where the two are equal, else 0.
  func isEqual(to other: Tensor) throws -> Tensor { try Tensor.apply(.binary(.equal), [self, other]) }

  /// A number in this tensor's dtype, of any shape by broadcasting.
  func constant(_ value: Float) throws -> Tensor { try .fill(value, [], dtype: dtype, on: device) }
}
