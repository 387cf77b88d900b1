import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor

/// One file of named tensors, in either format: safetensors or GGUF.
protocol TensorFile: WeightSource {
  /// Where the file lies.
  var url: URL { get }
  /// The shape of a tensor of whatever dtype; nil where there is no such tensor.
  func shape(of name: String) -> Shape?
  /// Rows of the first axis, or all of them. Throws as `load` does.
  func load(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor
  /// As `loadBlocks`, of rows that are whole blocks.
  func loadBlocks(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor
  /// GGUF's type of a tensor; nil where there is no such tensor, or GGUF has no such type.
  func ggufType(of name: String) -> GGUFType?
  /// The value of an int64 tensor of one element; nil where there is none of this name.
  func integer(_ name: String) -> Int64?
  /// The bytes of a tensor as the file has them. Throws `CheckpointError.missingTensor` and what `body` throws.
  func withBytes<Result>(of name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result
}

extension TensorFile {
  /// The file's path, for messages.
  public var description: String { url.path }

  /// Throws `CheckpointError.missingTensor`.
  func requiredShape(of name: String) throws -> Shape {
    guard let shape = shape(of: name) else { throw CheckpointError.missingTensor(path: url.path, name: name) }
    guard shape.rank > 0 else {
      throw CheckpointError.malformed(path: url.path, reason: "tensor '\(name)' has no axes")
    }
    return shape
  }

  func loadBlocks(_ name: String, rows: Range<Int>?, on device: Device) throws -> Tensor {
    throw WeightError.notInBlocks(name: name, source: description)
  }
}

/// Which of the formats a file has.
enum TensorFiles {
  /// Throws `CheckpointError` as the formats' own files do.
  static func open(_ url: URL) throws -> any TensorFile {
    let file = try CheckpointError.reading(url, RegularFile.init(path:))
    let isGGUF = withExtendedLifetime(file) { file.bytes.starts(with: GGUFHeader.magic) }
    return isGGUF ? try GGUFFile(url: url) : try SafetensorsFile(url: url)
  }
}
