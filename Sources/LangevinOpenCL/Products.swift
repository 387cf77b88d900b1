import LangevinKernels
import LangevinTensor

/// Matrix products and convolutions.
extension OpenCLBackend {
  /// Width of a panel of `panels.cl`.
  static let panelWidth = 32

  /// Operands of an epilogue in the kernels' order, absent ones as `none`.
  private func epilogue(_ epilogue: Epilogue, _ x: [TensorView]) -> [Argument] {
    let extras = (epilogue.bias ? 1 : 0) + (epilogue.perImage ? 2 : 0) + (epilogue.residual ? 4 : 0)
    var next = 2
    func take(_ present: Bool) -> Argument {
      guard present else { return .none }
      defer { next += 1 }
      return .operand(x[next])
    }
    return [
      take(epilogue.bias), take(epilogue.perImage), take(epilogue.residual), .int(extras),
      .int(epilogue.activation.kernelIndex),
    ]
  }

  func matmul(_ matmul: MatMul, _ x: [TensorView], _ y: TensorView) throws {
    let (a, b) = (x[0], x[1])
    let size = ProductSize(matmul, left: a.shape, right: b.shape, output: y.shape)
    let (columns, inner) = (size.columns, size.inner)
    let product = Product(
      rows: size.rows, columns: columns, inner: inner, batch: size.batch, scale: matmul.scale)
    let extras = epilogue(matmul.epilogue, x)
    switch family {
    case .cpu:
      var left = a
      if matmul.transposeLeft {
        let rank = a.shape.rank
        let permutation = Array(0..<(rank - 2)) + [rank - 1, rank - 2]
        left = try temporary(TensorSpec(Shape(permutation.map { a.shape[$0] }), a.dtype))
        try transpose(permutation, a, left)
      }
      let right = try panels(b, matmul.right, rows: inner, columns: columns, batch: product.batch)
      try launch(panelProduct(product, left, right, y, extras, aStride: inner, conv: nil))
    case .gpu:
      try launch(
        tiledProduct(product, a, b, y, extras, transposeLeft: matmul.transposeLeft, right: matmul.right))
    }
  }

  func conv2d(_ conv: Conv2D, _ x: [TensorView], _ y: TensorView) throws {
    let input = x[0].shape
    let taps = conv.kernel.height * conv.kernel.width
    let product = Product(
      rows: y.shape[0] * y.shape[1] * y.shape[2], columns: y.shape[3], inner: taps * input[3], batch: 1,
      scale: 1)
    let extras = epilogue(conv.epilogue, x)
    let isPointwise = conv.isPointwise
    let geometry = Geometry(input: input, output: y.shape, conv: conv)
    switch family {
    case .cpu:
      let right = try panels(x[1], conv.weight, rows: product.inner, columns: product.columns, batch: 1)
      try launch(
        panelProduct(product, x[0], right, y, extras, aStride: input[3], conv: isPointwise ? nil : geometry))
    case .gpu:
      try launch(
        tiledProduct(
          product, x[0], x[1], y, extras, transposeLeft: false, right: conv.weight,
          conv: isPointwise ? nil : geometry))
    }
  }

  private struct Product {
    var rows, columns, inner, batch: Int
    var scale: Float
  }

  private struct Geometry {
    var input, output: Shape
    var conv: Conv2D
  }

  private func key(_ product: Product, _ dtype: DType, _ conv: Geometry?) -> TuningKey {
    guard let conv else {
      return .product(
        family, dtype, rows: product.rows, columns: product.columns, inner: product.inner)
    }
    return .convolution(
      family, dtype, rows: product.rows, columns: product.columns, channels: conv.input[3],
      taps: conv.conv.kernel.height * conv.conv.kernel.width)
  }

