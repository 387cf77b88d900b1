import LangevinTensor

/// Operations that only move elements: where each element of the output comes from.
extension Reference {
  /// For each element of the output, which element of which input it is; nil where it is the operation's fill. Nil
  /// for operations that compute. `read` gives an input's element, such as an id.
  static func source(
    _ operation: Operation, _ inputs: [Shape], _ output: Shape, read: @escaping Locality.Source.Reader
  ) -> (place: (Int) -> (input: Int, element: Int)?, fill: Double)? {
    guard case .moved(let source) = operation.definition.locality else { return nil }
    return (source.place(inputs, output, read), source.fill)
  }

  static func moved(_ operation: Operation, _ inputs: [HostArray], _ spec: TensorSpec) -> [Double] {
    let source = source(operation, inputs.map(\.shape), spec.shape) { inputs[$0].values[$1] }
    guard let (place, fill) = source else { return [] }
    let other = spec.dtype.round(fill)
    return parallelMap(spec.shape.count) { i in
      place(i).map { inputs[$0.input].values[$0.element] } ?? other
    }
  }

  /// The element that a shape's stretching to `output` repeats at an element of the output.
  static func broadcastPlace(_ shape: Shape, _ output: Shape) -> (Int) -> Int {
    let strides = shape.broadcastStrides(to: output)
    return { zip(output.index(of: $0), strides).reduce(0) { $0 + $1.0 * $1.1 } }
  }
}
