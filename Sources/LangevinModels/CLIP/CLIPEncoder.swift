import LangevinNN
import LangevinTensor

/// What the layers of the text and the vision transformer are built from.
struct CLIPLayerConfig: Sendable, Hashable {
  var hiddenSize: Int
  var intermediateSize: Int
  var layerCount: Int
  var headCount: Int
  var activation: Activation
  var layerNormEpsilon: Float

  /// The keys that both configurations have, over these defaults. Throws `ModelError`.
  func reading(_ config: ConfigObject) throws -> CLIPLayerConfig {
    let activations: [(String, Activation)] = [
      ("quick_gelu", .quickGelu), ("gelu", .gelu), ("gelu_new", .geluTanh), ("gelu_pytorch_tanh", .geluTanh),
    ]
    var result = self
    result.hiddenSize = try config.int("hidden_size", default: hiddenSize)
    result.intermediateSize = try config.int("intermediate_size", default: intermediateSize)
    result.layerCount = try config.int("num_hidden_layers", default: layerCount)
    result.headCount = try config.int("num_attention_heads", default: headCount)
    result.layerNormEpsilon = try config.epsilon("layer_norm_eps", default: Double(layerNormEpsilon))
    try config.require("hidden_act", in: activations.map { .string($0.0) })
    let name = try config.string("hidden_act", default: "quick_gelu")
    result.activation = activations.first { $0.0 == name }?.1 ?? .quickGelu
    guard result.hiddenSize % result.headCount == 0 else {
      throw config.invalid("num_attention_heads", "a divisor of hidden_size \(result.hiddenSize)")
    }
    return result
  }
}

/// The layers of one transformer.
struct CLIPEncoder: Sendable {
  let layers: [CLIPEncoderLayer]
  private let recomputes: Bool

  /// `causal`: a token sees none after itself, as in text.
  init(_ config: CLIPLayerConfig, causal: Bool, _ weights: Weights) throws {
    recomputes = weights.recomputes
    layers = try (0..<config.layerCount).map {
      try CLIPEncoderLayer(config, causal: causal, weights["layers"][$0])
    }
  }

  /// [N, T, C] -> the states after all layers but the last `skipLast`, which do not run.
  func callAsFunction(_ x: Tensor, skipLast: Int) throws -> Tensor {
    try layers.dropLast(skipLast).reduce(x, run)
  }

  /// [N, T, C] -> the last layer's states, and those before the last `skipLast` layers.
  func callAsFunction(_ x: Tensor, keeping skipLast: Int) throws -> (last: Tensor, kept: Tensor) {
    let kept = try self(x, skipLast: skipLast)
    return (try layers.suffix(skipLast).reduce(kept, run), kept)
  }

  private func run(_ x: Tensor, _ layer: CLIPEncoderLayer) throws -> Tensor {
    try x.recomputing(if: recomputes) { try layer($0) }
  }

  /// Throws `ModelError.invalidInput` unless there are so many layers to skip.
  func check(skipLast: Int, model: String) throws {
    guard (0...layers.count).contains(skipLast) else {
      throw ModelError.invalidInput(model: model, reason: "cannot skip \(skipLast) of \(layers.count) layers")
    }
  }
}

/// Self-attention and a perceptron, each normalised before and added after.
struct CLIPEncoderLayer: Sendable {
  let norm1: LayerNormalization
  let attention: MultiHeadAttention
  let norm2: LayerNormalization
  let expand: Linear
  let contract: Linear
  let activation: Activation
  let isCausal: Bool
  let path: String

  init(_ config: CLIPLayerConfig, causal: Bool, _ weights: Weights) throws {
    path = weights.layerPath
    isCausal = causal
    let (channels, epsilon) = (config.hiddenSize, config.layerNormEpsilon)
    norm1 = try LayerNormalization(weights["layer_norm1"], channels: channels, epsilon: epsilon)
    attention = try MultiHeadAttention(
      weights["self_attn"], channels: channels, heads: config.headCount, bias: true, names: .transformers)
    norm2 = try LayerNormalization(weights["layer_norm2"], channels: channels, epsilon: epsilon)
    expand = try Linear(weights["mlp"]["fc1"], inputs: channels, outputs: config.intermediateSize)
    contract = try Linear(weights["mlp"]["fc2"], inputs: config.intermediateSize, outputs: channels)
    activation = config.activation
  }

  /// [N, T, C] -> [N, T, C].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let h = try attention(norm1(x), causal: isCausal, residual: x)
      return try contract(expand(norm2(h), activation: activation), residual: h)
    }
  }
}
