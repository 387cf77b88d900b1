import LangevinCPU
import LangevinTensor
import Testing

import enum LangevinTensor.Operation

@testable import LangevinValidation

/// Faults of a norm's statistics, planted in a backend that computes in float32; `MutationTests` plants them in the
/// kernels.
@Suite struct NormFaultTests {
  enum Fault: CaseIterable {
    /// E[x^2] - mean^2.
    case cancels
    /// The mean is rounded to float before it is subtracted.
    case roundsTheMean
    /// One float sums all deviations from the first element of each channel.
    case sumsInFloat
  }

  /// A norm of the elements that belong together; `x` by channel, each channel's pixels in order.
  private static func normalised(_ x: [[Float]], _ epsilon: Float, _ fault: Fault?) -> [[Float]] {
    let count = Double(x.reduce(0) { $0 + $1.count })
    var mean = x.reduce(0) { $1.reduce($0) { $0 + Double($1) } } / count
    if fault == .sumsInFloat {
      mean =
        x.reduce(0) { total, channel in
          total + Double(channel.reduce(0 as Float) { $0 + ($1 - channel[0]) })
            + Double(channel.count) * Double(channel[0])
        } / count
    }
    if fault == .roundsTheMean { mean = Double(Float(mean)) }
    var variance = x.reduce(0) { $1.reduce($0) { $0 + (Double($1) - mean) * (Double($1) - mean) } } / count
    if fault == .cancels {
      let squares = x.reduce(0) { $0 + Double($1.reduce(0 as Float) { $0 + $1 * $1 }) }
      variance = Double(max(Float(squares / count) - Float(mean) * Float(mean), 0))
    }
    let scale = 1 / (variance + Double(epsilon)).squareRoot()
    return x.map { $0.map { Float((Double($0) - mean) * scale) } }
  }

  private static func values(_ operation: Operation, _ inputs: [HostArray], _ fault: Fault?) -> [Float]? {
    let (x, shape) = (inputs[0].values.map { Float($0) }, inputs[0].shape)
    var y = [Float](repeating: 0, count: x.count)
    let width = shape[-1]
    /// Of each set of channels, each with its places.
    func norm(_ sets: [[[Int]]], _ epsilon: Float) {
      for places in sets {
        for (channel, values) in zip(
          places, normalised(places.map { $0.map { x[$0] } }, epsilon, fault))
        {
          for (place, value) in zip(channel, values) { y[place] = value }
        }
      }
    }
    switch operation {
    case .groupNorm(let group):
      let (size, pixels) = (width / group.groups, x.count / shape[0] / width)
      norm(
        (0..<shape[0] * group.groups).map { index in
          (0..<size).map { channel in
            (0..<pixels).map { pixel in
              (index / group.groups * pixels + pixel) * width + index % group.groups * size + channel
            }
          }
        }, group.epsilon)
      for i in y.indices {
        let value = y[i] * Float(inputs[1].values[i % width]) + Float(inputs[2].values[i % width])
        y[i] = Float(Reference.activate(group.activation, Double(value)))
      }
    case .layerNorm(let layer):
      norm((0..<x.count / width).map { row in [Array(row * width..<(row + 1) * width)] }, layer.epsilon)
      for i in y.indices where layer.affine {
        y[i] = y[i] * Float(inputs[1].values[i % width]) + Float(inputs[2].values[i % width])
      }
    default: return nil
    }
    return y
  }

  private func failures(_ kind: Operation.Kind, _ fault: Fault?) throws -> [String] {
    let device = Device(Tampered(values: { Self.values($0, $1, fault) }))
    var validator = Validator(version: "test", reference: Device(CPUBackend()))
    (validator.shrinks, validator.dtypes, validator.repeats) = (false, [.float32], 1)
    let cases = OperationCases.edge.filter { $0.operation(.float32).kind == kind }
    return try validator.run(cases, on: device).devices[0].cases
      .filter { $0.outcome == .failed }.map { "\($0.name): \($0.problem)" }
  }

  @Test(arguments: [Operation.Kind.groupNorm, .layerNorm], Fault.allCases)
  func isCaught(kind: Operation.Kind, fault: Fault) throws {
    #expect(try !failures(kind, fault).isEmpty)
  }

  @Test(arguments: [Operation.Kind.groupNorm, .layerNorm])
  func nothingElseIs(kind: Operation.Kind) throws {
    let failures = try failures(kind, nil)
    #expect(failures.isEmpty, "\(failures)")
  }
}
