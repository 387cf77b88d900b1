import LangevinTensor

/// How an input's numbers are drawn.
public enum InputKind: Sendable, Hashable, Codable {
  /// Standard normal numbers.
  case normal
  /// Normal, ten times as wide: the tails of the activations.
  case wide
  /// Normal with deviation 1 about this mean, in which a careless variance cancels.
  case mean(Double)
  /// Normal with this deviation about a mean that is large beside it: rounded to float32, the mean is off by a
  /// part of the deviation that shows.
  case narrow(mean: Double, deviation: Double)
  /// Uniform in [0.1, 4).
  case positive
  /// One number for all: no variance.
  case constant(Double)
  /// Whole numbers below this, as token ids.
  case ids(Int)
  /// Normal, with every third number -infinity but none in the first column.
  case mask
  /// Normal, with NaN and infinities strewn in.
  case nonFinite
  /// Half of them minus this, a quarter plus this, a quarter normal: logits whose exponential overflows.
  case extremes(Double)
  /// Smaller than the dtype's least normal number.
  case denormal
  /// One number a row: no variance along the last axis.
  case equalRows
  /// Words of blocks with any bits, whose scales are between 2^-9 and 2^-6.
  case blocks(BlockEncoding)
}

/// One row of the table: an operation, its operands and how to draw them.
public struct OperationCase: Sendable, Hashable, Codable, CustomStringConvertible {
  /// `edge` is small enough for float64; `model` is what a real model dispatches.
  public enum Size: String, Sendable, Hashable, Codable { case edge, model }

  /// Unique within the table.
  public let name: String
  /// In float32, which stands for any floating-point dtype.
  public let inputs: [TensorSpec]
  /// What each input is filled with.
  public let kinds: [InputKind]
  /// What the row is for.
  public let size: Size
  /// Inputs begin inside a larger tensor.
  public let sliced: Bool
  /// Which models dispatch it; empty for `edge`.
  public let models: [String]
  private let operation: Operation

  /// The case's name.
  public var description: String { name }

  /// A row; kinds and dtypes that are missing are `.normal` and `.float32`.
  public init(
    _ name: String, _ operation: Operation, _ shapes: [Shape], kinds: [InputKind] = [], dtypes: [DType] = [],
    size: Size = .edge, sliced: Bool = false, models: [String] = []
  ) {
    self.name = name
    self.operation = operation
    self.inputs = shapes.enumerated().map { TensorSpec($1, $0 < dtypes.count ? dtypes[$0] : .float32) }
    self.kinds = shapes.indices.map { $0 < kinds.count ? kinds[$0] : .normal }
    self.size = size
    self.sliced = sliced
    self.models = models
  }

  /// This row with another operation and other inputs.
  func replacing(_ operation: Operation, _ shapes: [Shape], kinds: [InputKind]? = nil, name: String? = nil)
    -> OperationCase
  {
    OperationCase(
      name ?? self.name, operation, shapes, kinds: kinds ?? self.kinds, dtypes: inputs.map(\.dtype),
      size: size, sliced: sliced, models: models)
  }

  /// The operation with float32 in it replaced by a floating-point dtype.
  public func operation(_ dtype: DType) -> Operation {
    if case .fill(let value, let spec) = operation, spec.dtype == .float32 {
      return .fill(value, TensorSpec(spec.shape, dtype))
    }
    return operation
  }

  /// The inputs' specs with float32 replaced by a floating-point dtype, where the operation does not insist on it.
  public func specs(_ dtype: DType) -> [TensorSpec] {
    inputs.enumerated().map { index, spec in
      spec.dtype == .float32 && !operation.definition.operand(index).isAlwaysFloat32
        ? TensorSpec(spec.shape, dtype) : spec
    }
  }

  /// The arithmetic of one call, in floating-point operations; 0 where the inputs do not fit the operation.
  public var flops: Double {
    guard let output = try? operation.output(of: inputs) else { return 0 }
    return operation.work(inputs: inputs, output: output).flops
  }

  /// Of the input that is in blocks.
  var encoding: BlockEncoding? {
    kinds.lazy.compactMap { if case .blocks(let encoding) = $0 { encoding } else { nil } }.first
  }

  /// Those storage types among `all` in which the row is worth a run: the first alone where nothing in it is of
  /// floating point.
  ///
  /// Numbers in blocks are decoded to float32 before they meet the activations, so that a type of activations says
  /// nothing about an encoding that another type does not. Each pair is a program to compile, which takes seconds:
  /// all encodings run in the first type, and every other type with one of them.
  public func storages(among all: [DType]) -> [DType] {
    guard specs(.float16) != specs(.float32) || operation(.float16) != operation(.float32) else {
      return Array(all.prefix(1))
    }
    guard let encoding else { return all }
    return Array(all.prefix(1)) + all.dropFirst().filter { encoding == ($0 == .bfloat16 ? .q4K : .q8) }
  }

