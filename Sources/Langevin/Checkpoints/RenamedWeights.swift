import LangevinNN
import LangevinTensor

/// Tensors of a file under other names, in other shapes, or as rows of larger tensors.
final class RenamedWeights: WeightSource {
  /// Where a tensor lies.
  struct Place: Sendable, Equatable {
    let key: String
    /// A third of the first axis, where query, key and value are stored as one.
    var third: Int?
    /// A matrix [I, O] that is applied from the right, wanted as a linear layer's [O, I].
    var isTransposed = false
    /// A 1x1 convolution's weight [O, I, 1, 1], wanted as a linear layer's [O, I].
    var isLinear = false
  }

  let names: [String]
  private let file: any TensorFile
  private let places: [String: Place]

  /// Checks that every tensor is there.
  ///
  /// Throws `CheckpointError.missingTensor`, `.malformed`.
  init(_ table: [(name: String, place: Place)], in file: any TensorFile) throws {
    for (_, place) in table {
      guard let shape = file.shape(of: place.key) else {
        throw CheckpointError.missingTensor(path: file.url.path, name: place.key)
      }
      if place.third != nil, shape.rank == 0 || shape[0] % 3 != 0 {
        throw CheckpointError.malformed(
          path: file.url.path,
          reason: "tensor '\(place.key)' \(shape) does not divide into query, key and value")
      }
      if place.isTransposed, shape.rank != 2 {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "tensor '\(place.key)' \(shape) is no matrix")
      }
    }
    names = table.map(\.name)
    places = Dictionary(table.map { ($0.name, $0.place) }) { first, _ in first }
    self.file = file
    precondition(places.count == names.count, "a name appears twice in the table")
  }

  var description: String { file.description }

  private func shape(_ shape: Shape, at place: Place) -> Shape {
    if let extent = place.third.map({ _ in shape[0] / 3 }) { return shape.replacing(axis: 0, with: extent) }
    if place.isTransposed { return [shape[1], shape[0]] }
    if place.isLinear, shape.rank > 2, shape.dimensions[2...].allSatisfy({ $0 == 1 }) {
      return [shape[0], shape[1]]
    }
    return shape
  }

  func spec(of name: String) -> TensorSpec? {
    guard let place = places[name], let spec = file.spec(of: place.key) else { return nil }
    return TensorSpec(shape(spec.shape, at: place), spec.dtype)
  }

  /// Nil for a part whose rows are no whole blocks, and for what is transposed: these are decoded.
  func encoding(of name: String) -> BlockEncoding? {
    guard let place = places[name], !place.isTransposed, let encoding = file.encoding(of: place.key),
      let whole = file.shape(of: place.key)
    else { return nil }
    return shape(whole, at: place).count % encoding.elementCount == 0 ? encoding : nil
  }

  func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    guard let place = places[name], let whole = file.shape(of: place.key) else {
      throw CheckpointError.missingTensor(path: file.url.path, name: name)
    }
    let rows = place.third.map { $0 * (whole[0] / 3)..<($0 + 1) * (whole[0] / 3) }
    return try file.loadBlocks(place.key, rows: rows, on: device)
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    guard let place = places[name], let whole = file.shape(of: place.key) else {
      throw CheckpointError.missingTensor(path: file.url.path, name: name)
    }
    if place.isTransposed { return try file.load(place.key, on: device).transposed([1, 0]) }
    let target = shape(whole, at: place)
    let rows = place.third.map { $0 * target[0]..<($0 + 1) * target[0] }
    return try file.load(place.key, rows: rows, on: device).reshaped(target)
  }
}
