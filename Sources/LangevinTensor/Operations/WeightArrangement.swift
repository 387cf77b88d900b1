/// Element (tap, channel, column) of the source lies at the sum of index times stride; it becomes row
/// `tap * channels + channel` of a [taps * channels, columns] matrix in `layout`.
public struct WeightArrangement: Sendable, Hashable, Codable {
  /// Rows times columns of the kernel; 1 for a linear weight.
  public var taps: Int
  /// How many input channels each tap of the kernel has.
  public var channels: Int
  /// How many outputs, the matrix's columns.
  public var columns: Int
  /// In elements of the source, as the two below.
  public var tapStride: Int
  /// Between neighbouring channels, in elements of the source.
  public var channelStride: Int
  /// Between neighbouring columns, in elements of the source.
  public var columnStride: Int
  /// How the result lies in memory.
  public var layout: MatrixLayout

  /// PyTorch's Linear weight [columns, channels].
  public static func linear(_ columns: Int, _ channels: Int, layout: MatrixLayout) -> WeightArrangement {
    WeightArrangement(
      taps: 1, channels: channels, columns: columns, tapStride: 0, channelStride: 1, columnStride: channels,
      layout: layout)
  }

  /// PyTorch's convolution weight [columns, channels, taps...].
  public static func convolution(_ columns: Int, _ channels: Int, taps: Int, layout: MatrixLayout)
    -> WeightArrangement
  {
    WeightArrangement(
      taps: taps, channels: channels, columns: columns, tapStride: 1, channelStride: taps,
      columnStride: channels * taps, layout: layout)
  }
}

extension WeightArrangement: OperationDefinition {
  public var operationKind: Operation.Kind { .arrangeWeight }
  public var family: OperationFamily { .movement }

  public func operand(_ index: Int) -> OperandDefinition { OperandDefinition("weight") }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(1)
    let rows = try inputs.product(taps, channels)
    let count = try inputs.product(rows, columns)
    try inputs.require(
      inputs[0].count == count, "the weight does not hold \(rows) x \(columns) elements")
    let steps = [(taps, tapStride), (channels, channelStride), (columns, columnStride)]
    let last = try steps.reduce(0) { try $0 + inputs.product(max($1.0 - 1, 0), $1.1) }
    try inputs.require(last < max(count, 1), "its strides lead out of the weight")
    if case .panels(let width, let columns) = layout {
      try inputs.require(width > 0 && columns == self.columns, "the panels do not fit the columns")
    }
    return inputs.like(layout.storing(rows: rows, columns: columns).1)
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: 0, inputs, output)
  }

  public var decomposition: Decomposition? { nil }

  /// Of a checkpoint's own order, [columns, channels, taps], into rows or columns.
  public var gradient: GradientRule {
    if case .panels = layout { return .undefined }
    return .linear { g, call in
      try layout.rowMajor(g).reshaped([taps, channels, columns]).transposed([2, 1, 0])
        .reshaped(call.specs[0].shape)
    }
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }

  public var locality: Locality {
    .moved(
      .init { _, output, _ in
        { element in
          let index = output.index(of: element)
          let (row, column) =
            switch layout {
            case .rowMajor: (index[0], index[1])
            case .transposed: (index[1], index[0])
            case .panels(let width, _): (index[1], index[0] * width + index[2])
            }
          guard column < columns else { return nil }
          let (tap, channel) = (row / channels, row % channels)
          return (0, tap * tapStride + channel * channelStride + column * columnStride)
        }
      })
  }

  public func extents(of inputs: [TensorSpec]) -> Extents {
    .own([channels, columns]) { values in
      let layout = layout.storing(rows: 1, columns: values[1]).0
      return (
        .arrangeWeight(.convolution(values[1], values[0], taps: taps, layout: layout)),
        [[values[1], values[0], taps]]
      )
    }
  }

  public var representative: Operation { .arrangeWeight(self) }
}
