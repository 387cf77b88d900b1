/// The operations as methods. Each throws `TensorError.invalidOperands` where shapes or dtypes do not fit.
extension Tensor {
  /// For layers and tests that build an `Operation` themselves; without inputs it needs a device.
  public static func apply(_ operation: Operation, _ inputs: [Tensor], on device: Device? = nil) throws
    -> Tensor
  {
    guard let device = device ?? inputs.first?.device else {
      _ = try operation.output(of: [])
      throw TensorError.invalidOperands(
        operation: operation.name, inputs: [], reason: "without inputs it needs a device")
    }
    return try device.apply(operation, inputs)
  }

  private func apply(_ operation: Operation, _ others: Tensor...) throws -> Tensor {
    try device.apply(operation, [self] + others)
  }

  // MARK: Constants

  /// A tensor of one value.
  public static func fill(_ value: Float, _ shape: Shape, dtype: DType = .float32, on device: Device) throws
    -> Tensor
  {
    try device.apply(.fill(value, TensorSpec(shape, dtype)), [])
  }

  /// Standard normal numbers; see `NormalNoise`.
  public static func normal(
    _ shape: Shape, seed: UInt64, stream: UInt32 = 0, step: UInt32 = 0, on device: Device
  ) throws -> Tensor {
    try device.apply(.normalNoise(NormalNoise(seed: seed, stream: stream, step: step, shape: shape)), [])
  }

  // MARK: Arithmetic with broadcasting

  /// The sum `a + b`, element by element.
  public static func + (a: Tensor, b: Tensor) throws -> Tensor { try a.apply(.binary(.add), b) }
  /// The difference `a - b`, element by element.
  public static func - (a: Tensor, b: Tensor) throws -> Tensor { try a.apply(.binary(.subtract), b) }
  /// `a b`, element by element.
  public static func * (a: Tensor, b: Tensor) throws -> Tensor { try a.apply(.binary(.multiply), b) }
  /// The quotient `a / b`, element by element.
  public static func / (a: Tensor, b: Tensor) throws -> Tensor { try a.apply(.binary(.divide), b) }
  /// The lesser of two; a NaN wins.
  public func minimum(_ other: Tensor) throws -> Tensor { try apply(.binary(.minimum), other) }
  /// The greater of two; a NaN wins.
  public func maximum(_ other: Tensor) throws -> Tensor { try apply(.binary(.maximum), other) }

  /// The tensor with `b` added to each element.
  public static func + (a: Tensor, b: Float) throws -> Tensor { try a.apply(.affine(scale: 1, offset: b)) }
  /// The tensor with `b` taken from each element.
  public static func - (a: Tensor, b: Float) throws -> Tensor { try a.apply(.affine(scale: 1, offset: -b)) }
  /// The tensor with each element multiplied by `b`.
  public static func * (a: Tensor, b: Float) throws -> Tensor { try a.apply(.affine(scale: b, offset: 0)) }
  /// `a (1 / b)`.
  public static func / (a: Tensor, b: Float) throws -> Tensor {
    try a.apply(.affine(scale: 1 / b, offset: 0))
  }

  /// `scale * self + offset`.
  public func affine(scale: Float, offset: Float) throws -> Tensor {
    try apply(.affine(scale: scale, offset: offset))
  }
  /// Within lower...upper; a NaN stays one.
  public func clamped(_ lower: Float, _ upper: Float) throws -> Tensor {
    try apply(.clamp(lower: lower, upper: upper))
  }
  /// A function of each element.
  public func map(_ function: Unary) throws -> Tensor { try apply(.unary(function)) }
  /// `x sigmoid(x)`; arXiv:1702.03118.
  public func silu() throws -> Tensor { try map(.silu) }

  /// `sum_i c_i x_i` of one to eight tensors of equal shape, in one pass.
  public static func combination(_ terms: [(Float, Tensor)]) throws -> Tensor {
    try apply(.linearCombination(terms.map(\.0)), terms.map(\.1))
  }

  // MARK: Shape

  /// Axis i of the result is axis `permutation[i]`.
  public func transposed(_ permutation: [Int]) throws -> Tensor { try apply(.transpose(permutation)) }
  /// Stretches axes of extent 1; axes align at the end.
  public func broadcast(to shape: Shape) throws -> Tensor { try apply(.broadcast(shape)) }

  /// The block that begins at `starts`.
  public func sliced(starts: [Int], sizes: [Int]) throws -> Tensor {
    try apply(.slice(Slice(starts: starts, sizes: sizes)))
  }

  /// Elements `range` along one axis; a negative axis counts from the end.
  public func sliced(_ range: Range<Int>, axis: Int) throws -> Tensor {
    let positive = axis < 0 ? axis + shape.rank : axis
    guard shape.dimensions.indices.contains(positive) else {
      throw TensorError.invalidOperands(
        operation: "slice", inputs: [spec], reason: "axis \(axis) does not exist")
    }
    if positive == 0 { return try rows(range) }
    var starts = [Int](repeating: 0, count: shape.rank)
    var sizes = shape.dimensions
    starts[positive] = range.lowerBound
    sizes[positive] = range.count
    return try sliced(starts: starts, sizes: sizes)
  }

  /// At least one tensor, alike off `axis`; a negative axis counts from the end.
  public static func concatenated(_ tensors: [Tensor], axis: Int) throws -> Tensor {
    let rank = tensors.first?.shape.rank ?? 0
    let operation = Operation.concatenate(axis: axis < 0 ? axis + rank : axis)
    if tensors.count == 1 {
      _ = try operation.output(of: [tensors[0].spec])
      return tensors[0]
    }
    return try apply(operation, tensors)
  }

