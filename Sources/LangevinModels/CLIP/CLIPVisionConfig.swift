import LangevinTensor

/// The architecture of a CLIP vision transformer, as transformers' config.json gives it.
public struct CLIPVisionConfig: Sendable, Hashable {
  /// Channels C of a patch.
  public var hiddenSize = 768
  /// Channels inside the perceptron.
  public var intermediateSize = 3072
  /// Transformer layers.
  public var layerCount = 12
  /// Attention heads, which divide `hiddenSize`.
  public var headCount = 12
  /// Channels of a picture.
  public var inChannels = 3
  /// Height and width of a picture.
  public var imageSize = 224
  /// Height and width of a patch, which divide those of the picture.
  public var patchSize = 32
  /// Of the perceptron: `.quickGelu` (OpenAI's models), `.gelu` (OpenCLIP's) or `.geluTanh`.
  public var activation = Activation.quickGelu
  /// Added to the variances.
  public var layerNormEpsilon: Float = 1e-5
  /// Channels of the embedding that texts and pictures share; used where the model has its projection.
  public var projectionSize = 512

  /// CLIP ViT-B/32's vision transformer.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("model_type", in: [.string("clip_vision_model")])
    layers = try layers.reading(config)
    inChannels = try config.int("num_channels", default: inChannels)
    imageSize = try config.int("image_size", default: imageSize)
    patchSize = try config.int("patch_size", default: patchSize)
    projectionSize = try config.int("projection_dim", default: projectionSize)
    guard imageSize % patchSize == 0 else {
      throw ModelError.unsupported(
        model: config.model, key: "patch_size", value: "\(patchSize)",
        supported: ["a divisor of image_size \(imageSize)"])
    }
  }

  /// Of one picture, without the class token.
  public var patchCount: Int { (imageSize / patchSize) * (imageSize / patchSize) }

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
