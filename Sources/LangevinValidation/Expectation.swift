import LangevinTensor

/// What a case must give.
///
/// A small case is held to float64 in every element. A large one is held to float64 in a sample, which has the
/// last row and column, and in every element to a device that is trusted, computing in float32 from the same
/// inputs: so the two devices cannot be wrong together, and no element goes unseen.
struct Expectation {
  /// A reference result in float64 with its tolerances.
  private struct Part {
    /// Nil: all of them, in order.
    let elements: [Int]?
    let values: [Double]
    /// The float32 computation's error; nil where it must be exact.
    let bound: [Double]?
  }

  let output: TensorSpec
  private let parts: [Part]
  /// The trusted device's elements and how far from them an element may be, without its own rounding.
  private let whole: (values: Operand, bound: Double?)?

  /// Throws what shape inference and the trusted device throw.
  init(_ operation: Operation, _ inputs: [Operand], seed: UInt64, reference: Device) throws {
    let output = try operation.output(of: inputs.map(\.spec))
    self.output = output
    if Expectation.work(operation, inputs, output) < 3e8 {
      parts = [try Expectation.part(operation, inputs.map(\.array), elements: nil)]
      whole = nil
      return
    }
    if let source = Reference.source(operation, inputs.map(\.spec), ids: { Int(inputs[1][$0]) }) {
      let elements = Array(stride(from: 0, to: output.shape.count, by: max(1, output.shape.count / 65_537)))
      let values = elements.map { element in
        source(element).map { inputs[$0.input][$0.element] }
          ?? Reference.fillValue(operation, output.dtype)
      }
      parts = [Part(elements: elements, values: values, bound: nil)]
    } else {
      parts = try Restriction.sample(operation, inputs, output: output, seed: seed).map {
        try Expectation.part($0.operation, $0.inputs, elements: $0.elements)
      }
    }
    // The trusted device has an error of its own, and the largest bound of all elements is within twice the
    // largest of the sample, since the inputs end at 4.3 deviations.
    let bounds = parts.compactMap { $0.bound?.max() }
    let wide = inputs.map(\.widened)
    let tensors = try wide.map { operand in
      try operand.bytes.withUnsafeBytes { try Tensor(bytes: $0, operand.spec, on: reference) }
    }
    let result = try Tensor.apply(operation, tensors, on: reference)
    whole = (
      Operand(result.spec, bytes: try result.withBytes { [UInt8]($0) }), bounds.max().map { 4 * $0 }
    )
  }

  /// About how many multiplications float64 would take.
  private static func work(_ operation: Operation, _ inputs: [Operand], _ output: TensorSpec) -> Double {
    let count = Double(output.shape.count)
    return switch operation {
    case .matmul(let matmul):
      count * Double(matmul.transposeLeft ? inputs[0].spec.shape[-2] : inputs[0].spec.shape[-1])
    case .conv2d(let conv):
      count * Double(conv.kernel.height * conv.kernel.width * inputs[0].spec.shape[3])
    case .attention: 2 * count * Double(inputs[1].spec.shape[1])
    // Element by element, at some tens of nanoseconds each.
    default: 300 * inputs.reduce(count) { max($0, Double($1.spec.shape.count)) }
    }
  }

  private static func part(_ operation: Operation, _ inputs: [HostArray], elements: [Int]?) throws -> Part {
    let value = try Reference.evaluate(operation, inputs)
    let bound = try Tolerance.bound(operation, inputs, value: value, evaluate: Reference.evaluate)
    return Part(elements: elements, values: value.values, bound: bound)
  }

  /// The errors of an output.
  func compare(_ got: Operand) -> ErrorSummary {
    var collector = ErrorCollector(output)
    for part in parts {
      for (i, expected) in part.values.enumerated() {
        let element = part.elements?[i] ?? i
        collector.add(element: element, value: got[element], expected: expected, bound: part.bound?[i])
      }
    }
    var summary = collector.summary()
    if let whole {
      let (ratio, element) = worst(got, whole.values, whole.bound)
      summary.relativeToDevice = ratio
      if ratio > 1, ratio > summary.relative.maximum {
        summary.worst = Reference.coordinates(element, output.shape)
        summary.value = got[element]
        summary.expected = whole.values[element]
      }
    }
    return summary
  }

  /// The largest ratio of error to allowance over all elements, and where it is.
  private func worst(_ got: Operand, _ expected: Operand, _ bound: Double?) -> (Double, Int) {
    let dtype = output.dtype
    let count = output.shape.count
    let chunk = 1 << 16
    let chunks = (count + chunk - 1) / chunk
    return got.bytes.withUnsafeBytes { got in
      expected.bytes.withUnsafeBytes { other in
        nonisolated(unsafe) let (got, other) = (got, other)
        let places = parallelMap(chunks) { task in
          var (worst, place) = (0.0, task * chunk)
          for i in task * chunk..<min((task + 1) * chunk, count) {
            let value = Operand.element(got, i, dtype)
            let target = Operand.element(other, i, expected.spec.dtype)
            let error = dtype.error(value, target)
            if error == 0 { continue }
            let ratio = error / dtype.allowance(bound, at: target)
            if ratio > worst { (worst, place) = (ratio, i) }
          }
          return Double(place)
        }
        func ratio(_ i: Int) -> Double {
          let target = Operand.element(other, i, expected.spec.dtype)
          let error = dtype.error(Operand.element(got, i, dtype), target)
          return error == 0 ? 0 : error / dtype.allowance(bound, at: target)
        }
        return places.map { (ratio(Int($0)), Int($0)) }.max { $0.0 < $1.0 } ?? (0, 0)
      }
    }
  }
}
