/// Everything a backend may be asked to compute: the profiler's label, the kernel cache's key and the
/// test table's row. A new case is added here, in `Operation+Inference.swift`, in each of the two backends and in
/// the validation's float64 reference; the compiler names each place, since these switches are exhaustive. Its
/// arithmetic, where it has any, is counted in `Operation+Work.swift`.
///
/// Shapes: N images, H x W pixels, C channels (last), T and S tokens. All floating-point inputs of an
/// operation share one dtype, which is the output's too unless said otherwise.
public enum Operation: Sendable, Hashable, Codable {
  /// `act(scale * A B + bias + residual)`; inputs A, B, bias?, residual?.
  case matmul(MatMul)
  /// `act(conv(x, W) + bias + perImage + residual)`; inputs x, W, bias?, perImage?, residual?.
  case conv2d(Conv2D)
  /// `softmax(scale * Q K^T + mask) V` per head; inputs Q [N, T, heads * D], K, V [N, S, heads * D], mask?.
  case attention(Attention)
  /// `act((x - mean) / sqrt(variance + epsilon) * gamma + beta)` over groups of channels; x [N, ..., C],
  /// gamma [C], beta [C]. arXiv:1803.08494.
  case groupNorm(GroupNorm)
  /// Normalises the last axis; inputs x [..., C], and gamma [C], beta [C] when affine. arXiv:1607.06450.
  case layerNorm(LayerNorm)
  /// `x / sqrt(mean(x^2) + epsilon) * gamma` over the last axis; x [..., C], gamma [C]. arXiv:1910.07467.
  case rmsNorm(epsilon: Float)
  /// Turns each pair (a, b) of a head's channels by an angle of its token: `(a c - b s, a s + b c)`; inputs x
  /// [N, T, heads * D], cosines c and sines s, both float32 [T, D / 2] in every storage of x: at position 1000 half
  /// precision would be off by the angle of a token. arXiv:2104.09864, eq. 34.
  case rotary(Rotary)
  /// Along the last axis.
  case softmax
  case unary(Unary)
  /// `scale * x + offset`.
  case affine(scale: Float, offset: Float)
  case clamp(lower: Float, upper: Float)
  /// [..., 2C] -> [..., C]: first half times GELU (exact) of the second. arXiv:2002.05202.
  case geglu
  /// Element-wise with broadcasting.
  case binary(Binary)
  /// `sum_i c_i x_i` over inputs of equal shape: a sampler's update step in one pass.
  case linearCombination([Float])
  case reduce(Reduce)
  /// Rows of a table: table [V, C], int32 ids [...] -> [..., C]. Ids outside the table are an error on the
  /// CPU and give rows of NaN on a device.
  case embedding
  /// Output axis i is input axis `permutation[i]`.
  case transpose([Int])
  case broadcast(Shape)
  case slice(Slice)
  case concatenate(axis: Int)
  case pad(Pad)
  /// [N, H, W, C] -> [N, fH, fW, C], each pixel repeated.
  case upsampleNearest(factor: Int)
  /// Rounds to nearest even between floating-point types; int32 rounds toward zero.
  case cast(DType)
  /// Standard normal float32 numbers, the same bits on every device. No inputs.
  case normalNoise(NormalNoise)
  /// A constant. No inputs.
  case fill(Float, TensorSpec)
  /// Reorders a checkpoint's weight into the right operand of `matmul` and `conv2d`.
  case arrangeWeight(WeightArrangement)
  /// How many elements are NaN or infinite -> int32 [1].
  case nonFiniteCount

  /// The cases without their payloads; the raw value is the name in tables and messages.
  public enum Kind: String, Sendable, Hashable, CaseIterable, Codable {
    case matmul, conv2d, attention
    case groupNorm = "group_norm"
    case layerNorm = "layer_norm"
    case rmsNorm = "rms_norm"
    case rotary, softmax, unary, affine, clamp, geglu, binary
    case linearCombination = "linear_combination"
    case reduce, embedding, transpose, broadcast, slice, concatenate, pad
    case upsampleNearest = "upsample_nearest"
    case cast
    case normalNoise = "normal_noise"
    case fill
    case arrangeWeight = "arrange_weight"
    case nonFiniteCount = "non_finite_count"
  }

