/// `scale * x + offset`.
struct Affine: OperationDefinition {
  var scale, offset: Float

  var operationKind: Operation.Kind { .affine }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 2, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let x = inputs[0]
      return try x * x.constant(scale) + x.constant(offset)
    }
  }

  var gradient: GradientRule { .linear { g, _ in try g * scale } }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    .elements { inputs, i, _ in
      2 * 0x1p-24 * (abs(Double(scale) * inputs[0][i]) + abs(Double(offset)))
    }
  }

  var locality: Locality { .elements }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.affine(scale: scale, offset: offset)) }
  var representative: Operation { .affine(scale: -1.5, offset: 0.25) }
}

/// Within `lower` and `upper`; a NaN stays one.
struct Clamp: OperationDefinition {
  var lower, upper: Float

  var operationKind: Operation.Kind { .clamp }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 2, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let x = inputs[0]
      return try x.maximum(x.constant(lower)).minimum(x.constant(upper))
    }
  }

  /// Where nothing was cut off.
  var gradient: GradientRule {
    .rule(keeps: [0]) { call in
      let x = call.input(0)
      let outside = try x.isLess(than: x.constant(lower)) + x.constant(upper).isLess(than: x)
      return [try call.gradient * (outside * -1 + 1)]
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  var locality: Locality { .elements }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .clamp(lower: lower, upper: upper) }
}

/// `sum_i c_i x_i`.
struct LinearCombination: OperationDefinition {
  var coefficients: [Float]

  var operationKind: Operation.Kind { .linearCombination }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x\(index)") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.require(!coefficients.isEmpty && coefficients.count <= 8, "takes 1 to 8 terms")
    try inputs.requireFloats(coefficients.count)
    for index in 0..<inputs.count { try inputs.require(inputs[index] == inputs[0], "shapes differ") }
    return inputs.inputs[0]
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: 2 * coefficients.count - 1, inputs, output)
  }

  var decomposition: Decomposition? {
    { inputs in
      let terms = try zip(inputs, coefficients).map { try $0 * $1 }
      return try terms.dropFirst().reduce(terms[0]) { try $0 + $1 }
    }
  }

  var gradient: GradientRule {
    .rule(keeps: []) { call in
      try coefficients.enumerated().map { index, c in try call.at(index) { try call.gradient * c } }
    }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    .elements { inputs, i, _ in
      let terms = coefficients.indices.reduce(0) { $0 + abs(Double(coefficients[$1]) * inputs[$1][i]) }
      return Double(coefficients.count + 1) * 0x1p-24 * terms
    }
  }

  var locality: Locality { .elements }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.linearCombination(coefficients)) }
  var representative: Operation {
    .linearCombination(coefficients.indices.map { 0.9 - 0.37 * Float($0) })
  }
}

/// The first half of the last axis times GELU of the second.
struct GEGLU: OperationDefinition {
  var operationKind: Operation.Kind { .geglu }
  var family: OperationFamily { .elements }

  func operand(_ index: Int) -> OperandDefinition { OperandDefinition("x") }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    let x = inputs[0]
    try inputs.require(x.rank >= 1 && x[-1] % 2 == 0, "the last axis must be even")
    return inputs.like(x.replacing(axis: -1, with: x[-1] / 2))
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: Unary.gelu.flops + 1, inputs, output)
  }

  var decomposition: Decomposition? {
    { inputs in
      let (x, width) = (inputs[0], inputs[0].shape[-1] / 2)
      let rows = try x.reshaped([-1, 2 * width])
      let gate = try rows.sliced(width..<2 * width, axis: 1).map(.gelu)
      return try (rows.sliced(0..<width, axis: 1) * gate)
        .reshaped(x.shape.replacing(axis: -1, with: width))
    }
  }

  var gradient: GradientRule {
    .rule(keeps: [0]) { [try Tensor.apply(.gegluGradient, [$0.input(0), $0.gradient])] }
  }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    let width = inputs[0].shape[-1] / 2
    return .elements { inputs, i, value in
      let first = i / width * 2 * width + i % width
      let (x, gate) = (inputs[0][first], inputs[0][first + width])
      return abs(x) * Unary.gelu.error(gate, 0) + 2 * 0x1p-24 * abs(value)
    }
  }

  var locality: Locality { .halves }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.geglu) }
  var representative: Operation { .geglu }
}
