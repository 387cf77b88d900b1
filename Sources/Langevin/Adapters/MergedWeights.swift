import LangevinNN
import LangevinTensor

/// A checkpoint with low-rank changes merged into some of its weights as they are loaded, in float32: a step
/// then costs what it costs without them, and convolutions can have them too. Each change is of the weight as
/// the checkpoint has it.
final class MergedWeights: WeightSource {
  /// One file's change of one weight, and how strong it is.
  typealias Change = (change: LayerChange, scale: Float)

  private let base: any WeightSource
  private let changes: [String: [Change]]

  /// By the weights' names. Throws `AdapterError.wrongShape` for a change that is none of its weight, and
  /// `WeightError.unsupportedDType`.
  init(_ base: any WeightSource, _ changes: [String: [Change]]) throws {
    (self.base, self.changes) = (base, changes)
    for (name, list) in changes.sorted(by: { $0.key < $1.key }) {
      guard let shape = base.spec(of: name)?.shape, shape.rank >= 2 else {
        throw WeightError.unsupportedDType(name: name, source: base.description)
      }
      let layer = String(name.dropLast(".weight".count))
      for (change, _) in list { try change.check(shape, of: "\(change.target.component).\(layer)") }
    }
  }

  var names: [String] { base.names }
  var description: String {
    let files = Set(changes.values.joined().map(\.change.file.description)).sorted()
    return "\(base.description) with \(files.joined(separator: ", "))"
  }

  func spec(of name: String) -> TensorSpec? { merged(base.spec(of: name), name) }

  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    merged(base.spec(of: name, expecting: shape), name)
  }

  private func merged(_ spec: TensorSpec?, _ name: String) -> TensorSpec? {
    changes[name] == nil ? spec : spec.map { TensorSpec($0.shape, .float32) }
  }

  /// A weight that is changed is not in blocks any more.
  func encoding(of name: String) -> BlockEncoding? { changes[name] == nil ? base.encoding(of: name) : nil }

  func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try base.loadBlocks(name, on: device)
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    let weight = try base.load(name, on: device)
    guard let changes = changes[name] else { return weight }
    let shape = weight.shape
    let matrix = try weight.cast(to: .float32).reshaped([shape[0], shape.count / shape[0]])
    let sum = try changes.reduce(matrix) { sum, change in
      try change.change.added(to: sum, of: matrix, shape: shape, strength: change.scale)
    }
    return try sum.reshaped(shape)
  }
}
