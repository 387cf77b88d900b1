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
    try launch(kernel, matmul.right.encoding, batch: size.batch, key: key, on: &queue)
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
      kernel, conv.weight.encoding, batch: 1,
      key: .convolution(.gpu, pixels.dtype, conv, size, geometry), on: &queue)
  }

  private func launch(
    _ kernel: TiledProductKernel, _ blocks: BlockEncoding?, batch: Int, key: TuningKey,
    on queue: inout LaunchQueue
  ) throws {
    let parameters = queue.tuning.parameters(key)
    guard case .tiled(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    try queue.launch(
      kernel,
      .tiled(kernel.a.dtype, blocks: blocks, isConvolution: kernel.convolution != nil, tile),
      global: [
        (kernel.columns + tile.tileColumns - 1) / tile.tileColumns * tile.itemsX,
        (kernel.rows + tile.tileRows - 1) / tile.tileRows * tile.itemsY, batch,
      ], local: [tile.itemsX, tile.itemsY, 1])
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
