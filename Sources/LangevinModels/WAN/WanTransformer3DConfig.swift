/// The architecture of WAN's transformer, as diffusers' config.json gives it.
public struct WanTransformer3DConfig: Sendable, Hashable {
  /// What becomes one token.
  public struct Patch: Sendable, Hashable {
    /// Latent frames.
    public var frames: Int
    /// Rows of each latent frame.
    public var height: Int
    /// Columns of each latent frame.
    public var width: Int

    /// Extents in the order of a latent's axes: frames, rows, columns.
    public init(frames: Int, height: Int, width: Int) {
      self.frames = frames
      self.height = height
      self.width = width
    }

    /// How many latent pixels there are in all frames.
    public var count: Int { frames * height * width }
  }

  /// What becomes one token.
  public var patch = Patch(frames: 1, height: 2, width: 2)
  /// Attention heads.
  public var headCount = 12
  /// Channels of a head; even.
  public var headSize = 128
  /// Channels of the latent, with what an image-to-video model puts beside it.
  public var inChannels = 16
  /// Channels of the output.
  public var outChannels = 16
  /// Width of the text encoder's states.
  public var textChannels = 4096
  /// Sinusoids of the timestep; even.
  public var frequencyChannels = 256
  /// Channels inside the perceptrons.
  public var feedForwardChannels = 8960
  /// Transformer blocks.
  public var layerCount = 30
  /// Whether there is a norm before the cross-attention.
  public var normalizesCrossAttention = true
  /// Added to variances and mean squares.
  public var epsilon: Float = 1e-6
  /// Width of the image encoder's states, in image-to-video models.
  public var imageChannels: Int?
  /// Tokens along each of the three axes at most.
  public var maximumPositions = 1024

  /// WAN 2.1's text-to-video model of 1.3 billion parameters.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("WanTransformer3DModel")])
    try config.require("qk_norm", in: [.string("rms_norm_across_heads")])
    // Of models that are given the last frame too.
    try config.require("pos_embed_seq_len", in: [.null])
    let sides = try config.ints("patch_size", default: [1, 2, 2])
    guard sides.count == 3 else { throw config.invalid("patch_size", "three numbers") }
    patch = Patch(frames: sides[0], height: sides[1], width: sides[2])
    headCount = try config.int("num_attention_heads", default: 40)
    headSize = try config.int("attention_head_dim", default: 128)
    inChannels = try config.int("in_channels", default: 16)
    outChannels = try config.optionalInt("out_channels") ?? inChannels
    textChannels = try config.int("text_dim", default: 4096)
    frequencyChannels = try config.int("freq_dim", default: 256)
    feedForwardChannels = try config.int("ffn_dim", default: 13824)
    layerCount = try config.int("num_layers", default: 40)
    normalizesCrossAttention = try config.bool("cross_attn_norm", default: true)
    epsilon = try config.epsilon("eps", default: 1e-6)
    maximumPositions = try config.int("rope_max_seq_len", default: 1024)
    guard headSize % 2 == 0 else { throw config.invalid("attention_head_dim", "an even number") }
    guard frequencyChannels % 2 == 0 else { throw config.invalid("freq_dim", "an even number") }
    imageChannels = try config.optionalInt("image_dim")
    guard try config.optionalInt("added_kv_proj_dim") == (imageChannels == nil ? nil : channels) else {
      throw config.invalid(
        "added_kv_proj_dim", imageChannels == nil ? "null without image_dim" : "\(channels), all heads")
    }
  }

  /// How many channels a token has.
  public var channels: Int { headCount * headSize }
}
