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
  /// Channels of the embedding that texts and pictures share; used where the model has its projection.
  public var projectionSize = 512

  /// CLIP ViT-B/32's text encoder.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("model_type", in: [.string("clip_text_model")])
    layers = try layers.reading(config)
    vocabularySize = try config.int("vocab_size", default: vocabularySize)
    maxPositions = try config.int("max_position_embeddings", default: maxPositions)
    endOfTextToken = try config.count("eos_token_id", default: endOfTextToken)
    projectionSize = try config.int("projection_dim", default: projectionSize)
    guard maxPositions >= 3 else {
      throw config.invalid("max_position_embeddings", "room for a start, a word and an end token")
    }
  }

  var layers: CLIPLayerConfig {
    get {
      CLIPLayerConfig(
        hiddenSize: hiddenSize, intermediateSize: intermediateSize, layerCount: layerCount,
        headCount: headCount, activation: activation, layerNormEpsilon: layerNormEpsilon)
    }
    set {
      (hiddenSize, intermediateSize) = (newValue.hiddenSize, newValue.intermediateSize)
      (layerCount, headCount) = (newValue.layerCount, newValue.headCount)
      (activation, layerNormEpsilon) = (newValue.activation, newValue.layerNormEpsilon)
    }
  }
}
