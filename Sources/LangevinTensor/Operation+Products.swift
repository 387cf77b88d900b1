/// How the right operand of a product, logically [K, N], lies in memory.
public enum MatrixLayout: Sendable, Hashable, Codable {
  /// Rows one after another, [K, N].
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
  /// Whether a tensor of the output's shape is added.
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
  /// How many zeros lie around x on each side.
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
  /// The extent in rows.
  public var height: Int
  /// The extent in columns.
  public var width: Int

  /// An extent of rows and columns.
  public init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

/// Rows and columns of zeros around a picture.
public struct Padding2D: Sendable, Hashable, Codable {
  /// How many rows of zeros lie above.
  public var top: Int
  /// Columns before each row.
  public var left: Int
  /// How many rows of zeros lie below.
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
  /// What Q K^T is multiplied by before the softmax.
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
