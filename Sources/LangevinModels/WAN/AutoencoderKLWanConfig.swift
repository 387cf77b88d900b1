import LangevinJSON

/// The architecture of WAN 2.1's autoencoder, as diffusers' config.json gives it.
public struct AutoencoderKLWanConfig: Sendable, Hashable {
  /// Channels of a video that is encoded.
  public var inChannels = 3
  /// Channels of a decoded video.
  public var outChannels = 3
  /// The encoder's width at the full size; `multipliers` are of it.
  public var baseChannels = 96
  /// The same of the decoder.
  public var decoderBaseChannels = 96
  /// Channels of the latent.
  public var latentChannels = 16
  /// Widths from the largest frame to the smallest; between two of them width and height are halved.
  public var multipliers = [1, 2, 4, 4]
  /// ResNet blocks a width of the encoder; the decoder has one more.
  public var layersPerBlock = 2
  /// Where the encoder halves the number of frames too, one a halving of the size.
  public var temporalDownsample = [false, true, true]
  /// The diffusion model works on `(latent - latentsMean) / latentsStd`; one a latent channel.
  public var latentsMean: [Float] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
    -0.1922, -0.9497, 0.2503, -0.2921,
  ]
  /// The standard deviation of each latent channel; see `latentsMean`.
  public var latentsStd: [Float] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382,
    1.1253, 2.8251, 1.9160,
  ]

  /// The configuration of WAN 2.1.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported`, for WAN 2.2's autoencoder among others, and
  /// `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("AutoencoderKLWan")])
    try config.require("is_residual", in: [.bool(false)])
    try config.require("patch_size", in: [.null, .integer(1)])
    // The reference has a place for them but cannot run them.
    try config.require("attn_scales", in: [.array([])])
    inChannels = try config.int("in_channels", default: 3)
    outChannels = try config.int("out_channels", default: 3)
    baseChannels = try config.int("base_dim", default: 96)
    decoderBaseChannels = try config.int("decoder_base_dim", default: baseChannels)
    latentChannels = try config.int("z_dim", default: 16)
    multipliers = try config.ints("dim_mult", default: multipliers)
    guard multipliers.count <= 16 else { throw config.invalid("dim_mult", "1 to 16 numbers") }
    layersPerBlock = try config.int("num_res_blocks", default: 2)
    temporalDownsample = try config.bools("temperal_downsample", default: temporalDownsample)
    guard temporalDownsample.count == multipliers.count - 1 else {
      throw config.invalid("temperal_downsample", "\(multipliers.count - 1), one less than dim_mult")
    }
    // The encoder takes four frames at a time.
    guard temporalDownsample.count(where: { $0 }) <= 2 else {
      throw config.invalid("temperal_downsample", "at most two of them true")
    }
    guard multipliers.dropFirst().allSatisfy({ $0 * decoderBaseChannels % 2 == 0 }) else {
      throw config.invalid("dim_mult", "even widths of the decoder")
    }
    latentsMean = try config.floats("latents_mean", default: latentsMean.map(Double.init)).map { Float($0) }
    latentsStd = try config.floats("latents_std", default: latentsStd.map(Double.init)).map { Float($0) }
    for (key, list) in [("latents_mean", latentsMean), ("latents_std", latentsStd)] {
      guard list.count == latentChannels else {
        throw config.invalid(key, "\(latentChannels) numbers, as many as z_dim")
      }
    }
    guard latentsStd.allSatisfy({ $0 >= 1e-6 }) else {
      throw config.invalid("latents_std", "numbers above zero")
    }
    for (key, ratio) in [("scale_factor_temporal", temporalDownscale), ("scale_factor_spatial", downscale)] {
      guard try config.int(key, default: ratio) == ratio else {
        throw config.invalid(key, "\(ratio), which dim_mult and temperal_downsample say")
      }
    }
  }

  /// How many pixels a latent's side stands for.
  public var downscale: Int { 1 << (multipliers.count - 1) }

  /// How many frames a latent frame after the first stands for.
  public var temporalDownscale: Int { 1 << temporalDownsample.count(where: { $0 }) }
}
