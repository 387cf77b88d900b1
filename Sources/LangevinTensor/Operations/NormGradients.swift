/// The gradients of group normalisation at x, gamma and beta.
struct GroupNormGradient: OperationDefinition {
  var norm: GroupNorm

  var operationKind: Operation.Kind { .groupNormGradient }
  var family: OperationFamily { .norms }

  func operand(_ index: Int) -> OperandDefinition { .named("x", "gamma", "beta", "g", at: index) }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(4)
    let forward = OperandSpecs(operation: inputs.operation, inputs: Array(inputs.inputs[0..<3]))
    let x = try norm.output(of: forward).shape
    try inputs.require(inputs[3] == x, "g must be \(x)")
    try inputs.require(x.count > 0, "needs at least one element")
    return inputs.like([x.count / x[-1] + 2, x[-1]])
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    // The standardised x 6, the activation's slope, the sums 4, dx 6.
    Work(perElement: 16 + 2 * norm.activation.flops, inputs, output)
  }

  var decomposition: Decomposition? {
    { inputs in
      let (x, gamma, beta, g) = (inputs[0], inputs[1], inputs[2], inputs[3])
      let channels = x.shape[-1]
      let grouped: Shape = [x.shape[0], -1, norm.groups, channels / norm.groups]
      let (y, scale) = try x.reshaped(grouped).standardizing(axes: [1, 3], epsilon: norm.epsilon)
      let flat = try y.reshaped(x.shape)
      let h =
        try norm.activation.function.map {
          try Tensor.apply(.unaryGradient($0), [flat * gamma + beta, g])
        } ?? g
      let scaled = try (h * gamma).reshaped(grouped)
      let dx = try scaled.throughStandardizing(y, scale, axes: [1, 3])
      return try Tensor.stackedRows([dx], channels, [(h * flat).summedRows(), h.summedRows()])
    }
  }

  var gradient: GradientRule { .undefined }
  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .normalizedGradient(.groups(norm)) }
  var locality: Locality { .groupGradients(norm) }

  func extents(of inputs: [TensorSpec]) -> Extents {
    guard case .own(let values, let build) = norm.extents(of: Array(inputs[0..<3])) else {
      return .inputs(representative)
    }
    return .own(values) { values in
      let (operation, shapes) = build(values)
      guard case .groupNorm(let smaller) = operation else { return (operation, shapes) }
      return (.groupNormGradient(smaller), shapes + [shapes[0]])
    }
  }

  var representative: Operation { .groupNormGradient(norm) }
}

/// The gradients of layer normalisation at x and, when affine, gamma and beta.
struct LayerNormGradient: OperationDefinition {
  var norm: LayerNorm

  var operationKind: Operation.Kind { .layerNormGradient }
  var family: OperationFamily { .norms }

  func operand(_ index: Int) -> OperandDefinition {
    norm.affine ? .named("x", "gamma", "g", at: index) : .named("x", "g", at: index)
  }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(norm.affine ? 3 : 2)
    let x = inputs[0]
    try inputs.require(x.rank >= 1, "needs an axis")
    if norm.affine { try inputs.requireVector(1, x[-1], "gamma") }
    try inputs.require(inputs[inputs.count - 1] == x, "g must be \(x)")
    try inputs.require(x.count > 0, "needs at least one element")
    return inputs.like([x.count / x[-1] + (norm.affine ? 2 : 0), x[-1]])
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 16, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let (x, g) = (inputs[0], inputs[inputs.count - 1])
      let (y, scale) = try x.standardizing(axes: [-1], epsilon: norm.epsilon)
      let scaled = norm.affine ? try g * inputs[1] : g
      let dx = try scaled.throughStandardizing(y, scale, axes: [-1])
      let sums = norm.affine ? [try (g * y).summedRows(), try g.summedRows()] : []
      return try Tensor.stackedRows([dx], x.shape[-1], sums)
    }
  }

  var gradient: GradientRule { .undefined }
  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .normalizedGradient(.rows(norm)) }
  var locality: Locality { .whole }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .layerNormGradient(norm) }
}

/// The gradients of root-mean-square normalisation at x and gamma.
struct RMSNormGradient: OperationDefinition {
  var epsilon: Float

  var operationKind: Operation.Kind { .rmsNormGradient }
  var family: OperationFamily { .norms }

  func operand(_ index: Int) -> OperandDefinition { .named("x", "gamma", "g", at: index) }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(3)
    let x = inputs[0]
    try inputs.require(x.rank >= 1, "needs an axis")
    try inputs.requireVector(1, x[-1], "gamma")
    try inputs.require(inputs[2] == x, "g must be \(x)")
    try inputs.require(x.count > 0, "needs at least one element")
    return inputs.like([x.count / x[-1] + 1, x[-1]])
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 12, inputs, output) }

  var decomposition: Decomposition? {
    { inputs in
      let (x, gamma, g) = (inputs[0], inputs[1], inputs[2])
      let (y, scale) = try x.standardizing(axes: [-1], epsilon: epsilon, centred: false)
      let scaled = try g * gamma
      // Without a mean, nothing is taken off for it.
      let dx = try scale * (scaled - y * (scaled * y).reduced(.mean, axes: [-1]))
      return try Tensor.stackedRows([dx], x.shape[-1], [(g * y).summedRows()])
    }
  }

  var gradient: GradientRule { .undefined }
  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    .normalizedGradient(.uncentredRows(epsilon: epsilon))
  }
  var locality: Locality { .whole }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .rmsNormGradient(epsilon: epsilon) }
}

extension Tensor {
  /// The gradient before `standardizing` of a gradient behind it, which gave `y` and `scale`:
  /// `scale (g - mean(g) - y mean(g y))`.
  fileprivate func throughStandardizing(_ y: Tensor, _ scale: Tensor, axes: [Int]) throws -> Tensor {
    let mean = try reduced(.mean, axes: axes)
    let slope = try (self * y).reduced(.mean, axes: axes)
    return try scale * (self - mean - y * slope)
  }

  /// The rows of the first tensors and then one for each of the others.
  fileprivate static func stackedRows(_ blocks: [Tensor], _ channels: Int, _ rows: [Tensor]) throws -> Tensor
  {
    try concatenated((blocks + rows).map { try $0.reshaped([$0.shape.count / channels, channels]) }, axis: 0)
  }
}