  /// Which case it is.
  public var kind: Kind {
    switch self {
    case .matmul: .matmul
    case .conv2d: .conv2d
    case .attention: .attention
    case .groupNorm: .groupNorm
    case .layerNorm: .layerNorm
    case .rmsNorm: .rmsNorm
    case .rotary: .rotary
    case .softmax: .softmax
    case .unary: .unary
    case .affine: .affine
    case .clamp: .clamp
    case .geglu: .geglu
    case .binary: .binary
    case .linearCombination: .linearCombination
    case .reduce: .reduce
    case .embedding: .embedding
    case .transpose: .transpose
    case .broadcast: .broadcast
    case .slice: .slice
    case .concatenate: .concatenate
    case .pad: .pad
    case .upsampleNearest: .upsampleNearest
    case .cast: .cast
    case .normalNoise: .normalNoise
    case .fill: .fill
    case .arrangeWeight: .arrangeWeight
    case .nonFiniteCount: .nonFiniteCount
    }
  }

  /// A short name for tables and messages: the function's, where one case stands for several.
  public var name: String {
    switch self {
    case .unary(let function): function.rawValue
    case .binary(let function): function.rawValue
    case .reduce(let reduce): "reduce_\(reduce.kind.rawValue)"
    default: kind.rawValue
    }
  }
}

extension Operation {
  /// Whether that input is float32 however the others are stored: a rotation's tables.
  public func isAlwaysFloat32(input: Int) -> Bool {
    if case .rotary = self { input > 0 } else { false }
  }
}

/// How the right operand of a product, logically [K, N], lies in memory.
public enum MatrixLayout: Sendable, Hashable, Codable {
  /// [K, N].
  case rowMajor
  /// [N, K], as PyTorch's Linear keeps it.
  case transposed
  /// [ceil(N / width), K, width] with zeros past the last column: a kernel reads one panel in sequence.
  case panels(width: Int, columns: Int)
}

/// Applied last, before the store.
public enum Activation: String, Sendable, Hashable, CaseIterable, Codable {
  case identity, silu, gelu, geluTanh, quickGelu
}

/// What is added to a product before the activation. Order of inputs: bias, perImage, residual.
public struct Epilogue: Sendable, Hashable, Codable {
  /// [N], one number a column.
  public var bias: Bool
  /// `conv2d` only: [images, N], one row an image (the time embedding).
  public var perImage: Bool
  /// The output's shape.
  public var residual: Bool
  /// Applied to the sum.
  public var activation: Activation

  /// By default nothing is added or applied.
  public init(
    bias: Bool = false, perImage: Bool = false, residual: Bool = false, activation: Activation = .identity
  ) {
    self.bias = bias
    self.perImage = perImage
    self.residual = residual
    self.activation = activation
  }

  /// How many of them there are.
  public var inputCount: Int { (bias ? 1 : 0) + (perImage ? 1 : 0) + (residual ? 1 : 0) }
}

/// A [..., M, K] (or [..., K, M] when transposed) times B. B of rank 2 (or panels) serves all of A's rows;
/// B with A's leading axes is a batched product. Output [..., M, N].
public struct MatMul: Sendable, Hashable, Codable {
  /// A is stored as its transpose.
  public var transposeLeft: Bool
  /// How B is stored.
  public var right: MatrixLayout
  /// Of the product, before anything is added.
  public var scale: Float
  /// What is added to the scaled product, and the activation.
  public var epilogue: Epilogue

  /// By default `A B`, both row-major.
  public init(
    transposeLeft: Bool = false, right: MatrixLayout = .rowMajor, scale: Float = 1,
    epilogue: Epilogue = Epilogue()
  ) {
    self.transposeLeft = transposeLeft
    self.right = right
    self.scale = scale
    self.epilogue = epilogue
  }
}

