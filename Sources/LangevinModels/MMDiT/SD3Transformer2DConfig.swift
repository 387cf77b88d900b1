/// The architecture of Stable Diffusion 3's transformer, as diffusers' config.json gives it.
public struct SD3Transformer2DConfig: Sendable, Hashable {
  /// The latent's usual height and width.
  public var sampleSize = 128
  /// Rows and columns of latent pixels that become one token.
  public var patch = 2
  /// Channels of the latent.
  public var inChannels = 16
  /// Channels of the output.
  public var outChannels = 16
  /// Transformer blocks.
  public var layerCount = 24
  /// Attention heads.
  public var headCount = 24
  /// Channels of a head.
  public var headSize = 64
  /// Width of the text encoders' states.
  public var textChannels = 4096
  /// Width of their pooled vectors together.
  public var pooledChannels = 2048
  /// Tokens along each axis at most.
  public var maximumPositions = 192
  /// Whether queries and keys are normalised, as in 3.5.
  public var normalizesHeads = false
  /// Blocks in which the picture attends to itself once more, as in 3.5 medium.
  public var dualAttentionLayers: Set<Int> = []

  /// Stable Diffusion 3 medium.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("SD3Transformer2DModel")])
    try config.require("qk_norm", in: [.null, .string("rms_norm")])
    sampleSize = try config.int("sample_size", default: 128)
    patch = try config.int("patch_size", default: 2)
    inChannels = try config.int("in_channels", default: 16)
    // Null is as many as go in; absent is the reference's default.
    let fallback = config.values["out_channels"] == nil ? 16 : inChannels
    outChannels = try config.int("out_channels", default: fallback)
    layerCount = try config.int("num_layers", default: 18)
    headCount = try config.int("num_attention_heads", default: 18)
    headSize = try config.int("attention_head_dim", default: 64)
    textChannels = try config.int("joint_attention_dim", default: 4096)
    pooledChannels = try config.int("pooled_projection_dim", default: 2048)
    maximumPositions = try config.int("pos_embed_max_size", default: 96)
    normalizesHeads = try config.string("qk_norm", default: "") == "rms_norm"
    dualAttentionLayers = Set(try config.counts("dual_attention_layers", default: []))
    guard dualAttentionLayers.allSatisfy({ $0 < layerCount }) else {
      throw config.invalid("dual_attention_layers", "numbers below num_layers \(layerCount)")
    }
    guard try config.int("caption_projection_dim", default: 1152) == channels else {
      throw config.invalid(
        "caption_projection_dim", "\(channels), num_attention_heads times attention_head_dim")
    }
    guard sampleSize % patch == 0, sampleSize / patch <= maximumPositions else {
      throw config.invalid("sample_size", "a multiple of patch_size, of at most pos_embed_max_size tokens")
    }
  }

  /// How many channels a token has.
  public var channels: Int { headCount * headSize }
}
