import Foundation
import LangevinModels
import LangevinTensor

/// The inputs of one component's call, by the names of the reference's forward signature and in PyTorch's layouts.
/// It keeps count of which were asked for, so that none is ignored.
public final class ComponentInputs {
  /// Where the component computes.
  public let device: Device
  /// In which the component's weights and activations are stored.
  public let dtype: DType
  private let file: SafetensorsFile
  private var used: Set<String> = []
  private let tape: Tape?
  /// Floating-point inputs that the tape watches, in float32 and PyTorch's layouts.
  private(set) var watched: [String: Tensor] = [:]

  /// The tensors of a file, watched by a tape where there is one.
  init(_ file: SafetensorsFile, on device: Device, as dtype: DType, watchedBy tape: Tape? = nil) {
    (self.file, self.device, self.dtype, self.tape) = (file, device, dtype, tape)
  }

  /// Whether there is an input of this name.
  public func contains(_ name: String) -> Bool { file.shape(of: name) != nil }

  private func require(_ name: String) throws {
    guard contains(name) else { throw CheckpointError.missingTensor(path: file.url.path, name: name) }
    used.insert(name)
  }

  /// A floating-point input as it is stored, in the component's dtype: [N, T, C], [N, C].
  ///
  /// Throws `CheckpointError.missingTensor`, and `.malformed` for integers.
  public func tensor(_ name: String) throws -> Tensor {
    try require(name)
    let tensor = try file.load(name, on: device)
    guard tensor.dtype.isFloatingPoint else { throw malformed(name, "is not floating point") }
    guard let tape else { return try tensor.cast(to: dtype) }
    let variable = try watched[name] ?? tape.watch(tensor.cast(to: .float32))
    watched[name] = variable
    return try variable.cast(to: dtype)
  }

  /// As `tensor`; nil where there is none.
  public func optionalTensor(_ name: String) throws -> Tensor? { contains(name) ? try tensor(name) : nil }

  /// A picture or video: [N, C, spatial...] -> [N, spatial..., C]. Throws as `tensor`.
  public func spatial(_ name: String) throws -> Tensor {
    let tensor = try tensor(name)
    let rank = tensor.shape.rank
    guard rank >= 3 else { throw malformed(name, "is \(tensor.shape), not [N, C, spatial...]") }
    return try tensor.transposed([0] + Array(2..<rank) + [1])
  }

  /// Token ids [N, T], int32 or int64. Throws `CheckpointError.missingTensor`, `.malformed`.
  public func ids(_ name: String) throws -> [[Int32]] {
    try require(name)
    guard let shape = file.shape(of: name), shape.rank == 2 else { throw malformed(name, "is not [N, T]") }
    let ids = try integers(name).map { number -> Int32 in
      guard let id = Int32(exactly: number) else { throw malformed(name, "holds \(number)") }
      return id
    }
    return (0..<shape[0]).map { Array(ids[$0 * shape[1]..<($0 + 1) * shape[1]]) }
  }

  /// Numbers, integers or not: one of them for all of `count` images, or one each. Throws as `ids`.
  public func numbers(_ name: String, count: Int) throws -> [Float] {
    try require(name)
    let values =
      file.isInteger(name)
      ? try integers(name).map { Float($0) } : try file.load(name, on: device).floats()
    if values.count == 1 { return Array(repeating: values[0], count: count) }
    guard values.count == count else {
      throw malformed(name, "holds \(values.count) numbers, not 1 or \(count)")
    }
    return values
  }

  /// Rows of numbers, [N, K]. Throws as `ids`.
  public func rows(_ name: String) throws -> [[Float]] {
    try require(name)
    guard let shape = file.shape(of: name), shape.rank == 2 else { throw malformed(name, "is not [N, K]") }
    let values = try numbers(name, count: shape.count)
    return (0..<shape[0]).map { Array(values[$0 * shape[1]..<($0 + 1) * shape[1]]) }
  }

  /// A mask [N, T] of numbers; what is not 0 is true. Throws as `ids`.
  public func mask(_ name: String) throws -> [[Bool]] { try rows(name).map { $0.map { $0 != 0 } } }

  /// How many rows and columns of tokens there are, by FLUX's ids of each token, [T, 3]: 0, its row and its column. The
  /// text's ids are zeros. Throws as `ids`.
  public func grid(_ name: String, textIDs: String) throws -> (rows: Int, columns: Int) {
    let places = try rows(name)
    guard try rows(textIDs).joined().allSatisfy({ $0 == 0 }) else {
      throw malformed(textIDs, "has ids other than 0, which are not supported")
    }
    // Of one picture the last token is at the end of both axes.
    guard let last = places.last, last.count == 3, let row = Int(exactly: last[1]), row >= 0,
      let column = Int(exactly: last[2]), column >= 0, row < places.count, column < places.count
    else { throw malformed(name, "is not the rows and columns of a picture's tokens") }
    let (height, width) = (row + 1, column + 1)
    let whole = (0..<height).flatMap { y in (0..<width).map { x in [Float(0), Float(y), Float(x)] } }
    guard places == whole else { throw malformed(name, "is not the rows and columns of a whole picture") }
    return (height, width)
  }

  private func integers(_ name: String) throws -> [Int64] {
    guard let values = file.integers(name) else { throw malformed(name, "is not of int32 or int64") }
    return values
  }

  private func malformed(_ name: String, _ reason: String) -> CheckpointError {
    .malformed(path: file.url.path, reason: "the tensor '\(name)' \(reason)")
  }

  /// Throws `CheckpointError.unknownTensors` where an input was not asked for.
  func finish() throws {
    let rest = file.names.filter { !used.contains($0) }
    guard rest.isEmpty else {
      throw CheckpointError.unknownTensors(path: file.url.path, names: rest.sorted())
    }
  }
}
