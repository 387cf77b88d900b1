import LangevinTensor

/// Named tensors of a checkpoint: a file, several shards, or a file under other names.
public protocol WeightSource: AnyObject, Sendable {
  /// Every tensor's full name.
  var names: [String] { get }
  /// Nil for a name that does not exist, and for a dtype that tensors cannot have (such as int64).
  func spec(of name: String) -> TensorSpec?
  /// As `spec(of:)`; a source that makes its tensors up learns here which shape the model wants.
  func spec(of name: String, expecting shape: Shape) -> TensorSpec?
  /// The encoding of a tensor that is stored in blocks; nil where each number is by itself.
  func encoding(of name: String) -> BlockEncoding?
  /// How products with a tensor in blocks are computed.
  func arithmetic(of name: String) -> ProductArithmetic
  /// The blocks of a tensor that has an encoding, as they are stored: words of `BlockEncoding`.
  func loadBlocks(_ name: String, on device: Device) throws -> Tensor
  /// Copies one tensor to the device in the dtype in which it is stored; one in blocks as float32.
  func load(_ name: String, on device: Device) throws -> Tensor
  /// For messages: the path of the file or files.
  var description: String { get }
}

extension WeightSource {
  /// `spec(of:)`, whatever is expected.
  public func spec(of name: String, expecting shape: Shape) -> TensorSpec? { spec(of: name) }
  /// Nil: a source without blocks.
  public func encoding(of name: String) -> BlockEncoding? { nil }
  /// In float32.
  public func arithmetic(of name: String) -> ProductArithmetic { .float32 }
  /// Throws `WeightError.notInBlocks`.
  public func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    throw WeightError.notInBlocks(name: name, source: description)
  }
}

/// What can be wrong between a checkpoint and the model that is built from it.
public enum WeightError: Error, Sendable, Equatable, CustomStringConvertible {
  case missing(name: String, source: String)
  /// Tensors that no part of the model asked for, sorted.
  case unused(names: [String], source: String)
  /// A tensor has another shape than the layer; both shapes are in PyTorch's order.
  case wrongShape(name: String, expected: Shape, got: Shape, source: String)
  /// A parameter that is not of floating point.
  case unsupportedDType(name: String, source: String)
  /// Blocks were asked for of a tensor that has none.
  case notInBlocks(name: String, source: String)

  /// One line that names file and tensor.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .missing(let name, let source): return "\(source): tensor \(name) is missing"
    case .unused(let names, let source):
      let shown = names.prefix(5).joined(separator: ", ")
      let rest = names.count > 5 ? " and \(names.count - 5) more" : ""
      let what = names.count == 1 ? "a tensor" : "tensors"
      return "\(source): the model has no use for \(what) of this file: \(shown)\(rest)"
    case .wrongShape(let name, let expected, let got, let source):
      return "\(source): tensor \(name) has shape \(got), the model's configuration needs \(expected)"
    case .unsupportedDType(let name, let source):
      return "\(source): tensor \(name) is not of a floating-point type"
    case .notInBlocks(let name, let source):
      return "\(source): tensor \(name) is not stored in blocks"
    }
  }
}
