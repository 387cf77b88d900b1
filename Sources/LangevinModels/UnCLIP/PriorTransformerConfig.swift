import LangevinJSON
import LangevinTensor

/// The architecture of a prior, as diffusers' config.json gives it: Karlo's and Kandinsky's, which predict one
/// image embedding, and Shap-E's, which predicts a sequence.
public struct PriorTransformerConfig: Sendable, Hashable {
  /// Attention heads.
  public var headCount = 32
  /// Channels of a head.
  public var headChannels = 64
  /// Transformer blocks.
  public var layerCount = 20
  /// Channels of the noisy embedding and of the text's hidden states.
  public var embeddingChannels = 768
  /// Tokens of the text, or of the noisy sequence where there is no text.
  public var embeddingCount = 77
  /// Tokens that have positions and a row in the mask beside them: the text embedding, the timestep, the noisy
  /// embedding and the learned query in Karlo, none in Shap-E.
  public var additionalEmbeddings = 4
  /// Between the two layers of the timestep's perceptron: `.silu` or `.gelu`.
  public var timeActivation = Activation.silu
  /// Whether tokens are normalised in front of the first block.
  public var normalizesInput = false
  /// Whether the embedding that is conditioned on is normalised before it is projected.
  public var normalizesProjection = false
  /// Whether hidden states of the text are among the tokens.
  public var takesText = true
  /// Whether a learned query ends the sequence and becomes the result; otherwise every noisy token does.
  public var hasQuery = true
  /// Channels between the two layers of the timestep's perceptron.
  public var timeChannels = 2048
  /// Channels of the embedding that is conditioned on.
  public var projectionChannels = 768
  /// Channels of the result.
  public var outputChannels = 768

  /// The configuration of Karlo's prior.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("PriorTransformer")])
    try config.require("norm_in_type", in: [.string("layer"), .null])
    try config.require("embedding_proj_norm_type", in: [.string("layer"), .null])
    try config.require("encoder_hid_proj_type", in: [.string("linear"), .null])
    try config.require("added_emb_type", in: [.string("prd"), .null])
    let activations: [(String, Activation)] = [("silu", .silu), ("swish", .silu), ("gelu", .gelu)]
    try config.require("time_embed_act_fn", in: activations.map { .string($0.0) })

    headCount = try config.int("num_attention_heads", default: headCount)
    headChannels = try config.int("attention_head_dim", default: headChannels)
    layerCount = try config.int("num_layers", default: layerCount)
    embeddingChannels = try config.int("embedding_dim", default: embeddingChannels)
    embeddingCount = try config.int("num_embeddings", default: embeddingCount)
    additionalEmbeddings = try config.count("additional_embeddings", default: additionalEmbeddings)
    let name = try config.string("time_embed_act_fn", default: "silu")
    timeActivation = activations.first { $0.0 == name }?.1 ?? .silu
    normalizesInput = try config.string("norm_in_type", default: "") == "layer"
    normalizesProjection = try config.string("embedding_proj_norm_type", default: "") == "layer"
    // These two are there by default, and null switches them off.
    takesText = config.values["encoder_hid_proj_type"] != .null
    hasQuery = config.values["added_emb_type"] != .null
    timeChannels = try config.optionalInt("time_embed_dim") ?? channels
    projectionChannels = try config.optionalInt("embedding_proj_dim") ?? embeddingChannels
    outputChannels = try config.optionalInt("clip_embed_dim") ?? embeddingChannels
    guard channels % 2 == 0 else {
      throw config.invalid("attention_head_dim", "an even product with num_attention_heads")
    }
  }

  /// Channels C of a token.
  public var channels: Int { headCount * headChannels }
}
