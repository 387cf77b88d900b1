import LangevinTensor

/// `x W + b` along the last axis.
public struct Linear: Sendable {
  let weight: Weight
  let bias: Tensor?
  let path: String

  /// Loads `weight` [outputs, inputs] and, where there is one, `bias` [outputs].
  public init(_ weights: Weights, inputs: Int, outputs: Int, bias: Bool = true) throws {
    path = weights.layerPath
    weight = try weights.linear(inputs: inputs, outputs: outputs)
    self.bias = bias ? try weights.tensor("bias", [outputs]) : nil
  }

  /// [..., inputs] -> [..., outputs]: `activation(x W + b + residual)` in one operation.
  public func callAsFunction(
    _ x: Tensor, residual: Tensor? = nil, activation: Activation = .identity
  ) throws -> Tensor {
    try layer(path) { try x.matmul(weight, bias: bias, residual: residual, activation: activation) }
  }
}
