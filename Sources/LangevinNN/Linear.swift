import LangevinTensor

/// `x W + b` along the last axis, and what a low-rank adapter adds to it.
public struct Linear: Sendable {
  let weight: Weight
  let bias: Tensor?
  let adapter: Adapter?
  let path: String

  /// Loads `weight` [outputs, inputs] and, where there is one, `bias` [outputs] and an adapter (`lora_A`, `lora_B`).
  public init(_ weights: Weights, inputs: Int, outputs: Int, bias: Bool = true) throws {
    path = weights.layerPath
    weight = try weights.linear(inputs: inputs, outputs: outputs)
    self.bias = bias ? try weights.tensor("bias", [outputs]) : nil
    adapter = try Adapter(weights, inputs: inputs, outputs: outputs)
  }

  /// [..., inputs] -> [..., outputs]: `activation(x W + b + residual)`, in one operation where there is no adapter.
  public func callAsFunction(
    _ x: Tensor, residual: Tensor? = nil, activation: Activation = .identity
  ) throws -> Tensor {
    try layer(path) {
      guard let adapter else {
        return try x.matmul(weight, bias: bias, residual: residual, activation: activation)
      }
      let y = try x.matmul(weight, bias: bias, residual: residual)
      return try adapter(addedTo: y, activation: activation) { try x.matmul($0) }
    }
  }
}
