import LangevinTensor

/// The architecture of a CLIP text encoder, as transformers' config.json gives it.
public struct CLIPTextConfig: Sendable, Hashable {
  /// Rows of the token table.
  public var vocabularySize = 49408
  /// Channels C of a token.
  public var hiddenSize = 512
  /// Channels inside the perceptron.
  public var intermediateSize = 2048
  /// Transformer layers.
  public var layerCount = 12
  /// Attention heads, which divide `hiddenSize`.
  public var headCount = 8
  /// Tokens T at most, at least 2.
  public var maxPositions = 77
  /// Of the perceptron: `.quickGelu` (OpenAI's models), `.gelu` (OpenCLIP's) or `.geluTanh`.
  public var activation = Activation.quickGelu
  /// Added to the variances.
  public var layerNormEpsilon: Float = 1e-5
  /// 2 in old files, which means: the largest id of the prompt.
  public var endOfTextToken = 49407

  /// CLIP ViT-B/32's text encoder.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("model_type", in: [.string("clip_text_model")])
    let activations: [(String, Activation)] = [
      ("quick_gelu", .quickGelu), ("gelu", .gelu), ("gelu_new", .geluTanh), ("gelu_pytorch_tanh", .geluTanh),
    ]
    vocabularySize = try config.int("vocab_size", default: vocabularySize)
    hiddenSize = try config.int("hidden_size", default: hiddenSize)
    intermediateSize = try config.int("intermediate_size", default: intermediateSize)
    layerCount = try config.int("num_hidden_layers", default: layerCount)
    headCount = try config.int("num_attention_heads", default: headCount)
    maxPositions = try config.int("max_position_embeddings", default: maxPositions)
    layerNormEpsilon = Float(try config.float("layer_norm_eps", default: 1e-5))
    endOfTextToken = try config.count("eos_token_id", default: endOfTextToken)
    try config.require("hidden_act", in: activations.map { .string($0.0) })
    let name = try config.string("hidden_act", default: "quick_gelu")
    activation = activations.first { $0.0 == name }?.1 ?? .quickGelu
    guard maxPositions >= 2 else {
      throw config.invalid("max_position_embeddings", "room for a start and an end token")
    }
    guard hiddenSize % headCount == 0 else {
      throw config.invalid("num_attention_heads", "a divisor of hidden_size \(hiddenSize)")
    }
  }
}
