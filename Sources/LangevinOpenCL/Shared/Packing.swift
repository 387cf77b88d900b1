import LangevinTensor

// All that this room knows of packed weights. Processors have them in panels of 32 columns, [panels, rows, 32] with zeros
// past the last column, which `panels.cl` reads in sequence; graphics cards stage tiles from plain rows. Where the
// processor multiplies bfloat16 in pairs, an even number of rows lies in pairs: [panels, rows / 2, 32, 2].

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
      try kernels.pack(source, to: packed, shape, on: &queue)
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

  /// Whether a right operand's rows lie in pairs.
  private func isInPairs(_ dtype: DType, rows: Int, _ queue: inout LaunchQueue) -> Bool {
    dtype == .bfloat16 && rows % 2 == 0 && queue.pairProducts() != .none
  }

  /// How a product is computed: no pair may have a number beyond its tap's channels.
  func pairProducts(
    _ dtype: DType, _ layout: MatrixLayout, channels: Int, _ queue: inout LaunchQueue
  ) -> DotForm {
    let isPlain = layout.encoding == nil
    return isPlain && isInPairs(dtype, rows: channels, &queue) ? queue.pairProducts() : .none
  }

  func pack(
    _ source: TensorView, to packed: TensorView, _ shape: WeightShape, on queue: inout LaunchQueue
  ) throws {
    var arrangement = Arrangement(shape, width: panelWidth)
    arrangement.isInPairs = isInPairs(packed.dtype, rows: shape.rows, &queue)
    try arrange(source, to: packed, arrangement, on: &queue)
  }

  /// Hands the right operand of a product over in panels, as a view that begins with those of a range. All at once;
  /// but what is in blocks becomes float32 whatever the left operand is, some panels at a time and always in the same
  /// memory, which the caches still have when they are read. So the weight is read once, and as blocks.
  func eachPart(
    of b: TensorView, _ layout: MatrixLayout, _ size: ProductSize, taps: Int,
    pairs: DotForm = .none, on queue: inout LaunchQueue,
    _ body: (TensorView, Range<Int>, inout LaunchQueue) throws -> Void
  ) throws {
    let (panels, width) = (ProcessorKernels.panels(size), ProcessorKernels.panelWidth)
    guard let encoding = layout.encoding else {
      let all = try self.panels(b, layout, size, inPairs: pairs != .none, on: &queue)
      return try body(all, 0..<panels, &queue)
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
  private func panels(
    _ b: TensorView, _ layout: MatrixLayout, _ size: ProductSize, inPairs: Bool,
    on queue: inout LaunchQueue
  ) throws -> TensorView {
    let (rows, columns, width) = (size.inner, size.columns, ProcessorKernels.panelWidth)
    let panels = (columns + width - 1) / width
    if layout == .packed {
      guard !inPairs, isInPairs(b.dtype, rows: rows, &queue) else { return b }
      // Taps of an odd number of channels, in which pairs of rows do not end.
      let apart = try queue.temporary(TensorSpec([panels * rows / 2, 2, width], b.dtype))
      let stored = TensorSpec([panels * rows / 2, width, 2], b.dtype)
      try transpose(
        [0, 2, 1], TensorView(storage: b.storage, offset: b.offset, spec: stored), apart, on: &queue)
      return apart
    }
    let packed = try queue.temporary(TensorSpec([size.batch, panels, rows, width], b.dtype))
    let isTransposed = layout == .transposed
    let arrangement = Arrangement(
      channels: rows, rows: rows, paddedRows: rows, isInPairs: inPairs, columns: columns, width: width,
      channelStride: isTransposed ? 1 : columns, columnStride: isTransposed ? rows : 1, batch: size.batch,
      outerStride: rows * columns)
    try arrange(b, to: packed, arrangement, on: &queue)
    return packed
  }

  func unpack(_ weight: TensorView, into output: TensorView, on queue: inout LaunchQueue) throws {
    let (rows, columns, width) = (weight.shape[0], weight.shape[1], ProcessorKernels.panelWidth)
    let panels = (columns + width - 1) / width
    func packed(_ shape: Shape) -> TensorView {
      TensorView(storage: weight.storage, offset: weight.offset, spec: TensorSpec(shape, weight.dtype))
    }
    let wide = try queue.temporary(TensorSpec([rows, panels, width], weight.dtype))
    if isInPairs(weight.dtype, rows: rows, &queue) {
      let halves = TensorView(
        storage: wide.storage, offset: 0, spec: TensorSpec([rows / 2, 2, panels, width], weight.dtype))
      try transpose([1, 3, 0, 2], packed([panels, rows / 2, width, 2]), halves, on: &queue)
    } else {
      try transpose([1, 0, 2], packed([panels, rows, width]), wide, on: &queue)
    }
    let flat = TensorView(
      storage: wide.storage, offset: 0, spec: TensorSpec([rows, panels * width], weight.dtype))
    try slice(Slice(starts: [0, 0], sizes: [rows, columns]), flat, output, on: &queue)
  }
}

extension GraphicsKernels {
  var panelWidth: Int? { nil }

  func pack(
    _ source: TensorView, to packed: TensorView, _ shape: WeightShape, on queue: inout LaunchQueue
  ) throws {
    try arrange(source, to: packed, Arrangement(shape, width: nil), on: &queue)
  }

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
  /// Whether two rows of the result share words.
  var isInPairs = false
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
      ArrangeKernel(x: x, y: y, arrangement: a),
      .arrange(x.dtype, to: y.dtype, inPairs: a.isInPairs, rows: work.packRows),
      global: [
        (a.paddedRows + work.packRows - 1) / work.packRows, (a.columns + a.width - 1) / a.width, a.batch,
      ],
      local: work.local(rank: 3))
  }
}
