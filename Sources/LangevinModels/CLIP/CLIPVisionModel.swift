import LangevinNN
import LangevinTensor

/// CLIP's vision transformer. arXiv:2103.00020, section 2.4; arXiv:2010.11929.
public struct CLIPVisionModel: Sendable {
  /// What the encoder was built from.
  public let config: CLIPVisionConfig
  let patches: PatchEmbedding
  let classToken: Tensor
  let positions: Tensor
  let firstNorm: LayerNormalization
  let encoder: CLIPEncoder
  let finalNorm: LayerNormalization
  let path: String

  /// What pictures become. Of the `patchCount + 1` tokens the first is the class token.
  public struct Output: Sendable {
    /// After the last layer, without a norm [N, patchCount + 1, C].
    public let lastHiddenState: Tensor
    /// The class token's vector after the final norm [N, C].
    public let pooled: Tensor
    /// Before the last `skipLast` layers [N, patchCount + 1, C]: transformers' `hidden_states[-1 - skipLast]`.
    public let hiddenState: Tensor
  }

  /// Loads the encoder; keys may begin with `vision_model.` or not. Throws `WeightError`.
  public init(_ config: CLIPVisionConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let root = weights.contains("vision_model") ? weights["vision_model"] : weights
    let embeddings = root["embeddings"]
    let channels = config.hiddenSize
    patches = try PatchEmbedding(
      embeddings["patch_embedding"], inputs: config.inChannels, outputs: channels, patch: config.patchSize,
      bias: false)
    classToken = try embeddings.tensor("class_embedding", [channels])
    positions = try embeddings.tensor("position_embedding.weight", [config.patchCount + 1, channels])
    // The checkpoints' spelling.
    firstNorm = try LayerNormalization(
      root["pre_layrnorm"], channels: channels, epsilon: config.layerNormEpsilon)
    encoder = try CLIPEncoder(config.layers, causal: false, root["encoder"])
    finalNorm = try LayerNormalization(
      root["post_layernorm"], channels: channels, epsilon: config.layerNormEpsilon)
    try weights.finish(ignoring: ["vision_model.embeddings.position_ids", "embeddings.position_ids"])
  }

  /// Pictures [N, imageSize, imageSize, inChannels], prepared as the model's `ImagePreparation` says.
  ///
  /// `hiddenState` of the output is that before the last `skipLast` layers, at most all of them. Throws
  /// `ModelError.invalidInput` for another shape.
  public func callAsFunction(_ pictures: Tensor, skipLast: Int = 1) throws -> Output {
    let expected: Shape = [
      pictures.shape.dimensions.first ?? 1, config.imageSize, config.imageSize, config.inChannels,
    ]
    guard pictures.shape == expected, expected[0] > 0 else {
      throw ModelError.invalidInput(
        model: "CLIPVisionModel",
        reason:
          "the input is \(pictures.shape), expected [N, \(config.imageSize), \(config.imageSize), \(config.inChannels)]"
      )
    }
    try encoder.check(skipLast: skipLast, model: "CLIPVisionModel")
    let (count, channels) = (expected[0], config.hiddenSize)
    return try layer(path) {
      let first = try classToken.reshaped([1, 1, channels]).broadcast(to: [count, 1, channels])
      let tokens = try Tensor.concatenated([first, patches(pictures)], axis: 1)
      let states = try encoder(firstNorm(tokens + positions), keeping: skipLast)
      let token = try states.last.sliced(0..<1, axis: 1).reshaped([count, channels])
      return Output(
        lastHiddenState: states.last, pooled: try finalNorm(token), hiddenState: states.kept)
    }
  }
}

/// The vision transformer and the projection of its pooled vectors: the image encoder of unCLIP and of Stable
/// Diffusion's image variations.
public struct CLIPVisionModelWithProjection: Sendable {
  /// The encoder without its projection.
  public let vision: CLIPVisionModel
  let projection: Linear

  /// The projected embedding, and what the encoder returns before it.
  public struct Output: Sendable {
    /// [N, projectionSize], not normalised.
    public let imageEmbeds: Tensor
    /// What the encoder returns before the projection.
    public let vision: CLIPVisionModel.Output
  }

  /// Loads `vision_model.…` and `visual_projection`. Throws `WeightError`.
  public init(_ config: CLIPVisionConfig, _ weights: Weights) throws {
    vision = try CLIPVisionModel(config, weights["vision_model"])
    projection = try Linear(
      weights["visual_projection"], inputs: config.hiddenSize, outputs: config.projectionSize, bias: false)
    try weights.finish(ignoring: ["vision_model.embeddings.position_ids"])
  }

  /// As calling the transformer.
  public func callAsFunction(_ pictures: Tensor, skipLast: Int = 1) throws -> Output {
    let output = try vision(pictures, skipLast: skipLast)
    return Output(imageEmbeds: try projection(output.pooled), vision: output)
  }
}
