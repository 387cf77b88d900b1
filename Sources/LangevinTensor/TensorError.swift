/// What can go wrong between tensors and devices, with what is needed to act on it.
public enum TensorError: Error, Sendable, Equatable, CustomStringConvertible {
  case invalidOperands(operation: String, inputs: [TensorSpec], reason: String)
  /// The device has no kernel for it and falling back was not allowed.
  case unsupported(operation: String, inputs: [TensorSpec], device: String)
  case deviceMismatch(operation: String, devices: [String])
  case outOfMemory(device: String, requested: Int, inUse: Int, limit: Int)
  /// An OpenCL, BLAS or host call failed; `operation` is what was running, where known.
  case deviceFailure(device: String, operation: String, reason: String)
  /// Raised while auditing: the first operation whose output is not finite.
  case nonFinite(operation: String, output: TensorSpec, count: Int)
  case valueCount(expected: Int, got: Int, shape: Shape)

  /// One line with operation, operands and reason.
  public var description: String {
    switch self {
    case .invalidOperands(let operation, let inputs, let reason):
      "\(operation)(\(TensorError.list(inputs))): \(reason)"
    case .unsupported(let operation, let inputs, let device):
      "\(device) has no kernel for \(operation)(\(TensorError.list(inputs))), and fallback is off"
    case .deviceMismatch(let operation, let devices):
      "\(operation): its operands are on different devices (\(devices.joined(separator: ", ")))"
    case .outOfMemory(let device, let requested, let inUse, let limit):
      "out of memory on \(device): asked for \(ByteCount.text(requested)) with "
        + "\(ByteCount.text(inUse)) in use of \(ByteCount.text(limit)); "
        + "try a smaller --width and --height, --count 1 or --precision f16"
    case .deviceFailure(let device, let operation, let reason): "\(device): \(operation): \(reason)"
    case .nonFinite(let operation, let output, let count):
      "\(operation) gave \(count) values that are NaN or infinite in its output \(output)"
    case .valueCount(let expected, let got, let shape):
      "\(got) values for shape \(shape), which holds \(expected)"
    }
  }

  private static func list(_ specs: [TensorSpec]) -> String {
    specs.map(\.description).joined(separator: ", ")
  }
}