  /// One number an axis, before and after.
  public func padded(before: [Int], after: [Int], value: Float = 0) throws -> Tensor {
    try apply(.pad(Pad(before: before, after: after, value: value)))
  }

  /// [N, H, W, C] -> [N, fH, fW, C].
  public func upsampledNearest(_ factor: Int) throws -> Tensor { try apply(.upsampleNearest(factor: factor)) }

  /// Rounds to nearest even between floating-point types; to int32 toward zero.
  public func cast(to dtype: DType) throws -> Tensor {
    dtype == self.dtype ? self : try apply(.cast(dtype))
  }

  // MARK: Reductions and normalisation

  /// Reduced axes stay, with extent 1; negative axes count from the end.
  public func reduced(_ kind: Reduce.Kind, axes: [Int]) throws -> Tensor {
    try apply(.reduce(Reduce(kind, axes: axes.map { $0 < 0 ? $0 + shape.rank : $0 }.sorted())))
  }

  /// How many elements are NaN or infinite. Waits for the tensor.
  public func nonFiniteCount() throws -> Int { Int(try apply(.nonFiniteCount).int32s()[0]) }

  /// Along the last axis.
  public func softmax() throws -> Tensor { try apply(.softmax) }

  /// self [N, ..., C], gamma and beta [C]; the activation is `.identity` or `.silu`.
  public func groupNorm(
    _ gamma: Tensor, _ beta: Tensor, groups: Int, epsilon: Float, activation: Activation = .identity
  ) throws -> Tensor {
    try apply(.groupNorm(GroupNorm(groups: groups, epsilon: epsilon, activation: activation)), gamma, beta)
  }

  /// self [..., C], gamma and beta [C].
  public func layerNorm(_ gamma: Tensor, _ beta: Tensor, epsilon: Float) throws -> Tensor {
    try apply(.layerNorm(LayerNorm(epsilon: epsilon)), gamma, beta)
  }

  /// self [..., C], without gain and bias.
  public func layerNorm(epsilon: Float) throws -> Tensor {
    try apply(.layerNorm(LayerNorm(epsilon: epsilon, affine: false)))
  }

  /// self [..., C], gamma [C].
  public func rmsNorm(_ gamma: Tensor, epsilon: Float) throws -> Tensor {
    try apply(.rmsNorm(epsilon: epsilon), gamma)
  }

  /// self [N, T, heads * D], cosines and sines float32 [T, D / 2]; see `Operation.rotary`.
  public func rotated(
    _ cosines: Tensor, _ sines: Tensor, heads: Int, pairs: Rotary.Pairs = .interleaved
  ) throws -> Tensor {
    try apply(.rotary(Rotary(heads: heads, pairs: pairs)), cosines, sines)
  }

  // MARK: Products

  /// `act(scale * self B + bias + residual)`.
  public func matmul(
    _ b: Tensor, transposeLeft: Bool = false, right: MatrixLayout = .rowMajor, scale: Float = 1,
    bias: Tensor? = nil, residual: Tensor? = nil, activation: Activation = .identity
  ) throws -> Tensor {
    let epilogue = Epilogue(bias: bias != nil, residual: residual != nil, activation: activation)
    let operation = MatMul(transposeLeft: transposeLeft, right: right, scale: scale, epilogue: epilogue)
    return try device.apply(.matmul(operation), [self, b] + [bias, residual].compactMap { $0 })
  }

  /// `act(scale * self W + bias + residual)`.
  public func matmul(
    _ weight: Weight, scale: Float = 1, bias: Tensor? = nil, residual: Tensor? = nil,
    activation: Activation = .identity
  ) throws -> Tensor {
    try matmul(
      weight.stored, right: weight.layout, scale: scale, bias: bias, residual: residual,
      activation: activation)
  }

  /// self [N, H, W, C]; `perImage` [N, outputChannels] is added to every pixel of its image.
  public func conv2d(
    _ weight: Weight, kernel: Extent2D, stride: Int = 1, padding: Padding2D = Padding2D(0),
    bias: Tensor? = nil, perImage: Tensor? = nil, residual: Tensor? = nil, activation: Activation = .identity
  ) throws -> Tensor {
    let epilogue = Epilogue(
      bias: bias != nil, perImage: perImage != nil, residual: residual != nil, activation: activation)
    let operation = Conv2D(
      kernel: kernel, stride: stride, padding: padding, weight: weight.layout, epilogue: epilogue)
    return try device.apply(
      .conv2d(operation), [self, weight.stored] + [bias, perImage, residual].compactMap { $0 })
  }

  /// self is Q [N, T, heads * D]; scale defaults to 1 / sqrt(D). arXiv:1706.03762, eq. 1.
  public func attention(
    keys: Tensor, values: Tensor, heads: Int, scale: Float? = nil, causal: Bool = false, mask: Tensor? = nil
  ) throws -> Tensor {
    let channels = shape.rank > 0 ? shape[-1] : 0
    let scale = scale ?? 1 / (Float(channels) / Float(heads)).squareRoot()
    let operation = Attention(heads: heads, scale: scale, causal: causal, mask: mask != nil)
    return try device.apply(.attention(operation), [self, keys, values] + (mask.map { [$0] } ?? []))
  }

  /// [..., 2C] -> [..., C].
  public func geglu() throws -> Tensor { try apply(.geglu) }

  /// self is the table [V, C].
  public func embedding(_ ids: Tensor) throws -> Tensor { try apply(.embedding, ids) }
}
