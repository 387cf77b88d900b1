import Foundation
import LangevinNN
import LangevinTensor
import Synchronization

/// How a parameter starts.
public enum InitialValues: Sendable, Hashable {
  /// All the same.
  case constant(Float)
  /// Evenly within -bound and bound.
  case uniform(bound: Float)
  /// Around zero.
  case normal(deviation: Float)
}

/// The rule by which a network without weights starts: what a parameter of this name and shape begins with. `weight` is the
/// shape of the layer's own `weight`, if it has one.
public typealias InitializationRule =
  @Sendable (_ name: String, _ shape: Shape, _ weight: Shape?) -> InitialValues

/// Weights that a model without any asks for, by a rule: the same for a seed on every device.
public final class InitialWeights: WeightSource {
  private let seed: UInt64
  private let rule: InitializationRule
  private let shapes = Mutex<[String: Shape]>([:])

  /// Parameters of other names and of other seeds are independent.
  public init(seed: UInt64, rule: @escaping InitializationRule = InitialWeights.pytorch) {
    (self.seed, self.rule) = (seed, rule)
  }

  /// None: whatever a model asks for is there.
  public let names: [String] = []
  /// What stands in the place of a file's path in messages.
  public let description = "initial weights"

  /// Nil until the model has said which shape it wants.
  public func spec(of name: String) -> TensorSpec? { shapes.withLock { $0[name] }.map { TensorSpec($0) } }

  /// Whatever is expected, in float32.
  public func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    shapes.withLock { $0[name] = shape }
    return TensorSpec(shape)
  }

  /// Computes the tensor on the device. Throws `WeightError.missing` for a name that no model asked for.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    let weightName = name.split(separator: ".").dropLast().joined(separator: ".") + ".weight"
    let (shape, weight) = shapes.withLock { ($0[name], $0[weightName]) }
    guard let shape else { throw WeightError.missing(name: name, source: description) }
    // The seed by itself first: its bits would fall on those of the name's first letter.
    let key = FNV.hash(name.utf8, seed: FNV.hash((0..<8).map { UInt8(truncatingIfNeeded: seed >> ($0 * 8)) }))
    switch rule(name, shape, weight) {
    case .constant(let value): return try .fill(value, shape, on: device)
    case .normal(let deviation): return try Tensor.normal(shape, seed: key, on: device) * deviation
    case .uniform(let bound): return try Tensor(Self.uniform(shape.count, bound, key: key), shape, on: device)
    }
  }

  /// PyTorch's own: kernels and biases evenly within 1 / sqrt(inputs), scales 1, offsets of norms 0, tables of embeddings
  /// normal with deviation 0.02.
  public static let pytorch: InitializationRule = { name, shape, weight in
    if shape.rank >= 2 {
      if name.contains("embedding") && shape.rank == 2 { return .normal(deviation: 0.02) }
      return .uniform(bound: 1 / Float(max(inputs(shape), 1)).squareRoot())
    }
    if name.hasSuffix("bias") {
      guard let weight, weight.rank >= 2 else { return .constant(0) }
      return .uniform(bound: 1 / Float(max(inputs(weight), 1)).squareRoot())
    }
    return .constant(1)
  }

  private static func inputs(_ shape: Shape) -> Int { shape.dimensions.dropFirst().reduce(1, *) }

  private static func uniform(_ count: Int, _ bound: Float, key: UInt64) -> [Float] {
    var values: [Float] = []
    values.reserveCapacity(count + 3)
    let key = SIMD2(UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32))
    for block in 0..<UInt32((count + 3) / 4) {
      let words = NoiseFunction.philox(counter: SIMD4(block, 0, 0, 1), key: key)
      for lane in 0..<4 { values.append((Float(words[lane] >> 8) * 0x1p-23 - 1) * bound) }
    }
    return Array(values.prefix(count))
  }
}