  private func panelProduct(
    _ product: Product, _ a: TensorView, _ w: TensorView, _ y: TensorView, _ extras: [Argument], aStride: Int,
    conv: Geometry?
  ) throws -> Launch {
    let channels = conv.map { $0.input[3] } ?? product.inner
    guard case .panels(let parameters) = tuning.parameters(key(product, a.dtype, conv)) else {
      preconditionFailure("parameters of another kernel")
    }
    let rowsPerItem = parameters.itemRows
    let panels = (product.columns + OpenCLBackend.panelWidth - 1) / OpenCLBackend.panelWidth
    let panelBytes = max(1, product.inner * OpenCLBackend.panelWidth * 4)
    let group = max(1, min(panels, (parameters.groupKiB << 10) / panelBytes))
    let zeros = try zeros(channels)
    var arguments: [Argument] = [.operand(a), .operand(w), .operand(y)] + extras
    arguments += [
      .scratch(zeros), .ulong(0), .float(product.scale), .int(product.batch), .int(product.rows),
      .int(product.columns),
      .int(channels),
      .ulong(aStride), .ulong(product.rows * product.inner),
      .ulong(panels * product.inner * OpenCLBackend.panelWidth), .ulong(product.rows * product.columns),
    ]
    if let conv {
      arguments.append(ints: [
        conv.input[1], conv.input[2], conv.output[1], conv.output[2], conv.conv.kernel.height,
        conv.conv.kernel.width, conv.conv.stride, conv.conv.padding.top, conv.conv.padding.left,
      ])
    }
    return Launch(
      "product", .panels,
      [
        "T": a.dtype.kernelName, "CONV": conv == nil ? 0 : 1, "VW": 16, "MR": parameters.tileRows,
        "MV": parameters.tileVectors, "MB": rowsPerItem, "KC": parameters.innerBlock,
      ],
      global: [
        group, (product.rows + rowsPerItem - 1) / rowsPerItem, (panels + group - 1) / group * product.batch,
      ],
      local: [1, 1, 1],
      arguments)
  }

  private func tiledProduct(
    _ product: Product, _ a: TensorView, _ w: TensorView, _ y: TensorView, _ extras: [Argument],
    transposeLeft: Bool, right: MatrixLayout, conv: Geometry? = nil
  ) throws -> Launch {
    var weight = w
    if case .panels = right {
      // Panels reach a GPU only when a caller packed for another device; put the rows back first.
      weight = try rows(fromPanels: w, columns: product.columns)
    }
    let wStrides = right == .transposed ? (1, product.inner) : (product.columns, 1)
    let aStrides = transposeLeft ? (1, product.rows) : (product.inner, 1)
    var arguments: [Argument] = [.operand(a), .operand(weight), .operand(y)] + extras
    arguments += [.float(product.scale), .int(product.rows), .int(product.columns), .int(product.inner)]
    arguments.append(ulongs: [
      aStrides.0, aStrides.1, wStrides.0, wStrides.1, product.rows * product.inner,
      product.inner * product.columns,
      product.rows * product.columns,
    ])
    if let conv {
      arguments.append(ints: [
        conv.input[3], conv.input[1], conv.input[2], conv.output[1], conv.output[2], conv.conv.kernel.width,
        conv.conv.stride, conv.conv.padding.top, conv.conv.padding.left,
      ])
    }
    guard case .tiled(let parameters) = tuning.parameters(key(product, a.dtype, conv)) else {
      preconditionFailure("parameters of another kernel")
    }
    let (tileRows, tileColumns) = (parameters.tileRows, parameters.tileColumns)
    return Launch(
      "product", .tiled,
      [
        "T": a.dtype.kernelName, "CONV": conv == nil ? 0 : 1, "VW": 4, "TX": parameters.itemsX,
        "TY": parameters.itemsY, "TM": tileRows, "TN": tileColumns, "TK": parameters.tileInner,
      ],
      global: [
        (product.columns + tileColumns - 1) / tileColumns * parameters.itemsX,
        (product.rows + tileRows - 1) / tileRows * parameters.itemsY, product.batch,
      ],
      local: [parameters.itemsX, parameters.itemsY, 1],
      arguments)
  }

