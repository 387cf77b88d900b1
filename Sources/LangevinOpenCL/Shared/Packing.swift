import LangevinTensor

// All that this room knows of packed weights. Processors have them in panels of 32 columns, [panels, rows, 32] with zeros
// past the last column, which `panels.cl` reads in sequence; graphics cards stage tiles from plain rows.

extension OpenCLBackend {
  /// Panels are filled up with zeros.
  public func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? {
    let width = kernels.panelWidth ?? 1
    return (shape.columns + width - 1) / width * width * shape.rows * dtype.byteCount
  }

  /// Puts the packing on the queue. Throws `TensorError`.
  public func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    let spec = TensorSpec([shape.rows, shape.columns], source.dtype)
    let storage = try pool.allocate(packedByteCount(shape, source.dtype) ?? spec.byteCount)
    let packed = TensorView(storage: storage, offset: 0, spec: spec)
    try guarded("pack", requested: storage.byteCount) { [kernels] queue in
      queue.begin(nil, [source], packed)
      try kernels.arrange(source, to: packed, Arrangement(shape, width: kernels.panelWidth), on: &queue)
    }
    return packed
  }

  /// Puts the unpacking on the queue. Throws `TensorError`.
  public func unpack(_ weight: TensorView, into output: TensorView) throws {
    try guarded("unpack", requested: output.spec.byteCount) { [kernels] queue in
      queue.begin(nil, [weight], output)
      try kernels.unpack(weight, into: output, on: &queue)
    }
  }
}

extension ProcessorKernels {
  /// Width of a panel of `panels.cl`.
  static let panelWidth = 32

  var panelWidth: Int? { ProcessorKernels.panelWidth }

  /// Panels of a product's right operand.
  static func panels(_ size: ProductSize) -> Int { (size.columns + panelWidth - 1) / panelWidth }

  /// Bytes of one of them in float32.
  static func panelBytes(_ size: ProductSize) -> Int { max(1, size.inner * panelWidth * 4) }

  /// Hands the right operand of a product over in panels, as a view that begins with those of a range. All at once;
  /// but what is in blocks becomes float32 whatever the left operand is, some panels at a time and always in the same
  /// memory, which the caches still have when they are read. So the weight is read once, and as blocks.
  func eachPart(
    of b: TensorView, _ layout: MatrixLayout, _ size: ProductSize, taps: Int, on queue: inout LaunchQueue,
    _ body: (TensorView, Range<Int>, inout LaunchQueue) throws -> Void
  ) throws {
    let (panels, width) = (ProcessorKernels.panels(size), ProcessorKernels.panelWidth)
    guard let encoding = layout.encoding else {
      return try body(try self.panels(b, layout, size, on: &queue), 0..<panels, &queue)
    }
    // 2 MiB for each core, and a panel for each at least; as even as they come.
    let units = max(1, device.computeUnits)
    let most = units * max(1, (2 << 20) / ProcessorKernels.panelBytes(size))
    let spans = max(1, (panels + most - 1) / most)
    let span = max(1, (panels + spans - 1) / spans)
    let decoded = try queue.temporary(TensorSpec([span, size.inner, width]))
    for first in stride(from: 0, to: panels, by: span) {
      let part = first..<min(first + span, panels)
      try queue.launch(
        DequantizePanelsKernel(
          x: b, y: decoded, channels: size.inner / taps, taps: taps, columns: size.columns,
          begin: part.lowerBound * width),
        .dequantize(encoding, chunk: work.castChunk), global: [(size.inner + 15) / 16, part.count],
        local: [1, 1])
      try body(decoded, part, &queue)
    }
  }

  /// The right operand of a product in panels: as it is, or packed into a temporary.
  func panels(
    _ b: TensorView, _ layout: MatrixLayout, _ size: ProductSize, on queue: inout LaunchQueue
  ) throws -> TensorView {
    if layout == .packed { return b }
    let (rows, columns, width) = (size.inner, size.columns, ProcessorKernels.panelWidth)
    let panels = (columns + width - 1) / width
    let packed = try queue.temporary(TensorSpec([size.batch, panels, rows, width], b.dtype))
    let isTransposed = layout == .transposed
    let arrangement = Arrangement(
      channels: rows, rows: rows, paddedRows: rows, columns: columns, width: width,
      channelStride: isTransposed ? 1 : columns, columnStride: isTransposed ? rows : 1, batch: size.batch,
      outerStride: rows * columns)
    try arrange(b, to: packed, arrangement, on: &queue)
    return packed
  }

  func unpack(_ weight: TensorView, into output: TensorView, on queue: inout LaunchQueue) throws {
    let (rows, columns, width) = (weight.shape[0], weight.shape[1], ProcessorKernels.panelWidth)
    let panels = (columns + width - 1) / width
    let packed = TensorView(
      storage: weight.storage, offset: weight.offset, spec: TensorSpec([panels, rows, width], weight.dtype))
    let wide = try queue.temporary(TensorSpec([rows, panels, width], weight.dtype))
    try transpose([1, 0, 2], packed, wide, on: &queue)
    let flat = TensorView(
      storage: wide.storage, offset: 0, spec: TensorSpec([rows, panels * width], weight.dtype))
    try slice(Slice(starts: [0, 0], sizes: [rows, columns]), flat, output, on: &queue)
  }
}

extension GraphicsKernels {
  var panelWidth: Int? { nil }

  func unpack(_ weight: TensorView, into output: TensorView, on queue: inout LaunchQueue) throws {
    try queue.copy(weight, to: output)
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

extension Arrangement {
  /// A weight from [columns, channels, taps]; without a width all columns are one panel, which is plain rows.
  init(_ weight: WeightShape, width: Int?) {
    self.init(
      channels: weight.channels, rows: weight.rows, paddedRows: weight.rows, columns: weight.columns,
      width: width ?? weight.columns, tapStride: 1, channelStride: weight.taps, columnStride: weight.rows)
  }
}

extension KernelSet {
  /// Blocks have at least 32 numbers, so that a chunk of 16 is always whole.
  func dequantize(
    _ encoding: BlockEncoding, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let chunk = max(16, work.castChunk)
    try queue.launch(
      DequantizeKernel(x: x, y: y, count: y.shape.count), .dequantize(encoding, chunk: chunk),
      global: [(y.shape.count + chunk - 1) / chunk], local: work.local(rank: 1))
  }

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
}
