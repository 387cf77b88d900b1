/// x [N, H, W, C] with W of logical shape [kernelHeight * kernelWidth * C, outputChannels], taps outermost;
/// in any layout. Output [N, H', W', outputChannels].
public struct Conv2D: Sendable, Hashable, Codable {
  /// Taps along each side.
  public var kernel: Extent2D
  /// Pixels between neighbouring windows, along both sides.
  public var stride: Int
  /// How many zeros lie around x on each side.
  public var padding: Padding2D
  /// Of the matrix [taps * C, outputs].
  public var weight: MatrixLayout
  /// What is added to the products, and the activation.
  public var epilogue: Epilogue

  /// By default every window, no padding, a row-major weight and nothing added.
  public init(
    kernel: Extent2D, stride: Int = 1, padding: Padding2D = Padding2D(0), weight: MatrixLayout = .rowMajor,
    epilogue: Epilogue = Epilogue()
  ) {
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
    self.weight = weight
    self.epilogue = epilogue
  }
}

/// Pixels along each side.
public struct Extent2D: Sendable, Hashable, Codable {
  /// The extent in rows.
  public var height: Int
  /// The extent in columns.
  public var width: Int

  /// An extent of rows and columns.
  public init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

/// Rows and columns of zeros around a picture.
public struct Padding2D: Sendable, Hashable, Codable {
  /// How many rows of zeros lie above.
  public var top: Int
  /// Columns before each row.
  public var left: Int
  /// How many rows of zeros lie below.
  public var bottom: Int
  /// Columns after each row.
  public var right: Int

  /// Each side by itself.
  public init(top: Int, left: Int, bottom: Int, right: Int) {
    self.top = top
    self.left = left
    self.bottom = bottom
    self.right = right
  }

  /// The same on all sides.
  public init(_ all: Int) { self.init(top: all, left: all, bottom: all, right: all) }
}

extension Conv2D {
  /// How many pixels of the input each output sees.
  public var taps: Int { kernel.height * kernel.width }

  /// Whether it is a product of the pixels as they lie in memory with a [C, outputs] matrix.
  public var isPointwise: Bool { taps == 1 && stride == 1 && padding == Padding2D(0) }

  /// Of a picture [N, H, W, C].
  func outputShape(_ x: Shape, columns: Int) -> Shape {
    let height = x[1] + padding.top + padding.bottom - kernel.height
    let width = x[2] + padding.left + padding.right - kernel.width
    return [x[0], height / stride + 1, width / stride + 1, columns]
  }

  /// Each output pixel's window as a row, [N, H', W', taps * C].
  func windows(_ x: Tensor) throws -> Tensor {
    let output = outputShape(x.shape, columns: 1)
    let (height, width) = (output[1], output[2])
    // Room for whole steps behind the last window, so that a stride is a reshape.
    let padded = try x.padded(
      before: [0, padding.top, padding.left, 0],
      after: [0, padding.bottom + stride - 1, padding.right + stride - 1, 0])
    let (images, channels) = (x.shape[0], x.shape[3])
    let taps = try (0..<taps).map { tap in
      let block = try padded.sliced(
        starts: [0, tap / kernel.width, tap % kernel.width, 0],
        sizes: [images, height * stride, width * stride, channels])
      return try block.reshaped([images, height, stride, width, stride, channels])
        .sliced(starts: [0, 0, 0, 0, 0, 0], sizes: [images, height, 1, width, 1, channels])
        .reshaped([images, height, width, channels])
    }
    return try Tensor.concatenated(taps, axis: 3)
  }
}

extension Conv2D: OperationDefinition {
  public var operationKind: Operation.Kind { .conv2d }
  public var label: String {
    "conv2d \(kernel.height)x\(kernel.width)" + (stride == 1 ? "" : " /\(stride)")
  }
  public var family: OperationFamily { .products }

