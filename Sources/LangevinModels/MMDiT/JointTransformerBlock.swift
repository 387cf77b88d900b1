import LangevinNN
import LangevinTensor

/// A block of the multimodal diffusion transformer: a picture's tokens and a text's attend to each other, and each have
/// perceptrons and a modulation of their own. arXiv:2403.03206, figure 2; diffusers' `JointTransformerBlock`.
struct JointTransformerBlock: Sendable {
  /// What makes blocks differ.
  struct Kind {
    var heads: Int
    var headSize: Int
    var normalizesHeads: Bool
    /// Whether the picture's tokens attend to themselves once more.
    var attendsTwice = false
    /// Whether no block comes after that would read the text.
    var isLast = false
  }

  /// Of shift, scale and gate before the attention and before the perceptron; three more where there is a second
  /// attention. The last block's text has scale and shift.
  private static let epsilon: Float = 1e-6
  let modulation: ModulationProjection
  let textModulation: ModulationProjection
  let attention: JointAttention
  let secondAttention: JointAttention?
  let perceptron: Perceptron
  let textPerceptron: Perceptron?
  let path: String

  init(_ weights: Weights, _ kind: Kind) throws {
    path = weights.layerPath
    let channels = kind.heads * kind.headSize
    func attention(_ name: String, text: JointAttention.TextRole) throws -> JointAttention {
      try JointAttention(
        weights[name], heads: kind.heads, headSize: kind.headSize, normalizesHeads: kind.normalizesHeads,
        text: text)
    }
    func perceptron(_ name: String) throws -> Perceptron {
      try Perceptron(weights[name], channels: channels, inner: 4 * channels, activation: .geluTanh)
    }
    modulation = try ModulationProjection(
      weights["norm1"], channels: channels, count: kind.attendsTwice ? 9 : 6)
    textModulation = try ModulationProjection(
      weights["norm1_context"], channels: channels, count: kind.isLast ? 2 : 6)
    self.attention = try attention("attn", text: kind.isLast ? .context : .stream)
    secondAttention = kind.attendsTwice ? try attention("attn2", text: .absent) : nil
    self.perceptron = try perceptron("ff")
    textPerceptron = kind.isLast ? nil : try perceptron("ff_context")
  }

  /// x [N, T, C], text [N, S, C], the time embedding after its SiLU [N, C] -> both anew; the text nil after the last
  /// block.
  func callAsFunction(_ x: Tensor, text: Tensor, time: Tensor, angles: RotaryAngles? = nil) throws
    -> (picture: Tensor, text: Tensor?)
  {
    try layer(path) {
      let (rows, textRows) = (try modulation(time), try textModulation(time))
      func normalized(_ x: Tensor, _ rows: Modulation, _ shift: Int, _ scale: Int) throws -> Tensor {
        try rows.normalized(x, shift: shift, scale: scale, epsilon: Self.epsilon)
      }
      // The last block's text has its scale first.
      let (shift, scale) = textPerceptron == nil ? (1, 0) : (0, 1)
      let context = try normalized(text, textRows, shift, scale)
      let found = try attention(normalized(x, rows, 0, 1), text: context, angles: angles)
      var h = try rows.gated(found.picture, gate: 2, residual: x)
      if let secondAttention {
        h = try rows.gated(secondAttention(normalized(x, rows, 6, 7)).picture, gate: 8, residual: h)
      }
      h = try rows.gated(perceptron(normalized(h, rows, 3, 4)), gate: 5, residual: h)
      guard let textPerceptron, let answer = found.text else { return (h, nil) }
      let states = try textRows.gated(answer, gate: 2, residual: text)
      return (
        h,
        try textRows.gated(textPerceptron(normalized(states, textRows, 3, 4)), gate: 5, residual: states)
      )
    }
  }
}
