import LangevinJSON
import LangevinNN
import LangevinTensor

/// The widths of an `UnCLIPTextProjection`, as diffusers' config.json gives them.
public struct UnCLIPTextProjectionConfig: Sendable, Hashable {
  /// Tokens that an image embedding becomes.
  public var extraTokens = 4
  /// Channels of CLIP's embeddings, and of its text encoder's hidden states.
  public var embeddingChannels = 768
  /// Channels of the decoder's time embedding.
  public var timeChannels = 1280
  /// Channels of what the decoder attends to.
  public var contextChannels = 1536

  /// The configuration of Karlo's projection.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("UnCLIPTextProjModel")])
    extraTokens = try config.int("clip_extra_context_tokens", default: extraTokens)
    embeddingChannels = try config.int("clip_embeddings_dim", default: embeddingChannels)
    func needed(_ key: String) throws -> Int {
      guard let value = try config.optionalInt(key) else {
        throw config.invalid(key, "a positive whole number")
      }
      return value
    }
    timeChannels = try needed("time_embed_dim")
    contextChannels = try needed("cross_attention_dim")
  }
}

/// What unCLIP's decoder is conditioned on, made of CLIP's image and text embeddings and the text's hidden
/// states: diffusers' `UnCLIPTextProjModel`. arXiv:2204.06125, section 2.1.
public struct UnCLIPTextProjection: Sendable {
  /// What the layers were built from.
  public let config: UnCLIPTextProjectionConfig
  /// Stands for an image embedding in the unguided half, [1, embeddingChannels].
  let noImage: Tensor
  let promptToTime: Linear
  let imageToTime: Linear
  let imageToTokens: Linear
  let textToTokens: Linear
  let textNorm: LayerNormalization
  let path: String

  /// What the decoder takes.
  public struct Output: Sendable {
    /// Tokens of the image, then those of the text: [M, extraTokens + T, contextChannels].
    public let context: Tensor
    /// To be added to the time embedding, [M, timeChannels].
    public let timeAddition: Tensor
  }

  /// Loads the layers under diffusers' names. Throws `WeightError`.
  public init(_ config: UnCLIPTextProjectionConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let channels = config.embeddingChannels
    noImage = try weights.tensor("learned_classifier_free_guidance_embeddings", [channels])
      .reshaped([1, channels])
    promptToTime = try Linear(weights["embedding_proj"], inputs: channels, outputs: config.timeChannels)
    imageToTime = try Linear(
      weights["clip_image_embeddings_project_to_time_embeddings"], inputs: channels,
      outputs: config.timeChannels)
    imageToTokens = try Linear(
      weights["clip_extra_context_tokens_proj"], inputs: channels,
      outputs: config.extraTokens * config.contextChannels)
    textToTokens = try Linear(
      weights["encoder_hidden_states_proj"], inputs: channels, outputs: config.contextChannels)
    textNorm = try LayerNormalization(
      weights["text_encoder_hidden_states_norm"], channels: config.contextChannels)
    try weights.finish()
  }

  /// Image embeddings [N, embeddingChannels], text embeddings [M, embeddingChannels] and the text's hidden states
  /// [M, T, embeddingChannels], all in the dtype of the weights.
  ///
  /// M is N, or 2N where `guided`: the texts' first half is then the negative, and a learned embedding stands for
  /// its images. Throws `ModelError.invalidInput` where shapes do not fit.
  public func callAsFunction(image: Tensor, prompt: Tensor, text: Tensor, guided: Bool) throws -> Output {
    let channels = config.embeddingChannels
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: "UnCLIPTextProjModel", reason: reason()) }
    }
    try require(
      image.shape.rank == 2 && image.shape[1] == channels,
      "the image embeddings are \(image.shape), the network takes [N, \(channels)]")
    let count = image.shape[0] * (guided ? 2 : 1)
    try require(
      prompt.shape == [count, channels],
      "the text embeddings are \(prompt.shape), the network takes [\(count), \(channels)]")
    try require(
      text.shape.rank == 3 && text.shape[0] == count && text.shape[2] == channels,
      "the text is \(text.shape), the network takes [\(count), T, \(channels)]")
    return try layer(path) {
      let images =
        guided ? try Tensor.concatenated([noImage.broadcast(to: image.shape), image], axis: 0) : image
      // Channels outermost, as the reference reshapes them.
      let extra = try imageToTokens(images).reshaped([count, config.contextChannels, config.extraTokens])
        .transposed([0, 2, 1])
      return Output(
        context: try Tensor.concatenated([extra, textNorm(textToTokens(text))], axis: 1),
        timeAddition: try imageToTime(images, residual: promptToTime(prompt)))
    }
  }
}
