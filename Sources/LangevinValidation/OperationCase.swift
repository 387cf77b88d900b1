import LangevinTensor

/// How an input's numbers are drawn.
public enum InputKind: Sendable {
  /// Standard normal.
  case normal
  /// Normal, ten times as wide: the tails of the activations.
  case wide
  /// Normal with deviation 1 about this mean, in which a careless variance cancels.
  case mean(Double)
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
}

/// One row of the table: an operation, its operands and how to draw them.
public struct OperationCase: Sendable, CustomStringConvertible {
  /// `edge` is small enough for float64; `model` has the shapes of Stable Diffusion 1.5 at 512 x 512.
  public enum Size: Sendable { case edge, model }

  /// As it stands in tables and messages.
  public let name: String
  /// Shapes and dtypes of the operands, in the operation's order.
  public let inputs: [TensorSpec]
  /// How each operand is filled.
  public let kinds: [InputKind]
  /// Which part of the table it belongs to.
  public let size: Size
  /// Inputs begin inside a larger tensor.
  public let sliced: Bool
  private let operation: Operation

  /// The name.
  public var description: String { name }

  init(
    _ name: String, _ operation: Operation, _ shapes: [Shape], kinds: [InputKind] = [], dtypes: [DType] = [],
    size: Size = .edge, sliced: Bool = false
  ) {
    self.name = name
    self.operation = operation
    self.inputs = shapes.enumerated().map { TensorSpec($1, $0 < dtypes.count ? dtypes[$0] : .float32) }
    self.kinds = shapes.indices.map { $0 < kinds.count ? kinds[$0] : .normal }
    self.size = size
    self.sliced = sliced
  }

  /// The operation with float32 in it replaced by a floating-point dtype.
  public func operation(_ dtype: DType) -> Operation {
    if case .fill(let value, let spec) = operation, spec.dtype == .float32 {
      return .fill(value, TensorSpec(spec.shape, dtype))
    }
    return operation
  }

  /// The inputs' specs with float32 replaced by a floating-point dtype.
  public func specs(_ dtype: DType) -> [TensorSpec] {
    inputs.map { $0.dtype == .float32 ? TensorSpec($0.shape, dtype) : $0 }
  }

  /// The inputs, rounded to their dtype; the same for the same seed everywhere.
  public func arrays(dtype: DType, seed: UInt64) -> [HostArray] {
    let hash = name.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    return zip(specs(dtype), kinds).enumerated().map { position, input in
      let (spec, kind) = input
      var generator = Generator(seed: seed &+ hash &+ UInt64(position) &* 0x1_0001)
      let width = spec.shape.rank > 0 ? spec.shape[-1] : 1
      let values = (0..<spec.shape.count).map { i -> Double in
        switch kind {
        case .normal: return generator.normal()
        case .wide: return 10 * generator.normal()
        case .mean(let mean): return mean + generator.normal()
        case .positive: return 0.1 + 3.9 * generator.uniform()
        case .constant(let value): return value
        case .ids(let vocabulary): return Double(generator.next() % UInt64(vocabulary))
        case .mask: return i % width != 0 && i % 3 == 0 ? -.infinity : generator.normal()
        case .nonFinite: return i % 7 == 3 ? .nan : i % 11 == 5 ? -.infinity : generator.normal()
        }
      }
      return HostArray(spec, values).rounded(to: spec.dtype)
    }
  }

  /// These inputs on a device; where the case is sliced, at an offset in a larger tensor.
  public func tensors(_ arrays: [HostArray], on device: Device) throws -> [Tensor] {
    try arrays.map { array in
      guard sliced, array.shape.rank > 0 else { return try array.tensor(on: device) }
      let row = array.values.count / max(array.shape[0], 1)
      let larger = HostArray(
        TensorSpec(array.shape.replacing(axis: 0, with: array.shape[0] + 2), array.dtype),
        [Double](repeating: 7, count: row) + array.values + [Double](repeating: 9, count: row))
      return try larger.tensor(on: device).rows(1..<array.shape[0] + 1)
    }
  }

  /// The inputs on a device.
  public func make(on device: Device, dtype: DType, seed: UInt64) throws -> [Tensor] {
    try tensors(arrays(dtype: dtype, seed: seed), on: device)
  }
}

/// The table that every backend is tested with.
public enum OperationCases {
  /// Every row of the table.
  public static let all: [OperationCase] =
    products + convolutions + attentions + norms + pointwise + movements + constants

  /// Small rows with odd extents and extreme values.
  public static var edge: [OperationCase] { all.filter { $0.size == .edge } }
  /// Rows with the shapes of real models.
  public static var model: [OperationCase] { all.filter { $0.size == .model } }

  /// The names under which the table must have rows: every kind of operation, and each function of those that
  /// stand for several.
  public static let required = Set(
    Operation.Kind.allCases.flatMap { kind -> [String] in
      switch kind {
      case .unary: Unary.allCases.map { Operation.unary($0).name }
      case .binary: Binary.allCases.map { Operation.binary($0).name }
      case .reduce: Reduce.Kind.allCases.map { Operation.reduce(Reduce($0, axes: [])).name }
      default: [kind.rawValue]
      }
    })
}
