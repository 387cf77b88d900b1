import LangevinTensor

/// A gated two-layer perceptron: GEGLU to four times the width, and back. arXiv:2002.05202.
public struct FeedForward: Sendable {
  let expand: Linear
  let contract: Linear
  let path: String

  /// Loads `net.0.proj` [8 channels, channels] and `net.2` [channels, 4 channels], each with its bias.
  public init(_ weights: Weights, channels: Int) throws {
    path = weights.layerPath
    expand = try Linear(weights["net"][0]["proj"], inputs: channels, outputs: 8 * channels)
    contract = try Linear(weights["net"][2], inputs: 4 * channels, outputs: channels)
  }

  /// [..., channels] -> [..., channels], plus the residual.
  public func callAsFunction(_ x: Tensor, residual: Tensor? = nil) throws -> Tensor {
    try layer(path) { try contract(expand(x).geglu(), residual: residual) }
  }
}
