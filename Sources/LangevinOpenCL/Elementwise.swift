import COpenCL
import LangevinKernels
import LangevinTensor

/// Operations that treat every element alike.
extension OpenCLBackend {
  /// Vector width, elements a work-item and work-group size over contiguous elements.
  private var spread: (vector: Int, chunk: Int, local: Int) {
    family == .cpu ? (16, 4096, 1) : (4, 4, min(256, context.description.maxWorkGroupSize))
  }

  /// A launch over `count` contiguous elements.
  private func elementwise(
    _ kernel: String, _ dtype: DType, count: Int, _ arguments: [Argument]
  ) throws {
    let spread = spread
    try launch(
      Launch(
        kernel, .elementwise, ["T": dtype.kernelName, "VW": spread.vector, "CHUNK": spread.chunk],
        global: [(count + spread.chunk - 1) / spread.chunk], local: [spread.local], arguments))
  }

  func map(_ function: Unary, _ x: TensorView, _ y: TensorView) throws {
    try elementwise(
      "map", x.dtype, count: y.shape.count,
      [.operand(x), .operand(y), .ulong(y.shape.count), .int(function.kernelIndex)])
  }

  func affine(_ x: TensorView, _ y: TensorView, scale: Float, offset: Float) throws {
    try elementwise(
      "affine", x.dtype, count: y.shape.count,
      [.operand(x), .operand(y), .ulong(y.shape.count), .float(scale), .float(offset)])
  }

  func clamp(_ x: TensorView, _ y: TensorView, lower: Float, upper: Float) throws {
    try elementwise(
      "clamp_range", x.dtype, count: y.shape.count,
      [.operand(x), .operand(y), .ulong(y.shape.count), .float(lower), .float(upper)])
  }

  func binary(_ function: Binary, _ a: TensorView, _ b: TensorView, _ y: TensorView) throws {
    let count = y.shape.count
    if a.shape.count == count, b.shape.count == count {
      try elementwise(
        "binary", y.dtype, count: count,
        [.operand(a), .operand(b), .operand(y), .ulong(count), .int(function.kernelIndex)])
      return
    }
    let walk = Walk(
      y.shape.dimensions, stretchedStrides(a.shape, to: y.shape), stretchedStrides(b.shape, to: y.shape))
    var arguments: [Argument] = [
      .operand(a), .operand(b), .operand(y), .ulong(count), .int(function.kernelIndex),
    ]
    arguments.append(ints: Array(walk.extents.dropFirst()))
    arguments.append(ulongs: walk.first + walk.second)
    try elementwise("binary_strided", y.dtype, count: count, arguments)
  }

  func linearCombination(_ coefficients: [Float], _ x: [TensorView], _ y: TensorView) throws {
    let terms = (0..<8).flatMap { index -> [Argument] in
      index < x.count ? [.operand(x[index]), .float(coefficients[index])] : [.none, .float(0)]
    }
    try elementwise(
      "linear_combination", y.dtype, count: y.shape.count,
      [.operand(y), .ulong(y.shape.count), .int(x.count)] + terms)
  }

  func geglu(_ x: TensorView, _ y: TensorView) throws {
    let width = y.shape[-1]
    let rows = y.shape.count / width
    let spread = spread
    let chunks = (width + spread.chunk - 1) / spread.chunk
    try launch(
      Launch(
        "geglu", .elementwise, ["T": x.dtype.kernelName, "VW": spread.vector, "CHUNK": spread.chunk],
        global: [rows * chunks], local: [spread.local],
        [.operand(x), .operand(y), .ulong(rows), .ulong(width), .ulong(chunks)]))
  }

  func rotary(_ rotary: Rotary, _ x: [TensorView], _ y: TensorView) throws {
    let (rows, pairs, vector) = (y.shape[0] * y.shape[1], x[1].shape[1], spread.vector)
    let vectors = rows * rotary.heads * ((pairs + vector - 1) / vector)
    try elementwise(
      "rotary", y.dtype, count: vectors * vector,
      x.map { .operand($0) } + [
        .operand(y), .ulong(rows), .ulong(y.shape[1]), .int(rotary.heads), .int(pairs),
        .int(rotary.pairs == .interleaved ? 1 : 0),
      ])
  }

  func fill(_ value: Float, _ spec: TensorSpec, _ y: TensorView) throws {
    guard spec.dtype == .int32 else {
      return try elementwise(
        "fill", spec.dtype, count: spec.shape.count, [.operand(y), .ulong(spec.shape.count), .float(value)])
    }
    let floats = try temporary(TensorSpec(spec.shape))
    try fill(value, floats.spec, floats)
    try cast(floats, y, to: .int32)
  }

  func cast(_ x: TensorView, _ y: TensorView, to dtype: DType) throws {
    let count = y.shape.count
    if x.dtype == dtype { return try copy(x, y) }
    let isWide = x.dtype.isFloatingPoint && dtype.isFloatingPoint
    let spread = spread
    try launch(
      Launch(
        "cast", .cast,
        [
          "T": x.dtype.kernelName, "TARGET": dtype.kernelName, "CHUNK": family == .cpu ? 4096 : 1,
          "WIDE": isWide ? 1 : 0,
        ],
        global: [(count + (family == .cpu ? 4095 : 0)) / (family == .cpu ? 4096 : 1)], local: [spread.local],
        [.operand(x), .operand(y), .ulong(count)]))
  }

  func nonFiniteCount(_ x: TensorView, _ y: TensorView) throws {
    try clear(y)
    try elementwise(
      "non_finite_count", x.dtype, count: x.shape.count, [.operand(x), .operand(y), .ulong(x.shape.count)])
  }

  /// Fills a few bytes with zeros; some drivers fail with more.
  private func clear(_ y: TensorView) throws {
    guard selection == nil else { return }
    try recorded("clear", y.dtype.rawValue, since: recorder == nil ? 0 : HostClock.now) { event in
      var zero: UInt32 = 0
      try check(
        clEnqueueFillBuffer(
          context.queue, memory(of: y.storage), &zero, 4, y.byteOffset, y.spec.byteCount, 0, nil, event),
        "clEnqueueFillBuffer")
    }
  }

  func normalNoise(_ noise: NormalNoise, _ y: TensorView) throws {
    try launch(
      Launch(
        "normal_noise", .noise, [:], global: [(y.shape.count + 3) / 4], local: [1],
        [
          .operand(y), .ulong(y.shape.count), .uint(UInt32(truncatingIfNeeded: noise.seed)),
          .uint(UInt32(truncatingIfNeeded: noise.seed >> 32)), .uint(noise.stream), .uint(noise.step),
        ]))
  }
}

extension Unary {
  /// The number of `unary` in elementwise.cl.
  fileprivate var kernelIndex: Int {
    switch self {
    case .silu: 0
    case .gelu: 1
    case .geluTanh: 2
    case .quickGelu: 3
    case .sigmoid: 4
    case .tanh: 5
    case .exp: 6
    case .log: 7
    case .sqrt: 8
    case .rsqrt: 9
    case .sin: 10
    case .cos: 11
    case .square: 12
    case .abs: 13
    case .negate: 14
    case .reciprocal: 15
    }
  }
}

extension Binary {
  /// The number of `binary_of` in elementwise.cl.
  fileprivate var kernelIndex: Int {
    switch self {
    case .add: 0
    case .subtract: 1
    case .multiply: 2
    case .divide: 3
    case .minimum: 4
    case .maximum: 5
    }
  }
}
