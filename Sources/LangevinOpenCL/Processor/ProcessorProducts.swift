import LangevinTensor

/// Matrix products and convolutions by `panels.cl`.
extension ProcessorKernels {
  func matmul(_ matmul: MatMul, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = matmul.epilogue.operands(x)
    let (a, b) = (operands.left, operands.right)
    let size = matmul.size(left: a.shape, right: b.shape)
    if matmul == MatMul(transposeLeft: true), a.shape.rank == 2, size.inner > 0 {
      // A linear layer's weight gradient. Neither matrix is rearranged in memory first.
      let geometry = ConvolutionGeometry(pixels: size.inner, channels: size.rows)
      return try weightGradient(geometry, a, b, y, on: &queue)
    }
    var left = a
    if matmul.transposeLeft {
      let rank = a.shape.rank
      let permutation = Array(0..<(rank - 2)) + [rank - 1, rank - 2]
      left = try queue.temporary(TensorSpec(Shape(permutation.map { a.shape[$0] }), a.dtype))
      try transpose(permutation, a, left, on: &queue)
    }
    let right = try panels(b, matmul.right, size, on: &queue)
    let key = TuningKey.product(.cpu, a.dtype, rows: size.rows, columns: size.columns, inner: size.inner)
    try product(
      size, left, right, y, EpilogueArguments(matmul.epilogue, operands), scale: matmul.scale, key: key,
      on: &queue)
  }

  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = conv.epilogue.operands(x)
    let pixels = operands.left
    let size = conv.size(input: pixels.shape, output: y.shape)
    let geometry = conv.geometry(input: pixels.shape, output: y.shape)
    let right = try panels(operands.right, conv.weight, size, taps: conv.taps, on: &queue)
    try product(
      size, pixels, right, y, EpilogueArguments(conv.epilogue, operands), scale: 1, convolution: geometry,
      key: .convolution(.cpu, pixels.dtype, conv, size, geometry), on: &queue)
  }

  private func product(
    _ size: ProductSize, _ a: TensorView, _ w: TensorView, _ y: TensorView, _ epilogue: EpilogueArguments,
    scale: Float, convolution: ConvolutionGeometry? = nil, key: TuningKey, on queue: inout LaunchQueue
  ) throws {
    let parameters = queue.tuning.parameters(key)
    guard case .panels(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    let channels = convolution?.channels ?? size.inner
    let width = ProcessorKernels.panelWidth
    let panels = (size.columns + width - 1) / width
    // Panels that stay in a core's cache while all rows pass.
    let group = max(1, min(panels, (tile.groupKiB << 10) / max(1, size.inner * width * 4)))
    let zeros = try queue.zeros(channels, a.dtype)
    try queue.launch(
      PanelProductKernel(
        a: a, w: w, y: y, epilogue: epilogue, zeros: zeros, scale: scale,
        batches: size.batch, rows: size.rows, columns: size.columns, channels: channels, aStride: channels,
        aBatch: size.rows * size.inner, wBatch: panels * size.inner * width,
        yBatch: size.rows * size.columns, convolution: convolution),
      .panels(a.dtype, weight: w.dtype, isConvolution: convolution != nil, tile),
      global: [
        group, (size.rows + tile.itemRows - 1) / tile.itemRows, (panels + group - 1) / group * size.batch,
      ], local: [1, 1, 1])
  }
}
