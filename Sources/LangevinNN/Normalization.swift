import LangevinTensor

/// Normalises groups of channels over all pixels of an image. arXiv:1803.08494.
public struct GroupNormalization: Sendable {
  let gamma: Tensor
  let beta: Tensor
  let groups: Int
  let epsilon: Float
  let path: String

  /// Loads `weight` and `bias`, both [channels].
  public init(_ weights: Weights, channels: Int, groups: Int, epsilon: Float) throws {
    gamma = try weights.tensor("weight", [channels])
    beta = try weights.tensor("bias", [channels])
    self.groups = groups
    path = weights.layerPath
    self.epsilon = epsilon
  }

  /// [N, ..., channels]; the activation is `.identity` or `.silu`. With `statistics`, x [N, H, W, channels] is a
  /// tile of a picture.
  public func callAsFunction(
    _ x: Tensor, activation: Activation = .identity, statistics: GroupStatistics? = nil
  ) throws -> Tensor {
    try layer(path) {
      guard let statistics else {
        return try x.groupNorm(gamma, beta, groups: groups, epsilon: epsilon, activation: activation)
      }
      return try statistics.normalized(
        x, gamma, beta, GroupNorm(groups: groups, epsilon: epsilon, activation: activation), name: path)
    }
  }
}

/// Normalises the last axis. arXiv:1607.06450.
public struct LayerNormalization: Sendable {
  let gamma: Tensor
  let beta: Tensor
  let epsilon: Float
  let path: String

  /// Loads `weight` and `bias`, both [channels].
  public init(_ weights: Weights, channels: Int, epsilon: Float = 1e-5) throws {
    gamma = try weights.tensor("weight", [channels])
    beta = try weights.tensor("bias", [channels])
    self.epsilon = epsilon
    path = weights.layerPath
  }

  /// Normalises x [..., channels] over its last axis.
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) { try x.layerNorm(gamma, beta, epsilon: epsilon) }
  }
}

/// Divides the last axis by its root mean square. arXiv:1910.07467.
public struct RMSNormalization: Sendable {
  let gamma: Tensor
  let epsilon: Float
  let path: String

  /// Loads `weight` [channels].
  public init(_ weights: Weights, channels: Int, epsilon: Float) throws {
    gamma = try weights.tensor("weight", [channels])
    self.epsilon = epsilon
    path = weights.layerPath
  }

  /// Normalises x [..., channels] over its last axis.
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) { try x.rmsNorm(gamma, epsilon: epsilon) }
  }
}
