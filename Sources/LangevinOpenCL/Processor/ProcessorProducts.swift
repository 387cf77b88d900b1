import LangevinTensor

/// Matrix products and convolutions by `panels.cl`; `winograd.cl` has a part in some convolutions.
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
    if matmul.right == .int8Blocks {
      return try int8Product(
        a, b, y, size, EpilogueArguments(matmul.epilogue, operands), scale: matmul.scale,
        imageRows: max(1, size.rows), on: &queue)
    }
    var left = a
    if matmul.transposeLeft {
      let rank = a.shape.rank
      let permutation = Array(0..<(rank - 2)) + [rank - 1, rank - 2]
      left = try queue.temporary(TensorSpec(Shape(permutation.map { a.shape[$0] }), a.dtype))
      try transpose(permutation, a, left, on: &queue)
    }
    let key = TuningKey.product(.cpu, a.dtype, rows: size.rows, columns: size.columns, inner: size.inner)
    let pairs = pairProducts(b.dtype, matmul.right, channels: size.inner, &queue)
    let product = PanelProduct(
      size: size, a: left, y: y, epilogue: EpilogueArguments(matmul.epilogue, operands), scale: matmul.scale,
      pairs: pairs, tile: try tile(key, on: &queue))
    try eachPart(of: b, matmul.right, size, taps: 1, pairs: pairs, on: &queue, product.launch)
  }

  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = conv.epilogue.operands(x)
    let pixels = operands.left
    let size = conv.size(input: pixels.shape, output: y.shape)
    let geometry = conv.geometry(input: pixels.shape, output: y.shape)
    let epilogue = EpilogueArguments(conv.epilogue, operands)
    if conv.weight == .int8Blocks {
      return try int8Product(
        pixels, operands.right, y, size, epilogue, scale: 1, imageRows: max(1, y.shape[1] * y.shape[2]),
        on: &queue)
    }
    // In pairs the direct sum is faster: 36 products take the time of 18.
    let channels = pixels.shape[3]
    let pairs = pairProducts(operands.right.dtype, conv.weight, channels: channels, &queue)
    if pairs == .none, let winograd = WinogradTiles(conv, input: pixels.shape, output: y.shape) {
      return try conv2d(winograd, pixels, operands.right, conv.weight, y, epilogue, on: &queue)
    }
    let key = TuningKey.convolution(.cpu, pixels.dtype, conv, size, geometry)
    let product = PanelProduct(
      size: size, a: pixels, y: y, epilogue: epilogue, scale: 1, pairs: pairs, convolution: geometry,
      tile: try tile(key, on: &queue))
    try eachPart(
      of: operands.right, conv.weight, size, taps: conv.taps, pairs: pairs, on: &queue, product.launch)
  }

  func tile(_ key: TuningKey, on queue: inout LaunchQueue) throws -> PanelParameters {
    let parameters = queue.tuning.parameters(key)
    guard case .panels(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    return tile
  }
}

/// A product but for its right operand.
struct PanelProduct {
  let size: ProductSize
  let a, y: TensorView
  let epilogue: EpilogueArguments
  let scale: Float
  /// How it is computed, and whether its right operand's rows lie in pairs.
  var pairs = DotForm.none
  var convolution: ConvolutionGeometry?
  let tile: PanelParameters
  /// Terms that are added to one accumulator; all where nil.
  var longestSum: Int?

  /// The columns of some panels, which are all that `w` has.
  func launch(_ w: TensorView, _ part: Range<Int>, on queue: inout LaunchQueue) throws {
    let width = ProcessorKernels.panelWidth
    let channels = convolution?.channels ?? size.inner
    // Panels that stay in a core's cache while all rows pass.
    let panelBytes = ProcessorKernels.panelBytes(size) / (pairs == .none ? 1 : 2)
    let group = max(1, min(part.count, (tile.groupKiB << 10) / max(1, panelBytes)))
    let zeros = try queue.zeros(channels, a.dtype)
    let rowItems = (size.rows + tile.itemRows - 1) / tile.itemRows
    try queue.launch(
      PanelProductKernel(
        a: a, w: w, y: y, epilogue: epilogue, zeros: zeros, scale: scale, batches: size.batch,
        rows: size.rows,
        columns: size.columns, channels: channels, longestSum: longestSum,
        part: part.lowerBound * width..<min(part.upperBound * width, size.columns), aStride: channels,
        aBatch: size.rows * size.inner, wBatch: part.count * size.inner * width,
        yBatch: size.rows * size.columns, convolution: convolution),
      .panels(a.dtype, weight: w.dtype, pairs: pairs, isConvolution: convolution != nil, tile),
      global: [group, rowItems, (part.count + group - 1) / group * size.batch], local: [1, 1, 1])
  }
}
