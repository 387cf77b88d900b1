import LangevinTensor

/// Operations that only move elements: where each element of the output comes from.
extension Reference {
  /// Output element i is `element` of input `input`, or `fillValue` where that is nil. Nil for operations that
  /// compute. `ids` reads the second input.
  static func source(_ operation: Operation, _ inputs: [TensorSpec], ids: @escaping (Int) -> Int)
    -> ((Int) -> (input: Int, element: Int)?)?
  {
    guard let output = try? operation.output(of: inputs).shape, let own = inputs.first?.shape else {
      return nil
    }
    /// From the output's index to the first input's.
    func gather(_ place: @escaping ([Int]) -> [Int]?) -> (Int) -> (input: Int, element: Int)? {
      let strides = own.strides
      return { i in
        place(coordinates(i, output)).map { (0, zip($0, strides).reduce(0) { $0 + $1.0 * $1.1 }) }
      }
    }
    switch operation {
    case .embedding:
      let width = own[1]
      return { i in (0, ids(i / width) * width + i % width) }
    case .transpose(let permutation):
      return gather { index in
        var source = index
        for axis in index.indices { source[permutation[axis]] = index[axis] }
        return source
      }
    case .broadcast(let shape):
      let place = broadcastPlace(own, shape)
      return { (0, place($0)) }
    case .slice(let slice): return gather { index in zip(index, slice.starts).map { $0 + $1 } }
    case .concatenate(let axis):
      var owners: [(input: Int, start: Int)] = []
      var start = 0
      for (i, input) in inputs.enumerated() {
        owners += [(input: Int, start: Int)](repeating: (i, start), count: input.shape[axis])
        start += input.shape[axis]
      }
      return { i in
        var index = coordinates(i, output)
        let (input, start) = owners[index[axis]]
        index[axis] -= start
        return (input, zip(index, inputs[input].shape.strides).reduce(0) { $0 + $1.0 * $1.1 })
      }
    case .pad(let pad):
      return gather { index in
        let source = zip(index, pad.before).map { $0 - $1 }
        return source.indices.allSatisfy { (0..<own[$0]).contains(source[$0]) } ? source : nil
      }
    case .upsampleNearest(let factor): return gather { [$0[0], $0[1] / factor, $0[2] / factor, $0[3]] }
    case .arrangeWeight(let arrangement):
      return { i in
        let index = coordinates(i, output)
        let (row, column) =
          switch arrangement.layout {
          case .rowMajor: (index[0], index[1])
          case .transposed: (index[1], index[0])
          case .panels(let width, _): (index[1], index[0] * width + index[2])
          }
        guard column < arrangement.columns else { return nil }
        let (tap, channel) = (row / arrangement.channels, row % arrangement.channels)
        return (
          0,
          tap * arrangement.tapStride + channel * arrangement.channelStride + column
            * arrangement.columnStride
        )
      }
    // The others compute.
    default: return nil
    }
  }

  /// What stands where nothing comes from.
  static func fillValue(_ operation: Operation, _ dtype: DType) -> Double {
    if case .pad(let pad) = operation { return dtype.round(Double(pad.value)) }
    return 0
  }

  /// The element that a shape's stretching to `output` repeats at an element of the output.
  static func broadcastPlace(_ shape: Shape, _ output: Shape) -> (Int) -> Int {
    let strides = shape.strides
    let lead = output.rank - shape.rank
    return { i in
      let index = coordinates(i, output)
      return (0..<shape.rank).reduce(0) { $0 + (shape[$1] == 1 ? 0 : index[lead + $1] * strides[$1]) }
    }
  }
}
