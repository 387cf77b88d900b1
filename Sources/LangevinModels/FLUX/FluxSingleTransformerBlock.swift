import LangevinNN
import LangevinTensor

/// A block of FLUX in which the text's and the picture's tokens are alike: attention and perceptron beside each other
/// (arXiv:2302.05442, section 2.1), and one product behind both. diffusers' `FluxSingleTransformerBlock`.
struct FluxSingleTransformerBlock: Sendable {
  /// Of shift, scale and gate.
  let modulation: ModulationProjection
  let attention: JointAttention
  let expand: Linear
  let projection: Linear
  let path: String

  init(_ weights: Weights, _ config: FluxTransformer2DConfig) throws {
    path = weights.layerPath
    let channels = config.channels
    modulation = try ModulationProjection(weights["norm"], channels: channels, count: 3)
    attention = try JointAttention(
      weights["attn"], heads: config.headCount, headSize: config.headSize, normalizesHeads: true,
      text: .absent, hasOutput: false)
    expand = try Linear(weights["proj_mlp"], inputs: channels, outputs: 4 * channels)
    projection = try Linear(weights["proj_out"], inputs: 5 * channels, outputs: channels)
  }

  /// x [N, T, C], the time embedding after its SiLU [N, C] -> [N, T, C].
  func callAsFunction(_ x: Tensor, time: Tensor, angles: RotaryAngles) throws -> Tensor {
    try layer(path) {
      let rows = try modulation(time)
      let h = try rows.normalized(x, shift: 0, scale: 1, epsilon: 1e-6)
      let beside = try Tensor.concatenated(
        [attention(h, angles: angles).picture, expand(h, activation: .geluTanh)], axis: -1)
      return try rows.gated(projection(beside), gate: 2, residual: x)
    }
  }
}