  /// This product with its packed weight in blocks instead. Nil for other operations, and where a model's weight would
  /// stay dense: where an output's inputs are no multiple of 32, or all numbers no whole blocks.
  public func inBlocks(_ encoding: BlockEncoding, arithmetic: ProductArithmetic = .float32) -> OperationCase?
  {
    guard let index = operation.packedInput else { return nil }
    let (rows, columns) = (inputs[index].shape[0], inputs[index].shape[1])
    guard rows % 32 == 0, rows * columns % encoding.elementCount == 0 else { return nil }
    var isInt8 = arithmetic == .int8 && encoding == .q8
    if case .conv2d(let conv) = operation, conv.taps > 1 { isInt8 = false }
    let layout: MatrixLayout = isInt8 ? .int8Blocks : .blocks(encoding)
    let changed: Operation
    if case .matmul(var matmul) = operation {
      matmul.right = layout
      changed = .matmul(matmul)
    } else if case .conv2d(var conv) = operation {
      conv.weight = layout
      changed = .conv2d(conv)
    } else {
      return nil
    }
    var (shapes, dtypes, kinds) = (inputs.map(\.shape), inputs.map(\.dtype), kinds)
    let words = encoding.spec(rows * columns)
    (shapes[index], dtypes[index], kinds[index]) = (words.shape, words.dtype, .blocks(encoding))
    return OperationCase(
      "\(name) \(encoding.rawValue)\(isInt8 ? " int8" : "")", changed, shapes, kinds: kinds, dtypes: dtypes,
      size: size,
      sliced: sliced,
      models: models)
  }

  /// The inputs, rounded to their dtype; the same for the same seed everywhere.
  public func operands(dtype: DType, seed: UInt64) -> [Operand] {
    let hash = FNV.hash(name.utf8)
    return zip(specs(dtype), kinds).enumerated().map { position, input in
      Operand(input.0, input.1, seed: Generator.scramble(seed &+ hash) &+ UInt64(position) &* 0x1_0001)
    }
  }

  /// As `operands`, in double precision.
  public func arrays(dtype: DType, seed: UInt64) -> [HostArray] {
    operands(dtype: dtype, seed: seed).map(\.array)
  }

  /// These inputs on a device, a weight packed for it; where the case is sliced, at an offset in a larger tensor.
  public func tensors(_ arrays: [HostArray], on device: Device) throws -> [Tensor] {
    let rowMajor = try arrays.map { array in
      guard sliced, array.shape.rank > 0 else { return try array.tensor(on: device) }
      let row = array.values.count / max(array.shape[0], 1)
      let larger = HostArray(
        TensorSpec(array.shape.replacing(axis: 0, with: array.shape[0] + 2), array.dtype),
        [Double](repeating: 7, count: row) + array.values + [Double](repeating: 9, count: row))
      return try larger.tensor(on: device).rows(1..<array.shape[0] + 1)
    }
    return try operation.packing(rowMajor)
  }

  /// The inputs on a device.
  public func make(on device: Device, dtype: DType, seed: UInt64) throws -> [Tensor] {
    try tensors(arrays(dtype: dtype, seed: seed), on: device)
  }
}

/// The table that every backend is tested with.
public enum OperationCases {
  /// All cases, the edge cases before the models'.
  public static let all = edge + model
  /// Small, odd, empty and long shapes, and inputs that find faults.
  public static let edge: [OperationCase] =
    products + convolutions + blocks + attentions + norms + pointwise + movements + constants + faultFinding
    + gradients
  /// What real models dispatch.
  public static let model: [OperationCase] = ModelShapes.recorded.map(\.test)

  /// Rows of `edge` that a simulator gets through in minutes: few elements and few products, yet more than a
  /// tile of each.
  public static var tiny: [OperationCase] {
    edge.filter { test in
      let operation = test.operation(.float32)
      let counts = test.inputs.map(\.shape.count)
      switch operation.definition.locality {
      case .product(let matmul):
        let size = matmul.size(left: test.inputs[0].shape, right: test.inputs[1].shape)
        return size.batch * size.rows * size.inner * size.columns < 60_000
      case .convolution: return counts[0] * counts[1] < 400_000
      case .heads: return counts[0] * test.inputs[1].shape[1] < 60_000
      case .whole, .channels, .moved, .elements, .halves, .rows, .tokens, .groups, .groupGradients:
        return counts.max() ?? 0 < 1500
      }
    }
  }

  /// The names under which the table must have rows: every kind of operation, and each function of those that
  /// stand for several.
  public static let required: Set<String> = {
    let functions: [Operation.Kind: [String]] = [
      .unary: Unary.allCases.map { Operation.unary($0).name },
      .unaryGradient: Unary.allCases.map { Operation.unaryGradient($0).name },
      .binary: Binary.allCases.map { Operation.binary($0).name },
      .dequantize: BlockEncoding.allCases.map { Operation.dequantize($0).name },
      .reduce: Reduce.Kind.allCases.map { Operation.reduce(Reduce($0, axes: [])).name },
    ]
    return Set(Operation.Kind.allCases.flatMap { functions[$0] ?? [$0.rawValue] })
  }()
}
