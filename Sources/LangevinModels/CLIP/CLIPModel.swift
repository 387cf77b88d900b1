import LangevinNN
import LangevinTensor

/// The architecture of both encoders of CLIP, as transformers' config.json gives it.
public struct CLIPConfig: Sendable, Hashable {
  /// Of the text encoder.
  public var text = CLIPTextConfig()
  /// Of the vision transformer.
  public var vision = CLIPVisionConfig()
  /// Channels of the embedding that texts and pictures share.
  public var projectionSize = 512

  /// The configuration of CLIP ViT-B/32.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    guard config.values["model_type"] != nil else { throw config.invalid("model_type", "\"clip\"") }
    try config.require("model_type", in: [.string("clip")])
    // Old files have both, and the one called `_dict` then counts.
    if let part = try config.object("text_config_dict") ?? config.object("text_config") {
      text = try CLIPTextConfig(part)
    }
    if let part = try config.object("vision_config_dict") ?? config.object("vision_config") {
      vision = try CLIPVisionConfig(part)
    }
    projectionSize = try config.int("projection_dim", default: projectionSize)
    (text.projectionSize, vision.projectionSize) = (projectionSize, projectionSize)
  }
}

/// CLIP: a text and a vision encoder whose embeddings agree where text and picture do. arXiv:2103.00020.
public struct CLIPModel: Sendable {
  /// What the model was built from.
  public let config: CLIPConfig
  /// The encoder without its projection.
  public let text: CLIPTextModel
  /// The encoder without its projection.
  public let vision: CLIPVisionModel
  /// What cosines are multiplied by before a softmax: the exponential of the checkpoint's `logit_scale`.
  public let logitScale: Float
  /// The checkpoint's `logit_scale`, of shape [].
  public let logScale: Tensor
  let textProjection: Linear
  let visualProjection: Linear

  /// Loads both encoders, `text_projection`, `visual_projection` and `logit_scale`. Throws `WeightError`.
  public init(_ config: CLIPConfig, _ weights: Weights) throws {
    self.config = config
    text = try CLIPTextModel(config.text, weights["text_model"])
    vision = try CLIPVisionModel(config.vision, weights["vision_model"])
    textProjection = try Linear(
      weights["text_projection"], inputs: config.text.hiddenSize, outputs: config.projectionSize, bias: false)
    visualProjection = try Linear(
      weights["visual_projection"], inputs: config.vision.hiddenSize, outputs: config.projectionSize,
      bias: false)
    logScale = try weights.tensor("logit_scale", [])
    logitScale = try logScale.untraced.map(.exp).floats()[0]
    try weights.finish(
      ignoring: ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"])
  }

  /// Token ids -> [N, projectionSize]: transformers' `get_text_features`, not normalised.
  ///
  /// Throws as `CLIPTextModel` does.
  public func textFeatures(_ ids: [[Int32]]) throws -> Tensor {
    try textProjection(text.pooled(text(ids).lastHiddenState, of: ids))
  }

  /// Pictures [N, imageSize, imageSize, inChannels] -> [N, projectionSize]: transformers' `get_image_features`, not
  /// normalised.
  ///
  /// Throws as `CLIPVisionModel` does.
  public func imageFeatures(_ pictures: Tensor) throws -> Tensor {
    try visualProjection(vision(pictures).pooled)
  }

  /// Token ids -> float32 [N, projectionSize] of length 1: `text_embeds` of transformers' CLIPModel.
  public func textEmbeds(_ ids: [[Int32]]) throws -> Tensor { try CLIPModel.normalized(textFeatures(ids)) }

  /// Pictures -> float32 [N, projectionSize] of length 1: `image_embeds` of transformers' CLIPModel.
  public func imageEmbeds(_ pictures: Tensor) throws -> Tensor {
    try CLIPModel.normalized(imageFeatures(pictures))
  }

  /// Embeddings of length 1, [M, C] and [N, C] -> cosines [M, N], times `scale`.
  public static func similarity(_ a: Tensor, _ b: Tensor, scale: Float = 1) throws -> Tensor {
    try a.matmul(b, right: .transposed, scale: scale)
  }

  /// Rows [..., C] divided by their Euclidean lengths, in float32.
  static func normalized(_ x: Tensor) throws -> Tensor {
    let x = try x.cast(to: .float32)
    return try x * x.map(.square).reduced(.sum, axes: [-1]).map(.rsqrt)
  }
}
