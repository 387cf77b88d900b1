import LangevinNN
import LangevinTensor

/// A checkpoint with changes of some of its weights. Each change is of the weight as the checkpoint has it.
///
/// Weights of which each number is by itself are changed in float32 as they are loaded: a step then costs
/// what it costs without. One in blocks stays as it is where all its changes are of low rank: they are an
/// adapter beside it, which
/// `Linear` and `Convolution` find by its names. Otherwise it becomes dense.
final class MergedWeights: WeightSource {
  /// One file's change of one weight, and how strong it is.
  typealias Change = (change: LayerChange, scale: Float)

  private let base: any WeightSource
  /// By the weights' names.
  private let merged: [String: [Change]]
  /// By the names of layers that keep their blocks.
  private let beside: [String: [Change]]
  /// Weights that the checkpoint has in blocks and this has not, with what changes them.
  let dense: [(name: String, kinds: Set<String>)]

  /// By the weights' names. `takesAdapters` says that the network looks for them. Throws `AdapterError.wrongShape` for a
  /// change that is none of its weight, and `WeightError.unsupportedDType`.
  init(_ base: any WeightSource, _ changes: [String: [Change]], takesAdapters: Bool = true) throws {
    self.base = base
    var (merged, beside) = ([String: [Change]](), [String: [Change]]())
    var dense: [(name: String, kinds: Set<String>)] = []
    for (name, list) in changes.sorted(by: { $0.key < $1.key }) {
      guard let shape = base.spec(of: name)?.shape, shape.rank >= 2 else {
        throw WeightError.unsupportedDType(name: name, source: base.description)
      }
      let layer = String(name.dropLast(".weight".count))
      for (change, _) in list { try change.check(shape, of: "\(change.target.component).\(layer)") }
      // Convolutions over frames take no adapter.
      let isInBlocks = base.encoding(of: name) != nil
      if takesAdapters, isInBlocks, shape.rank == 2 || shape.rank == 4,
        list.allSatisfy({ $0.change.lowRank != nil }),
        base.spec(of: layer + Self.down) == nil
      {
        beside[layer] = list
      } else {
        merged[name] = list
        if isInBlocks { dense.append((name, Set(list.map(\.change.kind)))) }
      }
    }
    (self.merged, self.beside, self.dense) = (merged, beside, dense)
  }

  private static let down = ".lora_A.weight"
  private static let up = ".lora_B.weight"

  var names: [String] { base.names + beside.keys.sorted().flatMap { [$0 + Self.down, $0 + Self.up] } }
  var description: String {
    let all = [merged, beside].flatMap { $0.values.joined() }
    let files = Set(all.map(\.change.file.description))
    return "\(base.description) with \(files.sorted().joined(separator: ", "))"
  }

  /// The layer of an adapter's matrix.
  private func adapted(_ name: String) -> (layer: String, changes: [Change])? {
    guard name.hasSuffix(Self.down) || name.hasSuffix(Self.up) else { return nil }
    let layer = String(name.dropLast(Self.down.count))
    return beside[layer].map { (layer, $0) }
  }

  func spec(of name: String) -> TensorSpec? {
    if let (layer, changes) = adapted(name), let shape = base.spec(of: layer + ".weight")?.shape {
      let rank = changes.reduce(0) { $0 + ($1.change.lowRank ?? 0) }
      return TensorSpec(name.hasSuffix(Self.up) ? [shape[0], rank] : shape.replacing(axis: 0, with: rank))
    }
    return widened(base.spec(of: name), name)
  }

  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    adapted(name) == nil ? widened(base.spec(of: name, expecting: shape), name) : spec(of: name)
  }

  private func widened(_ spec: TensorSpec?, _ name: String) -> TensorSpec? {
    merged[name] == nil ? spec : spec.map { TensorSpec($0.shape, .float32) }
  }

  func encoding(of name: String) -> BlockEncoding? {
    merged[name] == nil && adapted(name) == nil ? base.encoding(of: name) : nil
  }

  func loadBlocks(_ name: String, on device: Device) throws -> Tensor {
    try base.loadBlocks(name, on: device)
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    if let (layer, changes) = adapted(name), let shape = base.spec(of: layer + ".weight")?.shape {
      let isUp = name.hasSuffix(Self.up)
      let parts = try changes.compactMap { change, strength in
        try change.lowRank(shape: shape, strength: strength, on: device).map { isUp ? $0.up : $0.down }
      }
      return parts.count == 1 ? parts[0] : try Tensor.concatenated(parts, axis: isUp ? 1 : 0)
    }
    let weight = try base.load(name, on: device)
    guard let changes = merged[name] else { return weight }
    let shape = weight.shape
    let matrix = try weight.cast(to: .float32).reshaped([shape[0], shape.count / shape[0]])
    let sum = try changes.reduce(matrix) { sum, change in
      try change.change.added(to: sum, of: matrix, shape: shape, strength: change.scale)
    }
    return try sum.reshaped(shape)
  }
}
