import Langevin
import LangevinNN
import LangevinTensor
import LangevinValidation

/// One target's operands on its device.
struct TunerTrial<Backend: TunableBackend> {
  let target: TuningTarget<Backend.Key>
  let operation: Operation
  private let device: Device
  private let backend: Backend
  /// Sets of operands in turn, so that weights do not lie in a cache that the model would have overwritten.
  private let operands: [[Tensor]]
  /// With the shipped parameters.
  private let expected: [Float]

  /// What comes from a launch that is not timed.
  struct FirstLaunch {
    let resources: KernelResources?
    /// Why the numbers are not right.
    let fault: String?
  }

  init(_ target: TuningTarget<Backend.Key>, on device: Device, _ backend: Backend) throws {
    self.target = target
    self.device = device
    self.backend = backend
    let test = target.test
    operation = test.operation(target.dtype)
    let specs = test.specs(target.dtype)
    let bytes = specs.reduce(0) { $0 + $1.byteCount }
    let packing = operation
    operands = try (0..<max(1, min(4, (64 << 20) / max(bytes, 1)))).map { set in
      let rowMajor = try specs.enumerated().map { index, spec in
        try Tensor.normal(
          spec.shape, seed: 0x7E57, stream: UInt32(index), step: UInt32(set), on: device
        ).cast(to: spec.dtype)
      }
      return try packing.packing(rowMajor)
    }
    let (launched, first) = (operation, operands[0])
    var expected: [Float] = []
    _ = try backend.trying(backend.shippedParameters(target.key)) {
      expected = try Tensor.apply(launched, first, on: device).floats()
    }
    self.expected = expected
  }

  /// Builds the kernel, runs it once and compares its numbers with the shipped parameters'.
  ///
  /// Throws `TensorError` where the kernel cannot be built or launched.
  func launch(_ parameters: Backend.Parameters) throws -> FirstLaunch {
    var result: [Float] = []
    let resources = try backend.trying(parameters) {
      result = try Tensor.apply(operation, operands[0], on: device).floats()
    }
    return FirstLaunch(resources: resources, fault: fault(result))
  }

  /// Seconds of each of `launches` launches, by the device's clock.
  func time(_ parameters: Backend.Parameters, launches: Int) throws -> [Double] {
    var seconds: [Int: Double] = [:]
    _ = try backend.trying(parameters) {
      try backend.startRecording()
      do {
        for index in 0..<launches {
          _ = try Tensor.apply(operation, operands[index % operands.count], on: device)
        }
        for record in try backend.takeRecords() {
          seconds[record.sequence, default: 0] += Double(record.ended - record.started) * 1e-9
        }
      } catch {
        try backend.stopRecording()
        throw error
      }
      try backend.stopRecording()
    }
    return Array(seconds.values)
  }

  /// The first number that rounding does not explain. Both results carry errors of a sum of K terms of which
  /// the root of the sum of squares is about the output's root mean square (the operands are standard normal):
  /// twice the bound of `Tolerance`, with room for an activation's slope.
  private func fault(_ result: [Float]) -> String? {
    guard result.count == expected.count else {
      return "\(result.count) numbers instead of \(expected.count)"
    }
    var inner = target.work.flops / Double(max(expected.count, 1))
    if case .attention(let attention) = operation {
      // A score's error counts as much as a value's: 8 (largest score + 1), as `Tolerance` has it.
      let largest = 4 * Double(target.test.inputs[0].shape[2] / attention.heads).squareRoot()
      inner = 64 * (largest + 1) * (largest + 1) + 4 * Double(target.test.inputs[1].shape[1])
    }
    let square = expected.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(max(expected.count, 1))
    let factor = 0x1p-24 * 2 * (1.13 * inner.squareRoot() + 16)
    let scale = operation.kind == .attention ? 1 : 8 * square.squareRoot()
    let rounding = target.dtype == .float32 ? 0 : 2 * target.dtype.unitRoundoff
    for index in result.indices {
      let (got, wanted) = (Double(result[index]), Double(expected[index]))
      let allowed = factor * (scale + abs(wanted)) + rounding * abs(wanted) + 1e-7
      if !(abs(got - wanted) <= allowed) {
        return "element \(index) is \(got), with the shipped parameters it is \(wanted)"
      }
    }
    return nil
  }
}
