import LangevinTensor

/// What parameters are chosen by: operation, kernels, storage and sizes, large sizes in buckets of half an
/// octave. A few machine words: it is built and looked up at every launch.
///
/// How many images there are is part of a product's rows, whose bits do not depend on its parameters, and no
/// part of attention's key, whose bits do: a batch stays equal to its single images.
public struct TuningKey: TunableKey {
  /// Which operation the parameters are for.
  public let operation: TunedOperation
  /// Which family's kernels.
  public let family: KernelFamily
  /// Storage of the operands.
  public let dtype: DType
  /// In the order of `TunedOperation.sizeNames`; zero where there are fewer.
  let sizes: SIMD4<UInt32>

  /// The lower ends of the buckets, in the order of `TunedOperation.sizeNames`.
  public var lowerSizes: [Int] { operation.sizeNames.indices.map { Int(sizes[$0]) } }

  private init(_ operation: TunedOperation, _ family: KernelFamily, _ dtype: DType, _ sizes: SIMD4<UInt32>) {
    self.operation = operation
    self.family = family
    self.dtype = dtype
    self.sizes = sizes
  }

  /// A [rows, inner] matrix times [inner, columns].
  static func product(_ family: KernelFamily, _ dtype: DType, rows: Int, columns: Int, inner: Int)
    -> TuningKey
  {
    TuningKey(.product, family, dtype, [bucket(rows), bucket(columns), bucket(inner), 0])
  }

  /// `rows` output pixels of all images.
  static func convolution(
    _ family: KernelFamily, _ dtype: DType, rows: Int, columns: Int, channels: Int, taps: Int
  ) -> TuningKey {
    let sizes = SIMD4(bucket(rows), bucket(columns), bucket(channels), UInt32(clamping: taps))
    return TuningKey(.convolution, family, dtype, sizes)
  }

  /// `size` is a head's. Kernels are built for one, so it is no bucket.
  static func attention(_ family: KernelFamily, _ dtype: DType, queries: Int, keys: Int, size: Int)
    -> TuningKey
  {
    TuningKey(.attention, family, dtype, [bucket(queries), bucket(keys), UInt32(clamping: size), 0])
  }

  /// From `lowerSizes`; nil where their number is wrong or one is no lower end.
  init?(_ operation: TunedOperation, _ family: KernelFamily, _ dtype: DType, lowerSizes: [Int]) {
    guard lowerSizes.count == operation.sizeNames.count else { return nil }
    var sizes = SIMD4<UInt32>()
    for (index, size) in lowerSizes.enumerated() {
      guard let value = UInt32(exactly: size) else { return nil }
      let isExact = ["taps", "head size"].contains(operation.sizeNames[index])
      guard isExact || TuningKey.bucket(size) == value else { return nil }
      sizes[index] = value
    }
    self.init(operation, family, dtype, sizes)
  }

  /// The largest of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, … that is not above the size.
  static func bucket(_ size: Int) -> UInt32 {
    guard size > 1 else { return UInt32(max(size, 0)) }
    let size = UInt32(clamping: size)
    let power: UInt32 = 1 << (31 - UInt32(size.leadingZeroBitCount))
    return size - power >= power / 2 ? power + power / 2 : power
  }
}

extension TuningKey: CustomStringConvertible {
  /// `product f32 4096 x 320 x 320`, sizes by the lower ends of their buckets.
  public var description: String {
    "\(operation.rawValue) \(dtype.kernelName) " + lowerSizes.map(String.init).joined(separator: " x ")
  }
}

extension TuningKey {
  /// By what an operation's parameters are chosen; nil where its kernels have none. `inputs` and `output` are
  /// the operation's, and `pairs` says whether bfloat16 is multiplied in pairs.
  public init?(
    _ operation: Operation, inputs: [TensorSpec], output: TensorSpec, family: KernelFamily,
    pairs: Bool = false
  ) {
    guard let first = inputs.first, output.shape.count > 0 else { return nil }
    if case .matmul(let matmul) = operation {
      let size = matmul.size(left: first.shape, right: inputs[1].shape)
      self = .product(family, first.dtype, rows: size.rows, columns: size.columns, inner: size.inner)
    } else if case .conv2d(let conv) = operation, family == .cpu,
      !(pairs && inputs[1].dtype == .bfloat16 && first.shape[3] % 2 == 0),
      let winograd = WinogradTiles(conv, input: first.shape, output: output.shape)
    {
      self = winograd.key
    } else if case .conv2d(let conv) = operation {
      let size = conv.size(input: first.shape, output: output.shape)
      let geometry = conv.geometry(input: first.shape, output: output.shape)
      self = .convolution(family, first.dtype, conv, size, geometry)
    } else if case .attention(let attention) = operation {
      self = .attention(
        family, first.dtype, queries: first.shape[1], keys: inputs[1].shape[1],
        size: first.shape[2] / attention.heads)
    } else {
      return nil
    }
  }
}

extension TuningKey {
  /// A convolution that is a product of matrices in memory is tuned as one.
  static func convolution(
    _ family: KernelFamily, _ dtype: DType, _ conv: Conv2D, _ size: ProductSize,
    _ geometry: ConvolutionGeometry?
  ) -> TuningKey {
    guard let geometry else {
      return .product(family, dtype, rows: size.rows, columns: size.columns, inner: size.inner)
    }
    return .convolution(
      family, dtype, rows: size.rows, columns: size.columns, channels: geometry.channels, taps: conv.taps)
  }
}

extension Conv2D {
  /// Of the product that computes it: a row for each output pixel, an inner step for each tap and channel.
  func size(input: Shape, output: Shape) -> ProductSize {
    let (rows, inner) = (output[0] * output[1] * output[2], taps * input[3])
    return MatMul().size(left: [rows, inner], right: [inner, output[3]])
  }
}
