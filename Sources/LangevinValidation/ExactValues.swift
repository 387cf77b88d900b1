import LangevinTensor

/// An operation's output in float64, and how far from it float32 may be: of a small operation every element, of a
/// large one a sample, which has the last row and column.
struct ExactValues {
  private struct Part {
    /// Nil: all of them, in order.
    let elements: [Int]?
    let values: [Double]
    /// The float32 computation's error; nil where it must be exact.
    let bound: [Double]?
  }

  let output: TensorSpec
  /// Whether every element is there.
  let isComplete: Bool
  private let parts: [Part]

  /// `including`: elements of the output that a sample must have. Throws what shape inference throws.
  init(_ operation: Operation, _ inputs: [Operand], seed: UInt64, including: [Int] = []) throws {
    let output = try operation.output(of: inputs.map(\.spec))
    self.output = output
    isComplete = ExactValues.work(operation, inputs, output) < 3e8
    if isComplete {
      parts = [try ExactValues.part(operation, inputs.map(\.array), elements: nil)]
    } else if let source = Reference.source(
      operation, inputs.map(\.spec.shape), output.shape, read: { inputs[$0][$1] })
    {
      let every = stride(from: 0, to: output.shape.count, by: max(1, output.shape.count / 65_537))
      let elements = Array(every) + including
      let fill = output.dtype.round(source.fill)
      let values = elements.map { element in
        source.place(element).map { inputs[$0.input][$0.element] } ?? fill
      }
      parts = [Part(elements: elements, values: values, bound: nil)]
    } else {
      let sample = Restriction.sample(operation, inputs, output: output, seed: seed, including: including)
      parts = try sample.map {
        try ExactValues.part($0.operation, $0.inputs, ties: $0.ties, elements: $0.elements)
      }
    }
  }

  /// About how many multiplications float64 would take; element by element, at some tens of nanoseconds each.
  private static func work(_ operation: Operation, _ inputs: [Operand], _ output: TensorSpec) -> Double {
    let elements = inputs.reduce(output.shape.count) { max($0, $1.spec.shape.count) }
    let arithmetic = operation.work(inputs: inputs.map(\.spec), output: output).flops / 2
    return switch operation.definition.locality {
    case .product, .convolution, .channels, .heads: arithmetic
    case .whole, .moved, .elements, .halves, .rows, .tokens, .groups, .groupGradients:
      max(arithmetic, 300 * Double(elements))
    }
  }

  private static func part(
    _ operation: Operation, _ inputs: [HostArray], ties: HostArray? = nil, elements: [Int]?
  ) throws -> Part {
    let value = try Reference.evaluate(operation, inputs)
    let bound = try Tolerance.bound(
      operation, inputs, ties: ties, value: value, evaluate: Reference.evaluate)
    return Part(elements: elements, values: value.values, bound: bound)
  }

  /// The largest that an element may be off; nil where all must be exact.
  var largestBound: Double? { parts.compactMap { $0.bound?.max() }.max() }

  /// The errors of a result, each held to what its own dtype allows: the trusted device's has not been rounded.
  func compare(_ got: Operand) -> ErrorSummary {
    var collector = ErrorCollector(got.spec)
    for part in parts {
      for (i, expected) in part.values.enumerated() {
        let element = part.elements?[i] ?? i
        collector.add(element: element, value: got[element], expected: expected, bound: part.bound?[i])
      }
    }
    return collector.summary()
  }
}
