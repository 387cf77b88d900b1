/// The gradient of a convolution at its weight, a sum over all pixels of all images.
struct Conv2DWeightGradient: OperationDefinition {
  /// With a row-major weight and no epilogue.
  var conv: Conv2D

  var operationKind: Operation.Kind { .conv2dWeightGradient }
  var label: String { "conv2d_weight_gradient" + conv.label.dropFirst("conv2d".count) }
  var family: OperationFamily { .products }

  func operand(_ index: Int) -> OperandDefinition { .named("x", "g", at: index) }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(2)
    let (x, g) = (inputs[0], inputs[1])
    try inputs.require(x.rank == 4 && g.rank == 4, "x must be [N, H, W, C] and g [N, H', W', O]")
    try inputs.require(
      conv.stride > 0 && conv.kernel.height > 0 && conv.kernel.width > 0,
      "kernel and stride must be positive")
    try inputs.require(
      conv.epilogue == Epilogue() && conv.weight == .rowMajor, "takes a plain convolution")
    let padding = conv.padding
    try inputs.require(
      x[1] + padding.top + padding.bottom >= conv.kernel.height
        && x[2] + padding.left + padding.right >= conv.kernel.width,
      "the picture is smaller than the kernel")
    let output = conv.outputShape(x, columns: g[3])
    try inputs.require(g == output, "g must be \(output)")
    let taps = try inputs.product(conv.kernel.height, conv.kernel.width)
    return inputs.like([try inputs.product(taps, x[3]), g[3]])
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    let pixels = inputs[1].shape.count / max(inputs[1].shape[3], 1)
    return Work(perElement: 2 * pixels, inputs, output)
  }

  var decomposition: Decomposition? {
    { inputs in
      try conv.windows(inputs[0]).flattened().matmul(inputs[1].flattened(), transposeLeft: true)
    }
  }

  var gradient: GradientRule { .undefined }

  func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    let pixels = inputs[1].shape.count / max(inputs[1].shape[3], 1)
    return .sum(terms: pixels, squares: representative, plain: representative, divisor: 1)
  }

  var locality: Locality { .channels(conv) }

  func extents(of inputs: [TensorSpec]) -> Extents {
    .own(inputs[0].shape.dimensions + [inputs[1].shape[3]]) { values in
      let x = Shape(Array(values.dropLast()))
      return (representative, [x, conv.outputShape(x, columns: values[4])])
    }
  }

  var representative: Operation { .conv2dWeightGradient(conv) }
}
