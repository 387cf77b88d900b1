import LangevinNN
import LangevinTensor

/// A checkpoint with low-rank additions merged into some of its weights as they are loaded, W + sum of scale B A, in
/// float32: a step then costs what it costs without them, and convolutions can have them too.
final class MergedWeights: WeightSource {
  /// One file's addition to one weight.
  struct Addition: Sendable {
    let file: SafetensorsFile
    let down: String
    let up: String
    let scale: Float
  }

  private let base: any WeightSource
  private let additions: [String: [Addition]]

  /// By the weights' names. Throws `WeightError.wrongShape` for a pair that is none of its weight, and
  /// `WeightError.unsupportedDType`.
  init(_ base: any WeightSource, _ additions: [String: [Addition]]) throws {
    (self.base, self.additions) = (base, additions)
    for (name, list) in additions.sorted(by: { $0.key < $1.key }) {
      guard let shape = base.spec(of: name)?.shape, shape.rank >= 2 else {
        throw WeightError.unsupportedDType(name: name, source: base.description)
      }
      for addition in list { try Self.check(addition, of: shape) }
    }
  }

  /// A weight is [outputs, inputs] or [outputs, inputs, height, width]; extents of 1 behind those are left out or not.
  private static func check(_ addition: Addition, of weight: Shape) throws {
    let file = addition.file
    func require(_ name: String, _ expected: (_ rank: Int) -> [Int]) throws {
      guard let spec = file.spec(of: name), spec.dtype.isFloatingPoint else {
        throw WeightError.unsupportedDType(name: name, source: file.description)
      }
      let rank = (file.shape(of: addition.down) ?? [0])[0]
      func trimmed(_ extents: [Int]) -> [Int] {
        Array(extents.prefix(2) + extents.dropFirst(2).reversed().drop { $0 == 1 }.reversed())
      }
      guard trimmed(spec.shape.dimensions) == trimmed(expected(rank)) else {
        throw WeightError.wrongShape(
          name: name, expected: Shape(expected(rank)), got: spec.shape, source: file.description)
      }
    }
    try require(addition.down) { [$0] + weight.dimensions.dropFirst() }
    try require(addition.up) { [weight[0], $0] }
  }

  var names: [String] { base.names }
  var description: String {
    let files = Set(additions.values.joined().map(\.file.description)).sorted()
    return "\(base.description) with \(files.joined(separator: ", "))"
  }

  func spec(of name: String) -> TensorSpec? { merged(base.spec(of: name), name) }

  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    merged(base.spec(of: name, expecting: shape), name)
  }

  private func merged(_ spec: TensorSpec?, _ name: String) -> TensorSpec? {
    additions[name] == nil ? spec : spec.map { TensorSpec($0.shape, .float32) }
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    let weight = try base.load(name, on: device)
    guard let additions = additions[name] else { return weight }
    let outputs = weight.shape[0]
    let matrix = try weight.cast(to: .float32).reshaped([outputs, weight.shape.count / outputs])
    let sum = try additions.reduce(matrix) { sum, addition in
      let down = try addition.file.load(addition.down, on: device).cast(to: .float32)
      let up = try addition.file.load(addition.up, on: device).cast(to: .float32)
      let rank = down.shape[0]
      return try up.reshaped([outputs, rank]).matmul(
        down.reshaped([rank, matrix.shape[1]]), scale: addition.scale, residual: sum)
    }
    return try sum.reshaped(weight.shape)
  }
}
