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
  /// The seed, which is Philox's key.
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
  /// How many input channels each tap of the kernel has.
  public var channels: Int
  /// How many outputs, the matrix's columns.
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
