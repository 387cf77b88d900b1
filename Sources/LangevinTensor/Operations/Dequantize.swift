/// The numbers of blocks one after another: int32 words -> float32 [count].
struct Dequantize: OperationDefinition {
  var encoding: BlockEncoding

  var operationKind: Operation.Kind { .dequantize }
  var name: String { "dequantize_\(encoding.rawValue)" }
  var family: OperationFamily { .movement }

  func operand(_ index: Int) -> OperandDefinition {
    OperandDefinition("words", domain: .blocks(encoding))
  }

  func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.expect(1)
    return TensorSpec([try inputs.blockCount(0, encoding)])
  }

  func work(of inputs: [TensorSpec], output: TensorSpec) -> Work { Work(perElement: 1, inputs, output) }
  var decomposition: Decomposition? { nil }

  var gradient: GradientRule { .none }

  /// One rounding at most, of a difference of numbers that are exact in float32.
  func accuracy(of inputs: [TensorSpec]) -> Accuracy { .exact }
  var locality: Locality { .whole }
  func extents(of inputs: [TensorSpec]) -> Extents { .inputs(representative) }
  var representative: Operation { .dequantize(encoding) }
}

extension OperandSpecs {
  /// How many numbers an operand of words holds.
  func blockCount(_ index: Int, _ encoding: BlockEncoding) throws -> Int {
    guard let count = encoding.count(inputs[index]) else {
      throw failure("the words must be int32 [n], whole blocks of \(encoding.rawValue)")
    }
    return count
  }
}

extension Tensor {
  /// The numbers of blocks, float32 [count]; self is their words.
  public func dequantized(_ encoding: BlockEncoding) throws -> Tensor {
    try device.apply(.dequantize(encoding), [self])
  }
}
