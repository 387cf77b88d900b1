import LangevinTensor

/// Operations that treat every element alike.
extension KernelSet {
  private func program(_ dtype: DType) -> Program {
    .elementwise(dtype, vector: work.vector, chunk: work.chunk)
  }

  /// A launch over `count` contiguous elements.
  private func elementwise(
    _ kernel: some Kernel, _ dtype: DType, count: Int, on queue: inout LaunchQueue
  ) throws {
    try queue.launch(
      kernel, program(dtype), global: [(count + work.chunk - 1) / work.chunk], local: [work.group])
  }

  func map(_ function: Unary, _ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let count = y.shape.count
    let kernel = MapKernel(x: x, y: y, count: count, function: function.kernelIndex)
    try elementwise(kernel, x.dtype, count: count, on: &queue)
  }

  func affine(
    _ x: TensorView, _ y: TensorView, scale: Float, offset: Float, on queue: inout LaunchQueue
  ) throws {
    let count = y.shape.count
    let kernel = AffineKernel(x: x, y: y, count: count, scale: scale, offset: offset)
    try elementwise(kernel, x.dtype, count: count, on: &queue)
  }

  func clamp(
    _ x: TensorView, _ y: TensorView, lower: Float, upper: Float, on queue: inout LaunchQueue
  ) throws {
    let count = y.shape.count
    let kernel = ClampKernel(x: x, y: y, count: count, lower: lower, upper: upper)
    try elementwise(kernel, x.dtype, count: count, on: &queue)
  }

  func binary(
    _ function: Binary, _ a: TensorView, _ b: TensorView, _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let count = y.shape.count
    if a.shape.count == count, b.shape.count == count {
      let kernel = BinaryKernel(a: a, b: b, y: y, count: count, function: function.kernelIndex)
      return try elementwise(kernel, y.dtype, count: count, on: &queue)
    }
    let walk = Walk(
      y.shape.dimensions, a.shape.broadcastStrides(to: y.shape), b.shape.broadcastStrides(to: y.shape))
    let kernel = StridedBinaryKernel(
      a: a, b: b, y: y, count: count, function: function.kernelIndex, walk: walk)
    try elementwise(kernel, y.dtype, count: count, on: &queue)
  }

  func linearCombination(
    _ coefficients: [Float], _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue
  ) throws {
    let count = y.shape.count
    let kernel = LinearCombinationKernel(y: y, count: count, x: x, coefficients: coefficients)
    try elementwise(kernel, y.dtype, count: count, on: &queue)
  }

  func geglu(_ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let width = y.shape[-1]
    let rows = y.shape.count / width
    let chunks = (width + work.chunk - 1) / work.chunk
    try queue.launch(
      GEGLUKernel(x: x, y: y, rows: rows, width: width, chunks: chunks), program(x.dtype),
      global: [rows * chunks], local: [work.group])
  }

  func rotary(_ rotary: Rotary, _ x: [TensorView], _ y: TensorView, on queue: inout LaunchQueue) throws {
    let (rows, pairs) = (y.shape[0] * y.shape[1], x[1].shape[1])
    let vectors = rows * rotary.heads * ((pairs + work.vector - 1) / work.vector)
    let kernel = RotaryKernel(
      x: x[0], cosines: x[1], sines: x[2], y: y, rows: rows, tokens: y.shape[1], heads: rotary.heads,
      pairs: pairs, interleaved: rotary.pairs == .interleaved)
    try elementwise(kernel, y.dtype, count: vectors * work.vector, on: &queue)
  }

  func fill(_ value: Float, _ spec: TensorSpec, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let count = spec.shape.count
    guard spec.dtype == .int32 else {
      let kernel = FillKernel(y: y, count: count, value: value)
      return try elementwise(kernel, spec.dtype, count: count, on: &queue)
    }
    let floats = try queue.temporary(TensorSpec(spec.shape))
    try fill(value, floats.spec, floats, on: &queue)
    try cast(floats, y, to: .int32, on: &queue)
  }

  func cast(_ x: TensorView, _ y: TensorView, to dtype: DType, on queue: inout LaunchQueue) throws {
    if x.dtype == dtype { return try queue.copy(x, to: y) }
    let (count, chunk) = (y.shape.count, work.castChunk)
    try queue.launch(
      CastKernel(x: x, y: y, count: count), .cast(x.dtype, to: dtype, chunk: chunk),
      global: [(count + chunk - 1) / chunk], local: [work.group])
  }

  func nonFiniteCount(_ x: TensorView, _ y: TensorView, on queue: inout LaunchQueue) throws {
    try queue.clear(y)
    let count = x.shape.count
    let kernel = NonFiniteCountKernel(x: x, found: y, count: count)
    try elementwise(kernel, x.dtype, count: count, on: &queue)
  }

  func normalNoise(_ noise: NormalNoise, _ y: TensorView, on queue: inout LaunchQueue) throws {
    let count = y.shape.count
    try queue.launch(
      NormalNoiseKernel(y: y, count: count, noise: noise), .noise, global: [(count + 3) / 4], local: [1])
  }
}

extension Unary {
  /// The number of `unary` in elementwise.cl.
  var kernelIndex: Int {
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
    case .less: 6
    case .equal: 7
    }
  }
}
