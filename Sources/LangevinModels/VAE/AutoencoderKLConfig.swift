/// The architecture of a KL autoencoder, as diffusers' config.json gives it.
public struct AutoencoderKLConfig: Sendable, Hashable {
  /// Channels of a picture that is encoded.
  public var inChannels = 3
  /// Channels of a decoded picture.
  public var outChannels = 3
  /// From the largest picture to the smallest.
  public var blockOutChannels = [128, 256, 512, 512]
  /// ResNet blocks of the encoder; the decoder has one more.
  public var layersPerBlock = 2
  /// Channels of the latent.
  public var latentChannels = 4
  /// Groups of every group norm, which divide the widths.
  public var normGroups = 32
  /// The picture's usual height and width.
  public var sampleSize = 512
  /// A diffusion model works on `(latent - shiftFactor) * scalingFactor`.
  public var scalingFactor: Float = 0.18215
  /// Taken from the latent before it is scaled.
  public var shiftFactor: Float = 0
  /// The weights overflow in float16.
  public var forceUpcast = true
  /// Whether a 1x1 convolution follows the encoder.
  public var usesQuantConv = true
  /// Whether a 1x1 convolution comes before the decoder.
  public var usesPostQuantConv = true
  /// Whether the middle attends over all pixels.
  public var midBlockHasAttention = true

  /// Stable Diffusion 1.x and 2.x.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("AutoencoderKL")])
    try config.require("act_fn", in: [.string("silu"), .string("swish")])
    for key in ["latents_mean", "latents_std"] { try config.require(key, in: [.null]) }
    for (key, type) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
      for found in try config.strings(key, default: []) where found != type {
        throw ModelError.unsupported(model: config.model, key: key, value: "\"\(found)\"", supported: [type])
      }
    }
    inChannels = try config.int("in_channels", default: 3)
    outChannels = try config.int("out_channels", default: 3)
    blockOutChannels = try config.ints("block_out_channels", default: [64])
    guard blockOutChannels.count <= 16 else { throw config.invalid("block_out_channels", "1 to 16 numbers") }
    for key in ["down_block_types", "up_block_types"] {
      guard try config.strings(key, default: [""]).count == blockOutChannels.count else {
        throw config.invalid(key, "\(blockOutChannels.count), as many as block_out_channels")
      }
    }
    layersPerBlock = try config.int("layers_per_block", default: 1)
    latentChannels = try config.int("latent_channels", default: 4)
    normGroups = try config.int("norm_num_groups", default: 32)
    sampleSize = try config.int("sample_size", default: 32)
    scalingFactor = try config.scale("scaling_factor", default: 0.18215)
    shiftFactor = Float(try config.float("shift_factor", default: 0))
    forceUpcast = try config.bool("force_upcast", default: true)
    usesQuantConv = try config.bool("use_quant_conv", default: true)
    usesPostQuantConv = try config.bool("use_post_quant_conv", default: true)
    midBlockHasAttention = try config.bool("mid_block_add_attention", default: true)
    guard blockOutChannels.allSatisfy({ $0 % normGroups == 0 }) else {
      throw config.invalid("norm_num_groups", "a divisor of every one of block_out_channels")
    }
  }

  /// How many pixels a latent's side stands for.
  public var downscale: Int { 1 << (blockOutChannels.count - 1) }

  /// How many levels, from the latent's up, have maps of features no larger than the largest of one tile.
  func wholeLevels(_ tiling: Tiling, height: Int, width: Int, isDecoder: Bool) -> Int {
    let channels = Array(blockOutChannels.reversed())
    func size(_ level: Int, _ pixels: Int) -> Int {
      // A decoder's level takes in what the one nearer to the latent gave, an encoder's what the other neighbour did.
      let below = channels[max(level - 1, 0)]
      let above = channels[min(level + 1, channels.count - 1)]
      return pixels << (2 * level) * max(channels[level], isDecoder ? below : above)
    }
    let limit = channels.indices.reduce(0) { max($0, size($1, tiling.tile * tiling.tile)) }
    return channels.indices.prefix { size($0, height * width) <= limit }.count
  }
}
