/// Applied last, before the store.
public enum Activation: String, Sendable, Hashable, CaseIterable, Codable {
  case identity, silu, gelu, geluTanh, quickGelu

  /// The same function as an operation of its own; nil for `identity`.
  public var function: Unary? {
    switch self {
    case .identity: nil
    case .silu: .silu
    case .gelu: .gelu
    case .geluTanh: .geluTanh
    case .quickGelu: .quickGelu
    }
  }

  /// For each element.
  var flops: Int { function?.flops ?? 0 }
}

/// What is added to a product before the activation. Order of inputs: bias, perImage, residual.
public struct Epilogue: Sendable, Hashable, Codable {
  /// [N], one number a column.
  public var bias: Bool
  /// `conv2d` only: [images, N], one row an image (the time embedding).
  public var perImage: Bool
  /// Whether a tensor of the output's shape is added.
  public var residual: Bool
  /// Applied to the sum.
  public var activation: Activation

  /// By default nothing is added or applied.
  public init(
    bias: Bool = false, perImage: Bool = false, residual: Bool = false, activation: Activation = .identity
  ) {
    self.bias = bias
    self.perImage = perImage
    self.residual = residual
    self.activation = activation
  }

  /// How many of them there are.
  public var inputCount: Int { (bias ? 1 : 0) + (perImage ? 1 : 0) + (residual ? 1 : 0) }

  /// The operands of a product whose epilogue this is.
  public func operands<Value>(_ inputs: [Value]) -> ProductOperands<Value> {
    var next = 2
    func take(_ isPresent: Bool) -> Value? {
      guard isPresent else { return nil }
      defer { next += 1 }
      return inputs[next]
    }
    return ProductOperands(
      left: inputs[0], right: inputs[1], bias: take(bias), perImage: take(perImage), residual: take(residual))
  }

  /// For each element.
  var flops: Int { inputCount + activation.flops }

  /// The name of the operand at a position of a product's inputs.
  func operand(_ index: Int, left: String, right: String) -> OperandDefinition {
    let extras = [(bias, "bias"), (perImage, "perImage"), (residual, "residual")]
    let names = [left, right] + extras.filter(\.0).map(\.1)
    return OperandDefinition(names.indices.contains(index) ? names[index] : "x")
  }

  /// Checks the operands from input 2 on. `images` is nil where there are none.
  func check(_ inputs: OperandSpecs, output: Shape, images: Int?) throws {
    try inputs.expect(2 + inputCount)
    let operands = operands(inputs.inputs)
    try operands.bias.map { try inputs.require($0.shape == [output[-1]], "bias must be [\(output[-1])]") }
    if let perImage = operands.perImage {
      guard let images else { throw inputs.failure("perImage belongs to conv2d") }
      try inputs.require(
        perImage.shape == [images, output[-1]], "perImage must be [\(images), \(output[-1])]")
    }
    try operands.residual.map { try inputs.require($0.shape == output, "residual must be \(output)") }
  }

  /// The shapes of the operands from input 2 on.
  public func shapes(output: Shape) -> [Shape] {
    var shapes: [Shape] = []
    if bias { shapes.append([output[-1]]) }
    if perImage { shapes.append([output[0], output[-1]]) }
    if residual { shapes.append(output) }
    return shapes
  }

  /// A product with the rest added to it, and the activation, by operations of their own.
  func decomposed(_ product: Tensor, _ operands: ProductOperands<Tensor>) throws -> Tensor {
    var sum = product
    if let bias = operands.bias { sum = try sum + bias }
    if let perImage = operands.perImage {
      sum = try sum + perImage.reshaped([perImage.shape[0], 1, 1, perImage.shape[1]])
    }
    if let residual = operands.residual { sum = try sum + residual }
    return try activation.function.map { try sum.map($0) } ?? sum
  }
}

/// The inputs of `matmul` and `conv2d` by name, whatever stands for an operand.
public struct ProductOperands<Value> {
  public var left, right: Value
  public var bias, perImage, residual: Value?
}