/// x [N, H, W, C] with W of logical shape [kernelHeight * kernelWidth * C, outputChannels], taps outermost;
/// layout `.rowMajor` or `.panels`. Output [N, H', W', outputChannels].
public struct Conv2D: Sendable, Hashable, Codable {
  /// Taps along each side.
  public var kernel: Extent2D
  /// Pixels between neighbouring windows, along both sides.
  public var stride: Int
  /// Zeros around x.
  public var padding: Padding2D
  /// Of the matrix [taps * C, outputs].
  public var weight: MatrixLayout
  /// What is added to the products, and the activation.
  public var epilogue: Epilogue

  /// By default every window, no padding, a row-major weight and nothing added.
  public init(
    kernel: Extent2D, stride: Int = 1, padding: Padding2D = Padding2D(0), weight: MatrixLayout = .rowMajor,
    epilogue: Epilogue = Epilogue()
  ) {
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
    self.weight = weight
    self.epilogue = epilogue
  }
}

/// Pixels along each side.
public struct Extent2D: Sendable, Hashable, Codable {
  /// Rows.
  public var height: Int
  /// Columns.
  public var width: Int

  /// Rows first.
  public init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

/// Rows and columns of zeros around a picture.
public struct Padding2D: Sendable, Hashable, Codable {
  /// Rows above.
  public var top: Int
  /// Columns before each row.
  public var left: Int
  /// Rows below.
  public var bottom: Int
  /// Columns after each row.
  public var right: Int

  /// Each side by itself.
  public init(top: Int, left: Int, bottom: Int, right: Int) {
    self.top = top
    self.left = left
    self.bottom = bottom
    self.right = right
  }

  /// The same on all sides.
  public init(_ all: Int) { self.init(top: all, left: all, bottom: all, right: all) }
}

/// The mask is additive, [T, S] or [N, T, S]; `causal` hides keys after the query (T = S).
public struct Attention: Sendable, Hashable, Codable {
  /// They divide the channels.
  public var heads: Int
  /// Of Q K^T.
  public var scale: Float
  /// A query sees no key after itself.
  public var causal: Bool
  /// Whether there is a fourth input.
  public var mask: Bool

  /// By default every query sees every key.
  public init(heads: Int, scale: Float, causal: Bool = false, mask: Bool = false) {
    self.heads = heads
    self.scale = scale
    self.causal = causal
    self.mask = mask
  }
}

/// `activation` is `.identity` or `.silu`.
public struct GroupNorm: Sendable, Hashable, Codable {
  /// They divide the channels.
  public var groups: Int
  /// Added to the variance.
  public var epsilon: Float
  /// Applied last; `.identity` or `.silu`.
  public var activation: Activation

  /// By default without activation.
  public init(groups: Int, epsilon: Float, activation: Activation = .identity) {
    self.groups = groups
    self.epsilon = epsilon
    self.activation = activation
  }
}

/// Over the last axis.
public struct LayerNorm: Sendable, Hashable, Codable {
  /// Added to the variance.
  public var epsilon: Float
  /// Whether gamma and beta are inputs.
  public var affine: Bool

  /// By default with gamma and beta.
  public init(epsilon: Float, affine: Bool = true) {
    self.epsilon = epsilon
    self.affine = affine
  }
}

/// Within each head's D channels.
public struct Rotary: Sendable, Hashable, Codable {
  /// Which channels are turned together.
  public enum Pairs: String, Sendable, Hashable, CaseIterable, Codable {
    /// 2i and 2i + 1.
    case interleaved
    /// i and i + D / 2.
    case halves
  }
  /// They divide the channels into even numbers.
  public var heads: Int
  /// By default neighbours.
  public var pairs: Pairs

