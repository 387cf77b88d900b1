/// The gradients of attention at queries, keys and values. arXiv:2205.14135, appendix B.
struct AttentionGradient: OperationDefinition {
  var attention: Attention

  var operationKind: Operation.Kind { .attentionGradient }
  var family: OperationFamily { .attention }

  func operand(_ index: Int) -> OperandDefinition {
    .named("queries", "keys", "values", "output", "g", "mask", at: index)
  }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(attention.mask ? 6 : 5)
    let forward = OperandSpecs(
      operation: inputs.operation, inputs: Array(inputs.inputs[0..<3] + inputs.inputs[5...]))
    let output = try attention.output(of: forward)
    try inputs.require(
      inputs.inputs[3] == output && inputs.inputs[4] == output, "the output and g must be \(output.shape)")
    let (q, k) = (inputs[0], inputs[1])
    return inputs.like([q[0] * q[1] + 2 * k[0] * k[1], q[2]])
  }

  /// Five products against the forward pass's two.
  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    let (q, k) = (inputs[0].shape, inputs[1].shape)
    let (queries, keys) = (Double(q[1]), Double(k[1]))
    let pairs = Double(q[0]) * (attention.causal ? queries * (queries + 1) / 2 : queries * keys)
    let flops = pairs * (10 * Double(q[2]) + 8 * Double(attention.heads))
    return Work(flops: flops + 2 * Double(q.count), inputs, output)
  }

  var decomposition: Decomposition? {
    { inputs in
      let (queries, keys, values) = (inputs[0], inputs[1], inputs[2])
      let weights = try attention.weights(queries, keys, attention.mask ? inputs[5] : nil)
      let g = try attention.split(inputs[4])
      let total = try (g * attention.split(inputs[3])).reduced(.sum, axes: [3])
      let ofWeights = try g.matmul(attention.split(values, [0, 2, 3, 1]))
      let ofScores = try weights * (ofWeights - total) * attention.scale
      let parts = [
        try ofScores.matmul(attention.split(keys)),
        try ofScores.matmul(attention.split(queries), transposeLeft: true),
        try weights.matmul(g, transposeLeft: true),
      ]
      return try Tensor.concatenated(
        parts.map { try attention.joined($0).flattened() }, axis: 0)
    }
  }

  var gradient: GradientRule { .undefined }
  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .attentionGradient(attention) }
  var locality: Locality { .whole }

  func extents(of inputs: [TensorSpec]) -> Extents {
    let forward = Array(inputs[0..<3] + inputs[5...])
    guard case .own(let values, let build) = attention.extents(of: forward) else {
      return .inputs(representative)
    }
    return .own(values) { values in
      let (operation, shapes) = build(values)
      guard case .attention(let smaller) = operation else { return (operation, shapes) }
      return (
        .attentionGradient(smaller), shapes[0..<3] + [shapes[0], shapes[0]] + shapes[3...]
      )
    }
  }

  var representative: Operation { .attentionGradient(attention) }
}
