import LangevinTensor

/// A table of vectors, looked up by number.
public struct Embedding: Sendable {
  /// The vectors, [count, channels].
  public let table: Tensor
  let path: String

  /// Loads `weight` [count, channels].
  public init(_ weights: Weights, count: Int, channels: Int) throws {
    path = weights.layerPath
    table = try weights.tensor("weight", [count, channels])
  }

  /// int32 ids [...] -> [..., channels].
  public func callAsFunction(_ ids: Tensor) throws -> Tensor {
    try layer(path) { try table.embedding(ids) }
  }
}
