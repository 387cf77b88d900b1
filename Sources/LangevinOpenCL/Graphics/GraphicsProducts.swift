import LangevinTensor

/// Matrix products and convolutions by `tiled.cl`.
extension GraphicsKernels {
  func matmul(_ matmul: MatMul, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = matmul.epilogue.operands(x)
    let a = operands.left
    let size = matmul.size(left: a.shape, right: operands.right.shape)
    let (rows, inner, columns) = (size.rows, size.inner, size.columns)
    let (aRow, aInner) = matmul.transposeLeft ? (1, rows) : (inner, 1)
    let (wInner, wColumn) = matmul.right.strides(inner: inner, columns: columns)
    let kernel = TiledProductKernel(
      a: a, w: operands.right, y: y, epilogue: EpilogueArguments(matmul.epilogue, operands),
      scale: matmul.scale,
      rows: rows, columns: columns, inner: inner, aRow: aRow, aInner: aInner, wInner: wInner,
      wColumn: wColumn, aBatch: rows * inner, wBatch: inner * columns, yBatch: rows * columns)
    let key = TuningKey.product(.gpu, a.dtype, rows: rows, columns: columns, inner: inner)
    // [images, tokens, channels] with one matrix for all; a matrix does not say what its rows are.
    let isShared = operands.right.shape.rank < 3
    let isOfImages = a.shape.rank > 2 && isShared && rows > 0
    let imageRows = isOfImages ? rows / a.shape[0] : nil
    try launch(
      kernel, matmul.right.encoding, batch: isShared ? nil : size.batch, imageRows: imageRows, key: key,
      on: &queue)
  }

  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let operands = conv.epilogue.operands(x)
    let pixels = operands.left
    let size = conv.size(input: pixels.shape, output: y.shape)
    let geometry = conv.geometry(input: pixels.shape, output: y.shape)
    let (rows, inner, columns) = (size.rows, size.inner, size.columns)
    let (wInner, wColumn) = conv.weight.strides(inner: inner, columns: columns)
    let kernel = TiledProductKernel(
      a: pixels, w: operands.right, y: y, epilogue: EpilogueArguments(conv.epilogue, operands), scale: 1,
      rows: rows,
      columns: columns, inner: inner, aRow: inner, aInner: 1, wInner: wInner, wColumn: wColumn,
      aBatch: rows * inner, wBatch: inner * columns, yBatch: rows * columns, convolution: geometry)
    try launch(
      kernel, conv.weight.encoding, batch: nil, imageRows: y.shape[1] * y.shape[2],
      key: .convolution(.gpu, pixels.dtype, conv, size, geometry), on: &queue)
  }

  /// `batch`: how many right matrices there are; nil where one serves all rows, whose sums may be taken in parts.
  private func launch(
    _ kernel: TiledProductKernel, _ blocks: BlockEncoding?, batch: Int?, imageRows: Int?, key: TuningKey,
    on queue: inout LaunchQueue
  ) throws {
    let parameters = queue.tuning.parameters(key)
    guard case .tiled(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    let program = Program.tiled(
      kernel.a.dtype, blocks: blocks, isConvolution: kernel.convolution != nil, tile)
    let items = [
      (kernel.columns + tile.tileColumns - 1) / tile.tileColumns * tile.itemsX,
      (kernel.rows + tile.tileRows - 1) / tile.tileRows * tile.itemsY,
    ]
    let local = [tile.itemsX, tile.itemsY, 1]
    guard batch == nil, let parts = innerParts(kernel, imageRows: imageRows) else {
      return try queue.launch(kernel, program, global: items + [batch ?? 1], local: local)
    }
    let partial = try queue.scratch(parts.count * kernel.rows * kernel.columns * 4)
    var product = kernel
    (product.partSize, product.partial) = (parts.size, partial)
    try queue.launch(product, program, global: items + [parts.count], local: local)
    try queue.launch(
      ProductPartsKernel(
        partial: partial, y: kernel.y, epilogue: kernel.epilogue, scale: kernel.scale, rows: kernel.rows,
        columns: kernel.columns, parts: parts.count, imageRows: imageRows ?? kernel.rows), program,
      global: [(kernel.columns + 3) / 4, kernel.rows], local: [32, 2])
  }

  /// The parts of each sum where an image has so few tiles that they would leave much of a card idle, and of very long
  /// sums; nil for one part. What they are depends on an image's shape alone: no tuning and no batch changes the order
  /// of a sum.
  private func innerParts(_ kernel: TiledProductKernel, imageRows: Int?) -> SumParts? {
    guard kernel.rows > 0, kernel.columns > 0 else { return nil }
    let tiles = imageRows.map { ($0 + 63) / 64 * ((kernel.columns + 63) / 64) }
    // No part is too long for the llvmpipe of Mesa 22, which leaves a kernel's loops after 65,535 turns in all.
    let fewest = (kernel.inner + 16383) / 16384
    let parts = SumParts(
      kernel.inner, size: 512, multipleOf: 64, atMost: max(fewest, tiles.map { 256 / $0 } ?? 1))
    return parts.count > 1 ? parts : nil
  }
}

extension MatrixLayout {
  /// Elements between inner steps and between columns; what is in blocks is read along a column, as a transposed matrix is.
  fileprivate func strides(inner: Int, columns: Int) -> (inner: Int, column: Int) {
    switch self {
    case .rowMajor, .packed: (columns, 1)
    case .transposed, .blocks, .int8Blocks: (1, inner)
    }
  }
}
