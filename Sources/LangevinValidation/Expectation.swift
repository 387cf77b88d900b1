import LangevinTensor

/// What a case must give.
///
/// A small case is held to float64 in every element. A large one is held to float64 in a sample, and in every element
/// to a device that is trusted, computing in float32 from the same inputs: so the two devices cannot be wrong
/// together, and no element goes unseen. Where the two disagree, float64 says who is right.
struct Expectation {
  private let operation: Operation
  private let inputs: [Operand]
  private let seed: UInt64
  private let exact: ExactValues
  /// The trusted device's elements and how far from them an element may be, without its own rounding.
  private let whole: (values: Operand, bound: Double?)?

  var output: TensorSpec { exact.output }

  /// Throws what shape inference and the trusted device throw.
  init(_ operation: Operation, _ inputs: [Operand], seed: UInt64, reference: Device) throws {
    (self.operation, self.inputs, self.seed) = (operation, inputs, seed)
    exact = try ExactValues(operation, inputs, seed: seed)
    guard !exact.isComplete else {
      whole = nil
      return
    }
    let tensors = try inputs.map(\.widened).map { operand in
      try operand.bytes.withUnsafeBytes { try Tensor(bytes: $0, operand.spec, on: reference) }
    }
    let result = try Tensor.apply(operation, operation.packing(tensors), on: reference)
    // The trusted device has an error of its own, and the largest bound of all elements is within twice the
    // largest of the sample, since the inputs end at 4.3 deviations.
    whole = (
      Operand(result.spec, bytes: try result.withBytes { [UInt8]($0) }), exact.largestBound.map { 4 * $0 }
    )
  }

  /// The errors of an output. Throws what float64 throws.
  func compare(_ got: Operand) throws -> ErrorSummary {
    var summary = exact.compare(got)
    guard let whole else { return summary }
    let (ratio, differing) = disagreement(got, whole.values, whole.bound)
    summary.relativeToDevice = ratio
    guard !differing.isEmpty else { return summary }
    let judge = try ExactValues(operation, inputs, seed: seed, including: differing)
    let device = judge.compare(got)
    summary.referenceError = judge.compare(whole.values).relative.maximum
    summary.relativeToDevice = device.relative.maximum
    if !(device.relative.maximum <= summary.relative.maximum) {
      (summary.worst, summary.value, summary.expected) = (device.worst, device.value, device.expected)
    }
    return summary
  }

  /// The largest ratio of error to allowance over all elements, and where it is more than 1: of each stretch of the
  /// output the worst element, 64 at most.
  private func disagreement(_ got: Operand, _ expected: Operand, _ bound: Double?) -> (Double, [Int]) {
    let dtype = output.dtype
    let count = output.shape.count
    let chunk = 1 << 16
    let chunks = (count + chunk - 1) / chunk
    return got.bytes.withUnsafeBytes { got in
      expected.bytes.withUnsafeBytes { other in
        nonisolated(unsafe) let (got, other) = (got, other)
        func ratio(_ i: Int) -> Double {
          let target = Operand.element(other, i, expected.spec.dtype)
          let error = dtype.error(Operand.element(got, i, dtype), target)
          return error == 0 ? 0 : error / dtype.allowance(bound, at: target)
        }
        let places = parallelMap(chunks) { task in
          var (worst, place) = (0.0, task * chunk)
          for i in task * chunk..<min((task + 1) * chunk, count) {
            let ratio = ratio(i)
            // Not `>`: what is not a number is worst.
            if !(ratio <= worst) { (worst, place) = (ratio.isNaN ? .infinity : ratio, i) }
          }
          return Double(place)
        }
        let ranked = places.map { (ratio: ratio(Int($0)), place: Int($0)) }.sorted { $0.ratio > $1.ratio }
        return (ranked.first?.ratio ?? 0, ranked.prefix(64).filter { !($0.ratio <= 1) }.map(\.place))
      }
    }
  }
}
