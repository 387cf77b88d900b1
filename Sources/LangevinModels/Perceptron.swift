import LangevinNN
import LangevinTensor

/// Two products with a nonlinearity between them.
struct Perceptron: Sendable {
  let expand: Linear
  let contract: Linear
  let activation: Activation
  let path: String

  /// Loads `net.0.proj` [inner, channels] and `net.2` [channels, inner], each with its bias.
  init(_ weights: Weights, channels: Int, inner: Int, activation: Activation) throws {
    path = weights.layerPath
    self.activation = activation
    expand = try Linear(weights["net"][0]["proj"], inputs: channels, outputs: inner)
    contract = try Linear(weights["net"][2], inputs: inner, outputs: channels)
  }

  /// [..., channels] -> [..., channels].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) { try contract(expand(x, activation: activation)) }
  }
}
