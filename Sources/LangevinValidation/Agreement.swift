import LangevinTensor

/// How well a device's result agrees with a reference.
public struct Agreement: Sendable, CustomStringConvertible {
  /// What a result is compared with.
  public enum Against: Sendable {
    /// `Reference`, in float64.
    case float64
    /// A device that is itself tested against float64, computing in float32 from the same inputs.
    case device(Device)
  }

  /// The case's name, as in the table.
  public let name: String
  /// Storage of the case's operands.
  public let dtype: DType
  /// The largest error relative to what is allowed; it passes up to 1.
  public let worst: Double
  /// The element it was found at, and what was there.
  public let index: Int
  /// What the device computed there.
  public let value: Double
  /// What the reference computed there.
  public let expected: Double
  /// How far the two may differ there.
  public let allowed: Double

  /// Whether every element is within its tolerance.
  public var passes: Bool { worst <= 1 }

  /// One line: the case, the worst element and what was allowed.
  public var description: String {
    "\(name) \(dtype.rawValue): element \(index) is \(value), expected \(expected) +- \(allowed) "
      + "(\(worst) of the tolerance)"
  }

  /// Runs one case on a device. Inputs are rounded to the dtype first, so that only the operation's own error
  /// counts. Throws what the device throws.
  public static func check(
    _ test: OperationCase, on device: Device, dtype: DType, seed: UInt64, reference: Against = .float64
  ) throws -> Agreement {
    let inputs = test.arrays(dtype: dtype, seed: seed)
    let result = try Tensor.apply(test.operation(dtype), test.tensors(inputs, on: device), on: device)
    let got = try HostArray(result)

    let (expected, bound): (HostArray, [Double]?)
    switch reference {
    case .float64:
      expected = try Reference.evaluate(test.operation(dtype), inputs)
      bound = try Tolerance.bound(
        test.operation(dtype), inputs, value: expected, evaluate: Reference.evaluate)
    case .device(let other):
      // In float32 whatever the dtype, so that the expected value is not rounded a second time.
      func evaluate(_ operation: Operation, _ arrays: [HostArray]) throws -> HostArray {
        try HostArray(Tensor.apply(operation, arrays.map { try $0.tensor(on: other) }, on: other))
      }
      let wide = inputs.map { $0.dtype.isFloatingPoint ? HostArray(TensorSpec($0.shape), $0.values) : $0 }
      let operation = test.operation(.float32)
      let value = try evaluate(operation, wide)
      // The reference's own error counts too.
      bound = try Tolerance.bound(operation, wide, value: value, evaluate: evaluate)?.map { 2 * $0 }
      expected = bound == nil ? value.rounded(to: got.dtype) : value
    }
    guard got.shape == expected.shape else {
      throw TensorError.valueCount(expected: expected.shape.count, got: got.shape.count, shape: got.shape)
    }
    return compare(test, dtype, got, expected, bound)
  }

  /// Compares a result that was computed elsewhere with a float64 value, with the case's tolerance.
  public static func compare(
    _ test: OperationCase, dtype: DType, got: HostArray, with expected: HostArray, seed: UInt64
  ) throws -> Agreement {
    let inputs = test.arrays(dtype: dtype, seed: seed)
    let bound = try Tolerance.bound(
      test.operation(dtype), inputs, value: expected, evaluate: Reference.evaluate)
    return compare(test, dtype, got, expected, bound)
  }

  private static func compare(
    _ test: OperationCase, _ dtype: DType, _ got: HostArray, _ expected: HostArray, _ bound: [Double]?
  ) -> Agreement {
    var worst = Agreement(
      name: test.name, dtype: dtype, worst: 0, index: 0, value: 0, expected: 0, allowed: 0)
    for (i, (value, target)) in zip(got.values, expected.values).enumerated() {
      var allowed = 0.0
      if let bound {
        allowed = bound[i] + got.dtype.smallest
        if got.dtype != .float32 { allowed += got.dtype.unitRoundoff * (abs(target) + bound[i]) }
      }
      // Past the dtype's range infinity is the rounded value.
      let same = value == target || (value.isNaN && target.isNaN) || value == got.dtype.round(target)
      let error = same ? 0 : abs(value - target) / allowed
      if error > worst.worst || error.isNaN {
        worst = Agreement(
          name: test.name, dtype: dtype, worst: error.isNaN ? .infinity : error, index: i, value: value,
          expected: target, allowed: allowed)
        if error.isNaN { return worst }
      }
    }
    return worst
  }
}
