import LangevinTensor

/// Named tensors of a checkpoint, read one at a time.
public protocol WeightSource: AnyObject, Sendable {
  /// Every tensor's name, in the checkpoint's order.
  var names: [String] { get }

  /// The shape and dtype of a tensor as stored; nil where there is no such tensor or its dtype has no equal here.
  func spec(of name: String) -> TensorSpec?

  /// Copies a tensor to a device in the dtype in which it is stored.
  ///
  /// Throws where there is no such tensor or its dtype is not supported.
  func load(_ name: String, on device: Device) throws -> Tensor

  /// Where the tensors come from, for messages.
  var description: String { get }
}
