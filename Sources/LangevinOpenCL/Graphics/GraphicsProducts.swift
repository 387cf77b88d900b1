import LangevinTensor

/// Matrix products and convolutions by `tiled.cl`.
extension GraphicsKernels {
  func matmul(_ matmul: MatMul, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let size = ProductSize(matmul, left: x[0].shape, right: x[1].shape, output: y.shape)
    let (rows, inner, columns) = (size.rows, size.inner, size.columns)
    let (aRow, aInner) = matmul.transposeLeft ? (1, rows) : (inner, 1)
    let (wInner, wColumn) = matmul.right == .transposed ? (1, inner) : (columns, 1)
    let w = try strided(x[1], matmul.right, columns: columns, on: &queue)
    let kernel = TiledProductKernel(
      a: x[0], w: w, y: y,
      epilogue: EpilogueArguments(matmul.epilogue, x), scale: matmul.scale, rows: rows, columns: columns,
      inner: inner, aRow: aRow, aInner: aInner, wInner: wInner, wColumn: wColumn, aBatch: rows * inner,
      wBatch: inner * columns, yBatch: rows * columns)
    let key = TuningKey.product(.gpu, x[0].dtype, rows: rows, columns: columns, inner: inner)
    try launch(kernel, batch: size.batch, key: key, on: &queue)
  }

  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let size = ProductSize(conv, input: x[0].shape, output: y.shape)
    let geometry = ConvolutionGeometry(conv, input: x[0].shape, output: y.shape)
    let (rows, inner, columns) = (size.rows, size.inner, size.columns)
    let (wInner, wColumn) = conv.weight == .transposed ? (1, inner) : (columns, 1)
    let w = try strided(x[1], conv.weight, columns: columns, on: &queue)
    let kernel = TiledProductKernel(
      a: x[0], w: w, y: y,
      epilogue: EpilogueArguments(conv.epilogue, x), scale: 1, rows: rows, columns: columns, inner: inner,
      aRow: inner, aInner: 1, wInner: wInner, wColumn: wColumn, aBatch: rows * inner, wBatch: inner * columns,
      yBatch: rows * columns, convolution: conv.isPointwise ? nil : geometry)
    try launch(kernel, batch: 1, key: .convolution(.gpu, x[0].dtype, conv, size, geometry), on: &queue)
  }

  private func launch(
    _ kernel: TiledProductKernel, batch: Int, key: TuningKey, on queue: inout LaunchQueue
  ) throws {
    let parameters = queue.tuning.parameters(key)
    guard case .tiled(let tile) = parameters else {
      throw OpenCLError.foreignParameters(key: "\(key)", parameters: "\(parameters)")
    }
    try queue.launch(
      kernel, .tiled(kernel.a.dtype, isConvolution: kernel.convolution != nil, tile),
      global: [
        (kernel.columns + tile.tileColumns - 1) / tile.tileColumns * tile.itemsX,
        (kernel.rows + tile.tileRows - 1) / tile.tileRows * tile.itemsY, batch,
      ], local: [tile.itemsX, tile.itemsY, 1])
  }
}