  /// The right operand in panels of this backend's width: as it is, or packed into a temporary.
  private func panels(_ b: TensorView, _ layout: MatrixLayout, rows: Int, columns: Int, batch: Int) throws
    -> TensorView
  {
    if case .panels(let width, _) = layout {
      if width == OpenCLBackend.panelWidth { return b }
      return try panels(
        try self.rows(fromPanels: b, columns: columns), .rowMajor, rows: rows, columns: columns, batch: 1)
    }
    let width = OpenCLBackend.panelWidth
    let packed = try temporary(TensorSpec([batch, (columns + width - 1) / width, rows, width], b.dtype))
    let isTransposed = layout == .transposed
    try arrange(
      b, to: packed,
      Arrangement(
        channels: rows, rows: rows, paddedRows: rows, columns: columns, width: width, tapStride: 0,
        channelStride: isTransposed ? 1 : columns, columnStride: isTransposed ? rows : 1, batch: batch,
        inner: 1,
        outerStride: rows * columns, innerStride: 0))
    return packed
  }

  /// [panels, K, width] back to [K, columns].
  private func rows(fromPanels w: TensorView, columns: Int) throws -> TensorView {
    let (panels, inner, width) = (w.shape[0], w.shape[1], w.shape[2])
    let wide = try temporary(TensorSpec([inner, panels, width], w.dtype))
    try transpose([1, 0, 2], w, wide)
    let flat = TensorView(
      storage: wide.storage, offset: 0, spec: TensorSpec([inner, panels * width], w.dtype))
    let result = try temporary(TensorSpec([inner, columns], w.dtype))
    try slice(Slice(starts: [0, 0], sizes: [inner, columns]), flat, result)
    return result
  }

  // MARK: Arranging

  struct Arrangement {
    var channels, rows, paddedRows, columns, width: Int
    var tapStride, channelStride, columnStride: Int
    var batch, inner, outerStride, innerStride: Int
  }

  func arrange(_ x: TensorView, to y: TensorView, _ a: Arrangement) throws {
    guard y.shape.count > 0 else { return }
    let rowsPerItem = family == .cpu ? 64 : 1
    try launch(
      Launch(
        "arrange", .arrange, ["T": x.dtype.kernelName, "TARGET": y.dtype.kernelName, "ROWS": rowsPerItem],
        global: [
          (a.paddedRows + rowsPerItem - 1) / rowsPerItem, (a.columns + a.width - 1) / a.width, a.batch,
        ],
        local: family == .cpu ? [1, 1, 1] : nil,
        [
          .operand(x), .operand(y), .int(max(a.channels, 1)), .int(a.rows), .int(a.paddedRows),
          .int(a.columns),
          .int(a.width), .ulong(a.tapStride), .ulong(a.channelStride), .ulong(a.columnStride), .int(a.inner),
          .ulong(a.outerStride), .ulong(a.innerStride),
        ]))
  }

  func arrangeWeight(_ w: WeightArrangement, _ x: TensorView, _ y: TensorView) throws {
    var width = w.columns
    switch w.layout {
    case .rowMajor: break
    // A column after another is a panel after another, one column wide.
    case .transposed: width = 1
    case .panels(let panelWidth, _): width = panelWidth
    }
    try arrange(
      x, to: y,
      Arrangement(
        channels: w.channels, rows: w.taps * w.channels, paddedRows: w.taps * w.channels, columns: w.columns,
        width: width, tapStride: w.tapStride, channelStride: w.channelStride, columnStride: w.columnStride,
        batch: 1,
        inner: 1, outerStride: 0, innerStride: 0))
  }

  /// Memory for the time until the launches that are queued with it have run.
  func temporary(_ spec: TensorSpec) throws -> TensorView {
    TensorView(storage: try scratch(spec.byteCount), offset: 0, spec: spec)
  }

  /// The same in bytes; as good as nothing while kernels are only listed.
  func scratch(_ byteCount: Int) throws -> OpenCLStorage {
    try pool.allocate(selection?.isListing == true ? 64 : byteCount)
  }
}

extension Activation {
  /// The prelude's number for `activate`.
  var kernelIndex: Int {
    switch self {
    case .identity: 0
    case .silu: 1
    case .gelu: 2
    case .geluTanh: 3
    case .quickGelu: 4
    }
  }
}
