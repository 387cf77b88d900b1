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
    let key = TuningKey.product(.cpu, a.dtype, rows: size.rows, columns: size.columns, inner: size.inner)
    try PanelProduct(
      size: size, a: left, y: y, epilogue: EpilogueArguments(matmul.epilogue, operands), scale: matmul.scale,
      convolution: nil, tile: tile(key, on: &queue)
    ).run(b, matmul.right, taps: 1, by: self, on: &queue)
  }

  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = conv.epilogue.operands(x)
    let pixels = operands.left
    let size = conv.size(input: pixels.shape, output: y.shape)
    let geometry = conv.geometry(input: pixels.shape, output: y.shape)
    let key = TuningKey.convolution(.cpu, pixels.dtype, conv, size, geometry)
    try PanelProduct(
      size: size, a: pixels, y: y, epilogue: EpilogueArguments(conv.epilogue, operands), scale: 1,
      convolution: geometry, tile: tile(key, on: &queue)
    ).run(operands.right, conv.weight, taps: conv.taps, by: self, on: &queue)
  }

  private func tile(_ key: TuningKey, on queue: inout LaunchQueue) throws -> PanelParameters {
    let parameters = queue.tuning.parameters(key)
    guard case .panels(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    return tile
  }
}

/// A product but for its right operand.
private struct PanelProduct {
  let size: ProductSize
  let a, y: TensorView
  let epilogue: EpilogueArguments
  let scale: Float
  let convolution: ConvolutionGeometry?
  let tile: PanelParameters

  /// Panels of the right operand.
  private var panels: Int { (size.columns + ProcessorKernels.panelWidth - 1) / ProcessorKernels.panelWidth }
  /// Work-items that share out the rows.
  private var rowItems: Int { (size.rows + tile.itemRows - 1) / tile.itemRows }
  /// Bytes of a panel in float32.
  private var panelBytes: Int { max(1, size.inner * ProcessorKernels.panelWidth * 4) }

  /// What is in blocks becomes float32 whatever the left operand is: some panels at a time, always in the
  /// same memory, which the caches still have when the product reads it. So the weight is read once, and as
  /// blocks.
  func run(
    _ b: TensorView, _ layout: MatrixLayout, taps: Int, by kernels: ProcessorKernels,
    on queue: inout LaunchQueue
  ) throws {
    guard let encoding = layout.encoding else {
      return try launch(try kernels.panels(b, layout, size, on: &queue), 0..<panels, on: &queue)
    }
    let span = decodedPanels(units: max(1, kernels.device.computeUnits))
    let decoded = try queue.temporary(TensorSpec([span, size.inner, ProcessorKernels.panelWidth]))
    for first in stride(from: 0, to: panels, by: span) {
      let part = first..<min(first + span, panels)
      try queue.launch(
        DequantizePanelsKernel(
          x: b, y: decoded, channels: size.inner / taps, taps: taps, columns: size.columns,
          begin: part.lowerBound * ProcessorKernels.panelWidth),
        .dequantize(encoding, chunk: kernels.work.castChunk), global: [(size.inner + 15) / 16, part.count],
        local: [1, 1])
      try launch(decoded, part, on: &queue)
    }
  }

  /// 2 MiB for each core, and a panel for each at least; as even as they come.
  private func decodedPanels(units: Int) -> Int {
    let most = units * max(1, (2 << 20) / panelBytes)
    let spans = max(1, (panels + most - 1) / most)
    return max(1, (panels + spans - 1) / spans)
  }

  /// The columns of some panels, which `w` begins with.
  private func launch(_ w: TensorView, _ part: Range<Int>, on queue: inout LaunchQueue) throws {
    let width = ProcessorKernels.panelWidth
    let channels = convolution?.channels ?? size.inner
    // Panels that stay in a core's cache while all rows pass.
    let group = max(1, min(part.count, (tile.groupKiB << 10) / panelBytes))
    let zeros = try queue.zeros(channels, a.dtype)
    try queue.launch(
      PanelProductKernel(
        a: a, w: w, y: y, epilogue: epilogue, zeros: zeros, scale: scale, batches: size.batch,
        rows: size.rows,
        columns: size.columns, channels: channels,
        part: part.lowerBound * width..<min(part.upperBound * width, size.columns), aStride: channels,
        aBatch: size.rows * size.inner, wBatch: panels * size.inner * width, yBatch: size.rows * size.columns,
        convolution: convolution),
      .panels(a.dtype, weight: w.dtype, isConvolution: convolution != nil, tile),
      global: [group, rowItems, (part.count + group - 1) / group * size.batch], local: [1, 1, 1])
  }
}
