/// An operation with the shapes that it is called with.
public struct OperationCall: Sendable, Hashable, Codable {
  /// The operation that is called.
  public let operation: Operation
  /// In the operation's order.
  public let inputs: [TensorSpec]
  /// The output's shape and dtype.
  public let output: TensorSpec

  /// `output` is what shape inference gives.
  public init(_ operation: Operation, inputs: [TensorSpec], output: TensorSpec) {
    (self.operation, self.inputs, self.output) = (operation, inputs, output)
  }
}
