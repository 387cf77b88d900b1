import LangevinTensor

// All that this room knows of packed matrices: their layouts, the way there and the way back.

extension OpenCLBackend {
  /// Width of a panel of `panels.cl`.
  static let panelWidth = 32
}

extension ProcessorKernels {
  /// What `panels.cl` reads in sequence.
  func weightLayout(columns: Int) -> MatrixLayout {
    .panels(width: OpenCLBackend.panelWidth, columns: columns)
  }

  /// The right operand in panels of this set's width: as it is, or packed into a temporary.
  func panels(
    _ b: TensorView, _ layout: MatrixLayout, rows: Int, columns: Int, batch: Int, on queue: inout LaunchQueue
  ) throws -> TensorView {
    let width = OpenCLBackend.panelWidth
    if case .panels(width, _) = layout { return b }
    if case .panels = layout {
      let matrix = try self.rows(fromPanels: b, columns: columns, on: &queue)
      return try panels(matrix, .rowMajor, rows: rows, columns: columns, batch: 1, on: &queue)
    }
    let packed = try queue.temporary(
      TensorSpec([batch, (columns + width - 1) / width, rows, width], b.dtype))
    let isTransposed = layout == .transposed
    let arrangement = Arrangement(
      channels: rows, rows: rows, paddedRows: rows, columns: columns, width: width,
      channelStride: isTransposed ? 1 : columns, columnStride: isTransposed ? rows : 1, batch: batch,
      outerStride: rows * columns)
    try arrange(b, to: packed, arrangement, on: &queue)
    return packed
  }
}

extension GraphicsKernels {
  /// Tiles are staged from rows.
  func weightLayout(columns: Int) -> MatrixLayout { .rowMajor }

  /// A right operand as strides can describe it. Panels only reach graphics cards where a caller packed for
  /// another device; their rows are put back first.
  func strided(
    _ b: TensorView, _ layout: MatrixLayout, columns: Int, on queue: inout LaunchQueue
  ) throws -> TensorView {
    guard case .panels = layout else { return b }
    return try rows(fromPanels: b, columns: columns, on: &queue)
  }
}

/// A matrix given by strides, and the form that `arrange.cl` brings it into.
struct Arrangement {
  /// Rows are taps of channels.
  var channels, rows: Int
  /// Rows of the result; those past `rows` are zeros.
  var paddedRows: Int
  /// Columns, in panels of `width`.
  var columns, width: Int
  var tapStride = 0
  var channelStride, columnStride: Int
  /// Matrices, `inner` of which lie `innerStride` apart before the next `outerStride`.
  var batch = 1
  var inner = 1
  var outerStride = 0
  var innerStride = 0
}

extension KernelSet {
  func arrange(
    _ x: TensorView, to y: TensorView, _ arrangement: Arrangement, on queue: inout LaunchQueue
  ) throws {
    guard y.shape.count > 0 else { return }
    let a = arrangement
    try queue.launch(
      ArrangeKernel(x: x, y: y, arrangement: a), .arrange(x.dtype, to: y.dtype, rows: work.packRows),
      global: [
        (a.paddedRows + work.packRows - 1) / work.packRows, (a.columns + a.width - 1) / a.width, a.batch,
      ],
      local: work.local(rank: 3))
  }

  func arrangeWeight(
    _ w: WeightArrangement, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    // A column after another is a panel after another, one column wide.
    let width =
      switch w.layout {
      case .rowMajor: w.columns
      case .transposed: 1
      case .panels(let width, _): width
      }
    let arrangement = Arrangement(
      channels: w.channels, rows: w.taps * w.channels, paddedRows: w.taps * w.channels, columns: w.columns,
      width: width, tapStride: w.tapStride, channelStride: w.channelStride, columnStride: w.columnStride)
    try arrange(x, to: y, arrangement, on: &queue)
  }

  /// [panels, K, width] back to [K, columns].
  func rows(fromPanels w: TensorView, columns: Int, on queue: inout LaunchQueue) throws -> TensorView {
    let (panels, inner, width) = (w.shape[0], w.shape[1], w.shape[2])
    let wide = try queue.temporary(TensorSpec([inner, panels, width], w.dtype))
    try transpose([1, 0, 2], w, wide, on: &queue)
    let flat = TensorView(
      storage: wide.storage, offset: 0, spec: TensorSpec([inner, panels * width], w.dtype))
    let result = try queue.temporary(TensorSpec([inner, columns], w.dtype))
    try slice(Slice(starts: [0, 0], sizes: [inner, columns]), flat, result, on: &queue)
    return result
  }
}
