import LangevinTensor

extension Operation {
  /// Whether `int8_product.cl` computes it: the left operand's rows lie in memory one after another.
  var isInt8Product: Bool {
    switch self {
    case .matmul(let matmul): matmul.right == .int8Blocks
    case .conv2d(let conv): conv.weight == .int8Blocks && conv.isPointwise
    default: false
    }
  }
}

/// Tiles of `int8_product.cl`. They change no bits.
struct Int8Tile: Sendable, Hashable {
  /// Rows of a tile in registers.
  let tileRows = 4
  /// Rows of a work-item.
  let itemRows = 64
  /// KiB of weights that serve all rows before the next ones do.
  let groupKiB = 768
}

/// Products of int8: both operands are brought into bytes first, in memory of the queue's.
extension ProcessorKernels {
  /// `imageRows`: rows that share what is added for an image.
  func int8Product(
    _ a: TensorView, _ words: TensorView, _ y: TensorView, _ size: ProductSize, _ epilogue: EpilogueArguments,
    scale: Float, imageRows: Int, on queue: inout LaunchQueue
  ) throws {
    let (panels, width, tile) = (ProcessorKernels.panels(size), ProcessorKernels.panelWidth, Int8Tile())
    let blocks = size.inner / Int8Rounding.count
    let program = Program.int8Product(a.dtype, queue.byteProducts(), tile)
    let steps = try queue.scratch(size.rows * size.inner)
    let rowBlocks = try queue.scratch(size.rows * blocks * 8)
    let w = try queue.scratch(panels * size.inner * width)
    let scales = try queue.scratch(panels * blocks * width * 4)
    // A work-item of the kernel rounds 64 blocks.
    try queue.launch(
      Int8RowsKernel(x: a, steps: steps, blocks: rowBlocks, count: size.rows * blocks), program,
      global: [(size.rows * blocks + 63) / 64], local: [1])
    try queue.launch(
      Int8PanelsKernel(x: words, w: w, scales: scales, inner: size.inner, columns: size.columns), program,
      global: [blocks, panels], local: [1, 1])
    let group = max(1, min(panels, (tile.groupKiB << 10) / (size.inner * width)))
    try queue.launch(
      Int8ProductKernel(
        steps: steps, blocks: rowBlocks, w: w, scales: scales, y: y, epilogue: epilogue, scale: scale,
        rows: size.rows, columns: size.columns, inner: size.inner, imageRows: imageRows), program,
      global: [group, (size.rows + tile.itemRows - 1) / tile.itemRows, (panels + group - 1) / group],
      local: [1, 1, 1])
  }
}