  public func operand(_ index: Int) -> OperandDefinition {
    weight.operand(index, epilogue.operand(index, left: "x", right: "weight"))
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.require(inputs.count >= 2, "takes at least 2 inputs")
    try inputs.requireFloats(except: weight.encoding == nil ? nil : 1)
    let x = inputs[0]
    try inputs.require(x.rank == 4, "x must be [N, H, W, C]")
    try inputs.require(
      stride > 0 && kernel.height > 0 && kernel.width > 0, "kernel and stride must be positive")
    let taps = try inputs.product(kernel.height, kernel.width)
    let rows = try inputs.product(taps, x[3])
    let (k, columns) = try weight.checkedExtents(1, inputs, inner: rows)
    try inputs.require(
      taps == 1 || weight != .int8Blocks, "blocks lie along the channels of one tap, not of \(taps)")
    try inputs.require(k == rows, "the weight has \(k) rows, \(taps) taps of \(x[3]) channels need \(rows)")
    let height = x[1] + padding.top + padding.bottom - kernel.height
    let width = x[2] + padding.left + padding.right - kernel.width
    try inputs.require(height >= 0 && width >= 0, "the picture is smaller than the kernel")
    let output = outputShape(x, columns: columns)
    try epilogue.check(inputs, output: output, images: x[0])
    return inputs.like(output)
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: 2 * taps * inputs[0].shape[3] + epilogue.flops, inputs, output)
  }

  public var decomposition: Decomposition? {
    if weight == .int8Blocks {
      return { inputs in
        var (plain, operands) = (self, inputs)
        plain.weight = weight.withoutRounding
        operands[0] = try inputs[0].roundedToInt8()
        return try .apply(.conv2d(plain), operands)
      }
    }
    if weight.encoding != nil {
      return { inputs in
        var (dense, operands) = (self, inputs)
        dense.weight = .rowMajor
        operands[1] = try weight.rowMajor(inputs[1], inner: taps * inputs[0].shape[3], taps: taps)
        return try .apply(.conv2d(dense), operands)
      }
    }
    return { inputs in
      let operands = epilogue.operands(inputs)
      let inner = taps * operands.left.shape[3]
      let product = try windows(operands.left).matmul(weight.rowMajor(operands.right, inner: inner))
      return try epilogue.decomposed(product, operands)
    }
  }

  /// dx is made of convolutions of g with the weight turned around; see `inputGradient`. The activation is recorded apart.
  public var gradient: GradientRule {
    .rule(
      keeps: GradientRule.keepsOtherFactor,
      pass: { call in
        let (g, positions) = (call.gradient, epilogue.operands(Array(call.specs.indices)))
        var gradients = [Tensor?](repeating: nil, count: call.specs.count)
        gradients[0] = try call.at(0) { try inputGradient(g, call.input(1), like: call.specs[0].shape) }
        gradients[1] = try call.at(1) {
          var plain = self
          (plain.epilogue, plain.weight) = (Epilogue(), .rowMajor)
          let sum = try Tensor.apply(.conv2dWeightGradient(plain), [call.input(0), g])
          return weight == .transposed ? try sum.transposingLastAxes() : sum
        }
        if let bias = positions.bias { gradients[bias] = try call.at(bias) { try g.summedRows() } }
        if let perImage = positions.perImage {
          gradients[perImage] = try call.at(perImage) {
            try g.reduced(.sum, axes: [1, 2]).reshaped([g.shape[0], g.shape[3]])
          }
        }
        if let residual = positions.residual { gradients[residual] = g }
        return gradients
      })
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    var plain = self
    plain.epilogue.activation = .identity
    return .sum(
      terms: taps * inputs[0].shape[3] + 3, squares: .conv2d(plain), plain: .conv2d(plain), divisor: 1)
  }

  public var locality: Locality { .convolution(self) }

  public func extents(of inputs: [TensorSpec]) -> Extents {
    let columns = weight.extents(inputs[1].shape, inner: taps * inputs[0].shape[3]).columns
    return .own(inputs[0].shape.dimensions + [columns]) { values in
      let x = Shape(Array(values.dropLast()))
      let matrix = weight.storing(rows: taps * x[3], columns: values[4])
      let output = outputShape(x, columns: values[4])
      return (.conv2d(self), [x, matrix] + epilogue.shapes(output: output))
    }
  }

  public var representative: Operation { .conv2d(self) }
}
