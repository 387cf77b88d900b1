import LangevinNN
import LangevinTensor

/// Tensors of a file under other names, in other shapes, or as rows of larger tensors.
final class RenamedWeights: WeightSource {
  /// Where a tensor lies.
  struct Place: Sendable, Equatable {
    var key: String
    /// What it is of the first axis, where several tensors are stored as one.
    var part: Part?
    /// A matrix [I, O] that is applied from the right, wanted as a linear layer's [O, I].
    var isTransposed = false
    /// A 1x1 convolution's weight [O, I, 1, 1], wanted as a linear layer's [O, I].
    var isLinear = false
    /// The shape that is wanted, where a file may have the same numbers along other axes.
    var shape: Shape?
    /// Its first half is wanted last: scale and shift that are stored the other way around.
    var swapsHalves = false
  }

  /// Some of a tensor's rows.
  struct Part: Sendable, Equatable {
    /// Which of the parts, one after the other.
    let range: Range<Int>
    /// Into how many equal parts the rows divide.
    let count: Int

    init(_ range: Range<Int>, of count: Int) { (self.range, self.count) = (range, count) }

    /// Of query, key and value.
    static func third(_ index: Int) -> Part { Part(index..<index + 1, of: 3) }

    func rows(of shape: Shape) -> Range<Int> {
      let each = shape[0] / count
      return range.lowerBound * each..<range.upperBound * each
    }
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
      let parts = place.part?.count ?? (place.swapsHalves ? 2 : 1)
      if parts > 1, shape.rank == 0 || shape[0] % parts != 0 {
        throw CheckpointError.malformed(
          path: file.url.path,
          reason: "tensor '\(place.key)' \(shape) does not divide into \(parts) parts")
      }
      if let wanted = place.shape, wanted.count != shape.count {
        throw CheckpointError.malformed(
          path: file.url.path, reason: "tensor '\(place.key)' is \(shape), not \(wanted)")
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
    if let wanted = place.shape { return wanted }
    if let part = place.part { return shape.replacing(axis: 0, with: part.rows(of: shape).count) }
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

  /// Nil for a part whose rows are no whole blocks, and for what is transposed or swapped: these are decoded.
  func encoding(of name: String) -> BlockEncoding? {
    guard let place = places[name], !place.isTransposed, !place.swapsHalves,
      let encoding = file.encoding(of: place.key),
      let whole = file.shape(of: place.key)
    else { return nil }
    return whole.count / (place.part?.count ?? 1) % encoding.elementCount == 0 ? encoding : nil
  }

  func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    guard let place = places[name], let whole = file.shape(of: place.key) else {
      throw CheckpointError.missingTensor(path: file.url.path, name: name)
    }
    return try file.loadBlocks(place.key, rows: place.part?.rows(of: whole), on: device)
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    guard let place = places[name], let whole = file.shape(of: place.key) else {
      throw CheckpointError.missingTensor(path: file.url.path, name: name)
    }
    if place.isTransposed { return try file.load(place.key, on: device).transposed([1, 0]) }
    let rows = try file.load(place.key, rows: place.part?.rows(of: whole), on: device)
    if place.swapsHalves {
      let half = whole[0] / 2
      return try Tensor.concatenated([rows.rows(half..<2 * half), rows.rows(0..<half)], axis: 0)
    }
    return try rows.reshaped(shape(whole, at: place))
  }
}
