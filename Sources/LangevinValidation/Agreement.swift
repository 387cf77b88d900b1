import LangevinTensor

/// How well a device's result agrees with a reference.
public struct Agreement: Sendable, CustomStringConvertible {
  /// What is compared, for messages.
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

  /// Runs one case on a device and compares it with float64. Inputs are rounded to the dtype first, so that only
  /// the operation's own error counts. `Validator` does more.
  ///
  /// Throws what the device throws.
  public static func check(_ test: OperationCase, on device: Device, dtype: DType, seed: UInt64) throws
    -> Agreement
  {
    try Expected(test, dtype: dtype, seed: seed).check(on: device)
  }

  /// What a case gives in float64 and how far a device may be from it: worked out once for any number of devices, since
  /// it takes longer than they do.
  public struct Expected: Sendable {
    private let test: OperationCase
    private let dtype: DType
    private let inputs: [HostArray]
    private let value: HostArray
    private let bound: [Double]?

    /// Throws what evaluating the case throws.
    public init(_ test: OperationCase, dtype: DType, seed: UInt64) throws {
      (self.test, self.dtype) = (test, dtype)
      inputs = test.arrays(dtype: dtype, seed: seed)
      value = try Reference.evaluate(test.operation(dtype), inputs)
      bound = try Tolerance.bound(
        test.operation(dtype), inputs, value: value, evaluate: Reference.evaluate)
    }

    /// Runs the case on a device. Throws what the device throws, and `TensorError.valueCount` for another shape.
    public func check(on device: Device) throws -> Agreement {
      let result = try Tensor.apply(test.operation(dtype), test.tensors(inputs, on: device), on: device)
      guard result.shape == value.shape else {
        throw TensorError.valueCount(
          expected: value.shape.count, got: result.shape.count, shape: result.shape)
      }
      return try Agreement.compare(test, dtype, HostArray(result), value, bound)
    }
  }

  /// Compares a result that was computed elsewhere with a float64 value, with the case's tolerance.
  public static func compare(
    _ test: OperationCase, dtype: DType, got: HostArray, with expected: HostArray, seed: UInt64
  ) throws -> Agreement {
    let inputs = test.arrays(dtype: dtype, seed: seed)
    guard got.shape == expected.shape else {
      throw TensorError.valueCount(expected: expected.shape.count, got: got.shape.count, shape: got.shape)
    }
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
      let allowed = got.dtype.allowance(bound?[i], at: target)
      let error = got.dtype.error(value, target)
      let ratio = error == 0 ? 0 : error / allowed
      if ratio > worst.worst {
        worst = Agreement(
          name: test.name, dtype: dtype, worst: ratio, index: i, value: value, expected: target,
          allowed: allowed)
      }
    }
    return worst
  }
}