  /// By default neighbouring channels are turned together.
  public init(heads: Int, pairs: Pairs = .interleaved) {
    self.heads = heads
    self.pairs = pairs
  }
}

/// `gelu` is exact (erf), `geluTanh` its tanh approximation, `quickGelu` x * sigmoid(1.702 x).
public enum Unary: String, Sendable, Hashable, CaseIterable, Codable {
  case silu, gelu
  case geluTanh = "gelu_tanh"
  case quickGelu = "quick_gelu"
  case sigmoid, tanh, exp, log, sqrt, rsqrt,
    sin, cos, square, abs, negate, reciprocal
}

/// NaN wins in `minimum` and `maximum`.
public enum Binary: String, Sendable, Hashable, CaseIterable, Codable {
  case add, subtract, multiply, divide, minimum, maximum
}

/// Reduced axes stay, with extent 1.
public struct Reduce: Sendable, Hashable, Codable {
  /// NaN wins in `minimum` and `maximum`.
  public enum Kind: String, Sendable, Hashable, CaseIterable, Codable { case sum, mean, minimum, maximum }
  /// What becomes of the elements of an axis.
  public var kind: Kind
  /// Distinct, ascending, not negative.
  public var axes: [Int]

  /// Over these axes, distinct and ascending.
  public init(_ kind: Kind, axes: [Int]) {
    self.kind = kind
    self.axes = axes
  }
}

/// The block that begins at `starts` and extends over `sizes`.
public struct Slice: Sendable, Hashable, Codable {
  /// The first index along each axis.
  public var starts: [Int]
  /// How many elements along each axis.
  public var sizes: [Int]

  /// One number an axis in each.
  public init(starts: [Int], sizes: [Int]) {
    self.starts = starts
    self.sizes = sizes
  }
}

/// One number an axis, before and after; none is negative.
public struct Pad: Sendable, Hashable, Codable {
  /// Elements before the first, along each axis.
  public var before: [Int]
  /// Elements after the last, along each axis.
  public var after: [Int]
  /// What the padding is filled with.
  public var value: Float

  /// One number an axis in each; by default zeros are added.
  public init(before: [Int], after: [Int], value: Float = 0) {
    self.before = before
    self.after = after
    self.value = value
  }
}

/// Philox 4x32-10 (Salmon et al. 2011): element 4i + j is word j of the block with counter
/// (i, stream, step, 0) and the seed as key; see `NoiseFunction`.
public struct NormalNoise: Sendable, Hashable, Codable {
  /// Philox's key.
  public var seed: UInt64
  /// Which of the independent sequences of a seed.
  public var stream: UInt32
  /// Which tensor of the sequence.
  public var step: UInt32
  /// Of the output, float32.
  public var shape: Shape

  /// The numbers of one tensor of a seed's sequence.
  public init(seed: UInt64, stream: UInt32, step: UInt32, shape: Shape) {
    self.seed = seed
    self.stream = stream
    self.step = step
    self.shape = shape
  }
}

/// Element (tap, channel, column) of the source lies at the sum of index times stride; it becomes row
/// `tap * channels + channel` of a [taps * channels, columns] matrix in `layout`.
public struct WeightArrangement: Sendable, Hashable, Codable {
  /// Rows times columns of the kernel; 1 for a linear weight.
  public var taps: Int
  /// Inputs a tap.
  public var channels: Int
  /// Outputs.
  public var columns: Int
  /// In elements of the source, as the two below.
  public var tapStride: Int
  /// Between neighbouring channels, in elements of the source.
  public var channelStride: Int
  /// Between neighbouring columns, in elements of the source.
  public var columnStride: Int
  /// How the result lies in memory.
  public var layout: MatrixLayout

  /// PyTorch's Linear weight [columns, channels].
  public static func linear(_ columns: Int, _ channels: Int, layout: MatrixLayout) -> WeightArrangement {
    WeightArrangement(
      taps: 1, channels: channels, columns: columns, tapStride: 0, channelStride: 1, columnStride: channels,
      layout: layout)
  }

  /// PyTorch's convolution weight [columns, channels, taps...].
  public static func convolution(_ columns: Int, _ channels: Int, taps: Int, layout: MatrixLayout)
    -> WeightArrangement
  {
    WeightArrangement(
      taps: taps, channels: channels, columns: columns, tapStride: 1, channelStride: taps,
      columnStride: channels * taps, layout: layout)
  }
}
