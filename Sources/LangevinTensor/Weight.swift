/// The extents of a constant right operand of products, logically [rows, columns] with row
/// `tap * channels + channel`. Its source is PyTorch's [columns, channels, taps...].
public struct WeightShape: Sendable, Hashable, Codable {
  /// Rows times columns of a convolution's kernel; 1 for a linear weight.
  public var taps: Int
  /// How many input channels each tap has.
  public var channels: Int
  /// How many outputs.
  public var columns: Int

  /// The inner extent of its products.
  public var rows: Int { taps * channels }

  /// A weight of so many outputs.
  public init(taps: Int = 1, channels: Int, columns: Int) {
    (self.taps, self.channels, self.columns) = (taps, channels, columns)
  }
}

/// A constant right operand of products: what it is, apart from how its device packs it.
public struct Weight: Sendable {
  /// How the numbers are stored.
  public enum Encoding: Sendable, Hashable {
    /// Each number by itself.
    case dense(DType)
    /// Several with scales that they share.
    case blocks(BlockEncoding)
  }

  /// The logical extents.
  public let shape: WeightShape
  /// Its shape in a checkpoint: [outputs, inputs], with the kernel's axes behind for a convolution.
  public let checkpointShape: Shape
  /// [rows, columns] in the form of its device's backend, which alone can read it; or the words of its blocks, which are
  /// the same on all devices.
  let stored: Tensor
  /// How products read it.
  let layout: MatrixLayout

  /// How products with it are computed.
  public var arithmetic: ProductArithmetic { layout == .int8Blocks ? .int8 : .float32 }
  /// How the numbers are stored.
  public var encoding: Encoding { layout.encoding.map { .blocks($0) } ?? .dense(stored.dtype) }
  /// Where it is.
  public var device: Device { stored.device }
  /// The inner extent of the product.
  public var rows: Int { shape.rows }
  /// How many outputs a product with it has.
  public var columns: Int { shape.columns }

  /// From PyTorch's Linear weight [outputs, inputs]. Throws what the backend throws.
  public init(linear weight: Tensor) throws { try self.init(weight) }

  /// From PyTorch's convolution weight [outputs, inputs, kernel...]. Throws what the backend throws.
  public init(convolution weight: Tensor) throws { try self.init(weight) }

  private init(_ weight: Tensor) throws {
    let extents = weight.shape.dimensions
    guard extents.count >= 2, weight.dtype.isFloatingPoint else {
      throw TensorError.invalidOperands(
        operation: "pack", inputs: [weight.spec], reason: "a weight is floating point, [outputs, inputs, ...]"
      )
    }
    checkpointShape = weight.shape
    shape = WeightShape(
      taps: extents.dropFirst(2).reduce(1, *), channels: extents[1], columns: extents[0])
    stored = try weight.device.pack(weight, shape)
    layout = .packed
  }

  /// From the words of blocks that hold a checkpoint's [outputs, inputs, kernel...], one number after another.
  ///
  /// Throws `TensorError.invalidOperands` where the words hold another number of them.
  public init(
    blocks words: Tensor, _ encoding: BlockEncoding, checkpointShape: Shape,
    arithmetic: ProductArithmetic = .float32
  ) throws {
    let extents = checkpointShape.dimensions
    guard extents.count >= 2, encoding.count(words.spec) == checkpointShape.count else {
      throw TensorError.invalidOperands(
        operation: "pack", inputs: [words.spec],
        reason: "the words are not \(checkpointShape) in blocks of \(encoding.rawValue)")
    }
    self.checkpointShape = checkpointShape
    shape = WeightShape(
      taps: extents.dropFirst(2).reduce(1, *), channels: extents[1], columns: extents[0])
    stored = words
    let fits = encoding == .q8 && shape.taps == 1 && shape.channels % Int8Rounding.count == 0
    layout = arithmetic == .int8 && fits ? .int8Blocks : .blocks(encoding)
  }

  /// Row-major [rows, columns]; float32 where it is in blocks.
  public func unpacked() throws -> Tensor {
    try layout.rowMajor(stored, inner: shape.rows, taps: shape.taps)
  }

  /// As it lies in a checkpoint; float32 where it is in blocks.
  public func checkpointTensor() throws -> Tensor {
    if let encoding = layout.encoding { return try stored.dequantized(encoding).reshaped(checkpointShape) }
    return try unpacked().reshaped([shape.taps, shape.channels, shape.columns]).transposed([2, 1, 0])
      .reshaped(checkpointShape)
  }
}

extension Device {
  /// A weight in the backend's own form, [rows, columns]. On the tape of its source it passes gradients on.
  func pack(_ source: Tensor, _ shape: WeightShape) throws -> Tensor {
    let spec = TensorSpec([shape.rows, shape.columns], source.dtype)
    guard spec.shape.count > 0 else { return try Tensor(uninitialized: spec, on: self) }
    let view = try backend.pack(source.view, shape)
    let packed = Tensor(spec: spec, device: self, storage: view.storage, offset: view.offset)
    guard let tape = try Tape.common([source], operation: "pack") else { return packed }
    return tape.packed(source, shape, packed)
  }

  /// Row-major. On a tape it is the same variable: a packed weight's gradient is row-major.
  func unpack(_ packed: Tensor) throws -> Tensor {
    var output = try Tensor(uninitialized: packed.spec, on: self)
    if packed.shape.count > 0 { try backend.unpack(packed.view, into: output.view) }
    output.trace = packed.trace
    return output
  }
}

extension Operation {
  /// The input of a product that is words of blocks; nil where there is none.
  public var blockInput: Int? {
    if case .matmul(let matmul) = self, matmul.right.encoding != nil { return 1 }
    if case .conv2d(let conv) = self, conv.weight.encoding != nil { return 1 }
    return nil
  }

  /// Whether it is a product that rounds its left operand; see `Int8Rounding`.
  public var roundsLeft: Bool {
    switch self {
    case .matmul(let matmul): matmul.right == .int8Blocks
    case .conv2d(let conv): conv.weight == .int8Blocks
    default: false
    }
  }

  /// The input that is packed in its backend's form; nil where all lie row by row.
  public var packedInput: Int? {
    if case .matmul(let matmul) = self, matmul.right == .packed { return 1 }
    if case .conv2d(let conv) = self, conv.weight == .packed { return 1 }
    return nil
  }

  /// The same operation on a row-major operand in place of the packed one.
  public var onRowMajor: Operation {
    if case .matmul(var matmul) = self, matmul.right == .packed {
      matmul.right = .rowMajor
      return .matmul(matmul)
    }
    if case .conv2d(var conv) = self, conv.weight == .packed {
      conv.weight = .rowMajor
      return .conv2d(conv)
    }
    return self
  }

  /// The operands that it reads, from row-major ones: packed where it wants them so.
  public func packing(_ rowMajor: [Tensor]) throws -> [Tensor] {
    guard let index = packedInput else { return rowMajor }
    var operands = rowMajor
    let matrix = rowMajor[index]
    // As a linear weight [N, K].
    operands[index] = try matrix.device.pack(
      matrix.transposingLastAxes(), WeightShape(channels: matrix.shape[0], columns: matrix.shape[1]))
    return operands
  }

  /// The row-major operands behind those that it reads.
  func unpacking(_ inputs: [Tensor]) throws -> [Tensor] {
    guard let index = packedInput else { return inputs }
    var operands = inputs
    operands[index] = try inputs[index].device.unpack(inputs[index])
    return operands
  }
}
