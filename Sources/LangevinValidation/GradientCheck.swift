import LangevinTensor

/// Whether an operation's gradient is the derivative of its value, in float64: both along random directions, the
/// derivative by central differences of fourth order of the reference.
public enum GradientCheck {
  /// The largest difference over the inputs and directions of a case, relative to the derivative or, where terms cancel,
  /// to what random terms of their size would sum to.
  ///
  /// Nil where no input has a gradient. Throws what the rule throws.
  public static func error(_ test: OperationCase, seed: UInt64, directions: Int = 3) throws -> Double? {
    let device = Device(ReferenceBackend())
    let operation = test.operation(.float32)
    let inputs = try test.tensors(test.arrays(dtype: .float32, seed: seed), on: device)
    let output = try operation.output(of: inputs.map(\.spec))
    guard output.dtype.isFloatingPoint, output.shape.count > 0 else { return nil }
    let cotangent = Operand(output, .normal, seed: seed &+ 77).array.values

    func value(_ inputs: [Tensor]) throws -> Double {
      let y = try ReferenceBackend.values(of: Tensor.apply(operation, inputs, on: device))
      return zip(y, cotangent).reduce(0) { $0 + $1.0 * $1.1 }
    }

    let tape = Tape()
    let watched = inputs.map { $0.dtype.isFloatingPoint ? tape.watch($0) : $0 }
    let y = try Tensor.apply(operation, watched, on: device)
    let weights = try HostArray(output, cotangent).tensor(on: device)
    let axes = Array(0..<output.shape.rank)
    let loss = try (y * weights).reduced(.sum, axes: axes).reshaped([1])
    let gradients: [Tensor?]
    do { gradients = try tape.gradients(of: loss, at: watched) } catch GradientError.untracedLoss {
      return nil
    }

    var worst: Double?
    for (index, gradient) in gradients.enumerated() {
      guard let gradient, inputs[index].shape.count > 0 else { continue }
      let slope = try ReferenceBackend.values(of: gradient)
      for direction in 0..<directions {
        var generator = Generator(seed: seed &+ UInt64(index * 31 + direction))
        let signs = slope.map { _ in generator.next() & 1 == 0 ? 1.0 : -1.0 }
        let step = 0x1p-13
        func moved(_ steps: Double) throws -> Double {
          var inputs = inputs
          let delta = try HostArray(inputs[index].spec, signs.map { $0 * steps * step }).tensor(on: device)
          inputs[index] = try inputs[index] + delta
          return try value(inputs)
        }
        let measured = try (8 * (moved(1) - moved(-1)) - moved(2) + moved(-2)) / (12 * step)
        let claimed = zip(slope, signs).reduce(0) { $0 + $1.0 * $1.1 }
        let size = slope.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let error = abs(measured - claimed) / max(abs(claimed), size, 1e-12)
        // What is not a number is worst.
        worst = max(worst ?? 0, error.isNaN ? .infinity : error)
      }
    }
    return worst
  }
}
