/// The architecture of FLUX.1's transformer, as diffusers' config.json gives it.
public struct FluxTransformer2DConfig: Sendable, Hashable {
  /// Channels of a token: those of 2x2 latent pixels.
  public var inChannels = 64
  /// Channels of an output token.
  public var outChannels = 64
  /// Blocks in which the picture and the text have weights of their own.
  public var layerCount = 19
  /// Blocks in which they share them.
  public var singleLayerCount = 38
  /// Attention heads.
  public var headCount = 24
  /// Channels of a head.
  public var headSize = 128
  /// Width of the text encoder's states.
  public var textChannels = 4096
  /// Width of the pooled text.
  public var pooledChannels = 768
  /// Whether the network is told a scale of guidance, which it was distilled to imitate: FLUX.1 dev.
  public var embedsGuidance = true
  /// Channels of a head that are turned by a token's number in time, its row and its column; even.
  public var axisChannels = [16, 56, 56]

  /// FLUX.1 dev.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("FluxTransformer2DModel")])
    try config.require("patch_size", in: [.integer(1)])
    inChannels = try config.int("in_channels", default: 64)
    outChannels = try config.int("out_channels", default: inChannels)
    layerCount = try config.int("num_layers", default: 19)
    singleLayerCount = try config.int("num_single_layers", default: 38)
    headCount = try config.int("num_attention_heads", default: 24)
    headSize = try config.int("attention_head_dim", default: 128)
    textChannels = try config.int("joint_attention_dim", default: 4096)
    pooledChannels = try config.int("pooled_projection_dim", default: 768)
    embedsGuidance = try config.bool("guidance_embeds", default: false)
    axisChannels = try config.ints("axes_dims_rope", default: [16, 56, 56])
    guard axisChannels.count == 3, axisChannels.allSatisfy({ $0 % 2 == 0 }),
      axisChannels.reduce(0, +) == headSize
    else {
      throw config.invalid(
        "axes_dims_rope", "three even numbers whose sum is attention_head_dim \(headSize)")
    }
    guard inChannels % 4 == 0 else { throw config.invalid("in_channels", "a multiple of 4") }
  }

  /// How many channels a token has inside.
  public var channels: Int { headCount * headSize }
}
