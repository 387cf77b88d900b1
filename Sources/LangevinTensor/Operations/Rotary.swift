/// Within each head's D channels.
public struct Rotary: Sendable, Hashable, Codable {
  /// Which channels are turned together.
  public enum Pairs: String, Sendable, Hashable, CaseIterable, Codable {
    /// 2i and 2i + 1.
    case interleaved
    /// i and i + D / 2.
    case halves
  }
  /// They divide the channels into even numbers.
  public var heads: Int
  /// By default neighbours.
  public var pairs: Pairs

  /// By default neighbouring channels are turned together.
  public init(heads: Int, pairs: Pairs = .interleaved) {
    self.heads = heads
    self.pairs = pairs
  }
}

extension Rotary: OperationDefinition {
  public var operationKind: Operation.Kind { .rotary }
  public var family: OperationFamily { .elements }

  public func operand(_ index: Int) -> OperandDefinition {
    index == 0
      ? OperandDefinition("x") : OperandDefinition(index == 1 ? "cosines" : "sines", isAlwaysFloat32: true)
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(3)
    let x = inputs[0]
    try inputs.require(inputs.inputs[0].dtype.isFloatingPoint, "needs a floating-point x")
    try inputs.require(x.rank == 3, "x must be [N, T, C]")
    try inputs.require(
      heads > 0 && x[2] % (2 * heads) == 0, "\(x[2]) channels do not split into pairs of \(heads) heads")
    let table = TensorSpec([x[1], x[2] / heads / 2])
    try inputs.require(
      inputs.inputs[1] == table && inputs.inputs[2] == table,
      "cosines and sines must be float32 \(table.shape)")
    return inputs.inputs[0]
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    Work(perElement: 3, inputs, output)
  }

  public var decomposition: Decomposition? {
    { inputs in
      let (x, count) = (inputs[0], inputs[1].shape[1])
      // The axis of two, and where the angle's axis is beside it.
      let axis = pairs == .interleaved ? 4 : 3
      let two = pairs == .interleaved ? [count, 2] : [2, count]
      let split = try x.reshaped(Shape([x.shape[0], x.shape[1], heads] + two))
      let (a, b) = (try split.sliced(0..<1, axis: axis), try split.sliced(1..<2, axis: axis))
      let angles: Shape = pairs == .interleaved ? [x.shape[1], 1, count, 1] : [x.shape[1], 1, 1, count]
      let (c, s) = (try inputs[1].reshaped(angles), try inputs[2].reshaped(angles))
      return try Tensor.concatenated([a * c - b * s, a * s + b * c], axis: axis).reshaped(x.shape)
    }
  }

  /// Turned back. The tables are taken for constants.
  public var gradient: GradientRule {
    .rule(keeps: [1, 2]) { call in
      let sines = try call.input(2).map(.negate)
      return [try Tensor.apply(.rotary(self), [call.gradient, call.input(1), sines]), nil, nil]
    }
  }

  /// Two products and their sum.
  public func accuracy(of inputs: [TensorSpec]) -> Accuracy {
    let (x, count) = (inputs[0].shape, inputs[1].shape[1])
    return .elements { values, i, _ in
      let channel = i % (2 * count)
      let isInterleaved = pairs == .interleaved
      let isSecond = isInterleaved ? channel % 2 == 1 : channel >= count
      let other = values[0][i + (isSecond ? -1 : 1) * (isInterleaved ? 1 : count)]
      let angle = i / x[2] % x[1] * count + (isInterleaved ? channel / 2 : channel % count)
      return 3 * 0x1p-24 * (abs(values[0][i] * values[1][angle]) + abs(other * values[2][angle]))
    }
  }

  public var locality: Locality { .tokens }
  public func extents(of inputs: [TensorSpec]) -> Extents { .inputs(.rotary(self)) }
  public var representative: Operation { .rotary(self) }
}
