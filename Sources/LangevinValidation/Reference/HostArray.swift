import Dispatch
import Glibc
import LangevinTensor

/// Numbers on the host in double precision, with the shape and dtype that they stand for.
public struct HostArray: Sendable {
  /// The shape, and the storage to which the values are rounded.
  public let spec: TensorSpec
  /// The elements in row-major order.
  public let values: [Double]

  /// Extents, outermost first.
  public var shape: Shape { spec.shape }
  /// Storage of an element on a device.
  public var dtype: DType { spec.dtype }

  /// As many values as the shape holds, in row-major order.
  public init(_ spec: TensorSpec, _ values: [Double]) {
    precondition(values.count == spec.shape.count)
    self.spec = spec
    self.values = values
  }

  /// Copies a tensor to the host, decoding its bytes here rather than on the device.
  public init(_ tensor: Tensor) throws {
    let values = try tensor.withBytes { bytes -> [Double] in
      switch tensor.dtype {
      case .float32: bytes.bindMemory(to: Float.self).map(Double.init)
      case .float16: bytes.bindMemory(to: Float16.self).map { Double($0) }
      case .bfloat16: bytes.bindMemory(to: UInt16.self).map { Double(Float(bitPattern: UInt32($0) << 16)) }
      case .int32: bytes.bindMemory(to: Int32.self).map(Double.init)
      }
    }
    self.init(tensor.spec, values)
  }

  /// The numbers on a device, rounded to nearest even in `spec.dtype`.
  public func tensor(on device: Device) throws -> Tensor {
    func make<Element>(_ elements: [Element]) throws -> Tensor {
      try elements.withUnsafeBytes { try Tensor(bytes: $0, spec, on: device) }
    }
    switch dtype {
    case .float32: return try make(values.map { Float($0) })
    case .float16: return try make(values.map { Float16($0) })
    case .bfloat16:
      return try make(
        values.map { UInt16(truncatingIfNeeded: Float(DType.bfloat16.round($0)).bitPattern >> 16) })
    case .int32: return try make(values.map { Int32($0) })
    }
  }

  /// The numbers as that dtype can hold them.
  public func rounded(to dtype: DType) -> HostArray {
    HostArray(TensorSpec(shape, dtype), values.map(dtype.round))
  }

  /// A function of each element, in float64.
  public func map(_ function: (Double) -> Double) -> HostArray { HostArray(spec, values.map(function)) }
}

extension DType {
  /// The nearest number of this dtype, ties to even; int32 toward zero.
  public func round(_ value: Double) -> Double {
    switch self {
    case .float32: return Double(Float(value))
    case .float16: return Double(Float16(value))
    case .bfloat16:
      guard value.isFinite, value != 0 else { return value }
      // 8 significant bits; below the least normal exponent the spacing stays.
      let ulp = exp2(Double(max(Int(value.exponent), -126) - 7))
      let result = (value / ulp).rounded(.toNearestOrEven) * ulp
      return abs(result) >= 0x1p128 ? (value < 0 ? -.infinity : .infinity) : result
    case .int32: return value.rounded(.towardZero)
    }
  }

  /// Half the distance between 1 and the next number: the relative error of one rounding.
  public var unitRoundoff: Double {
    switch self {
    case .float32: 0x1p-24
    case .float16: 0x1p-11
    case .bfloat16: 0x1p-8
    case .int32: 0
    }
  }

  /// What rounding may lose where relative precision ends; devices may flush float32's denormals.
  var smallest: Double {
    switch self {
    case .float32, .bfloat16: 0x1p-126
    case .float16: 0x1p-25
    case .int32: 0
    }
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the inputs, the same in every run.
struct Generator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Generator.scramble(state)
  }

  static func scramble(_ state: UInt64) -> UInt64 {
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A uniform number in [0, 1).
  mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  mutating func normal() -> Double {
    (-2 * log(1 - uniform())).squareRoot() * cos(2 * .pi * uniform())
  }
}

/// `body(i)` writes element or row i of its own output; all cores share 0..<count.
func concurrently(_ count: Int, _ body: (Int) -> Void) {
  guard count > 0 else { return }
  withoutActuallyEscaping(body) { body in
    nonisolated(unsafe) let body = body
    let chunk = max(1, count / 64)
    DispatchQueue.concurrentPerform(iterations: (count + chunk - 1) / chunk) { task in
      for i in task * chunk..<min((task + 1) * chunk, count) { body(i) }
    }
  }
}

/// An array whose element i is `body(i)`, on all cores.
func parallelMap(_ count: Int, _ body: (Int) -> Double) -> [Double] {
  [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
    nonisolated(unsafe) let out = buffer
    concurrently(count) { out.initializeElement(at: $0, to: body($0)) }
    initialized = count
  }
}

/// An array of rows, each written by `body(row, out)`, on all cores.
func parallelRows(_ rows: Int, _ width: Int, _ body: (Int, UnsafeMutableBufferPointer<Double>) -> Void)
  -> [Double]
{
  [Double](unsafeUninitializedCapacity: rows * width) { buffer, initialized in
    buffer.initialize(repeating: 0)
    nonisolated(unsafe) let out = buffer
    concurrently(rows) { row in
      body(row, UnsafeMutableBufferPointer(rebasing: out[row * width..<(row + 1) * width]))
    }
    initialized = rows * width
  }
}
