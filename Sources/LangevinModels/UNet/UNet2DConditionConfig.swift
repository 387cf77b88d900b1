/// The architecture of a text-conditioned UNet, as diffusers' config.json gives it. Lists have one entry for
/// each resolution, from the largest picture to the smallest.
public struct UNet2DConditionConfig: Sendable, Hashable {
  /// The latent's usual height and width.
  public var sampleSize = 64
  /// Channels of the latent.
  public var inChannels = 4
  /// Channels of the output.
  public var outChannels = 4
  /// Width of each block.
  public var blockOutChannels = [320, 640, 1280, 1280]
  /// ResNet blocks on the way down; on the way up there is one more.
  public var layersPerBlock = [2, 2, 2, 2]
  /// Whether the block on the way down has attention.
  public var downAttention = [true, true, true, false]
  /// Whether the block on the way up has attention; in the file's order, the smallest picture first.
  public var upAttention = [false, true, true, true]
  /// Attention heads, which divide the width.
  public var headCounts = [8, 8, 8, 8]
  /// Transformer blocks behind each ResNet block.
  public var transformerLayers = [1, 1, 1, 1]
  /// Width of the text that is attended to.
  public var crossAttentionChannels = [768, 768, 768, 768]
  /// Whether the first attention of a transformer block looks at the text instead of the pixels.
  public var onlyCrossAttention = [false, false, false, false]
  /// 0 means one row below and one column to the right.
  public var downsamplePadding = 1
  /// Groups of every group norm, which divide the widths.
  public var normGroups = 32
  /// Added to the variances of the ResNet blocks.
  public var normEpsilon: Float = 1e-5
  /// Whether the cosines of the timestep come before the sines.
  public var flipSinToCos = true
  /// Taken from the divisor of the sinusoids' exponents.
  public var frequencyShift = 0.0
  /// Nil: four times the first of `blockOutChannels`.
  public var timeEmbeddingChannels: Int?
  /// Side of the first convolution, odd.
  public var convInKernel = 3
  /// Side of the last convolution, odd.
  public var convOutKernel = 3

  /// Stable Diffusion 1.x.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try UNet2DConditionConfig.refuse(config)
    let downTypes = try config.strings(
      "down_block_types", default: Array(repeating: "CrossAttnDownBlock2D", count: 3) + ["DownBlock2D"])
    let upTypes = try config.strings(
      "up_block_types", default: ["UpBlock2D"] + Array(repeating: "CrossAttnUpBlock2D", count: 3))
    let count = downTypes.count
    downAttention = try UNet2DConditionConfig.attention(
      downTypes, key: "down_block_types", plain: "DownBlock2D", cross: "CrossAttnDownBlock2D", config)
    upAttention = try UNet2DConditionConfig.attention(
      upTypes, key: "up_block_types", plain: "UpBlock2D", cross: "CrossAttnUpBlock2D", config)
    blockOutChannels = try config.ints("block_out_channels", default: blockOutChannels)
    guard (1...16).contains(count) else { throw config.invalid("down_block_types", "1 to 16 blocks") }
    guard upTypes.count == count else {
      throw config.invalid("up_block_types", "as many as down_block_types")
    }
    guard blockOutChannels.count == count else {
      throw config.invalid("block_out_channels", "\(count) numbers, one a block")
    }

    sampleSize = try config.int("sample_size", default: sampleSize)
    inChannels = try config.int("in_channels", default: 4)
    outChannels = try config.int("out_channels", default: 4)
    layersPerBlock = try config.perBlock("layers_per_block", count: count, default: 2)
    // Despite its name the key holds the number of heads (diffusers issue 2011).
    let headKey =
      config.values["num_attention_heads", default: .null] == .null
      ? "attention_head_dim" : "num_attention_heads"
    headCounts = try config.perBlock(headKey, count: count, default: 8)
    transformerLayers = try config.perBlock("transformer_layers_per_block", count: count, default: 1)
    crossAttentionChannels = try config.perBlock("cross_attention_dim", count: count, default: 1280)
    onlyCrossAttention = try UNet2DConditionConfig.flags("only_cross_attention", count: count, config)
    downsamplePadding = try config.count("downsample_padding", default: 1)
    normGroups = try config.int("norm_num_groups", default: 32)
    normEpsilon = Float(try config.float("norm_eps", default: 1e-5))
    flipSinToCos = try config.bool("flip_sin_to_cos", default: true)
    frequencyShift = try config.float("freq_shift", default: 0)
    timeEmbeddingChannels = try config.optionalInt("time_embedding_dim")
    convInKernel = try config.int("conv_in_kernel", default: 3)
    convOutKernel = try config.int("conv_out_kernel", default: 3)

    for (channels, heads) in zip(blockOutChannels, headCounts) {
      guard channels % heads == 0 else { throw config.invalid(headKey, "divisors of block_out_channels") }
      guard channels % normGroups == 0 else {
        throw config.invalid("norm_num_groups", "a divisor of every one of block_out_channels")
      }
    }
    guard blockOutChannels[0] % 2 == 0 else {
      throw config.invalid("block_out_channels", "an even number in front")
    }
    guard convInKernel % 2 == 1 else { throw config.invalid("conv_in_kernel", "an odd number") }
    guard convOutKernel % 2 == 1 else { throw config.invalid("conv_out_kernel", "an odd number") }
  }

  /// A latent's height and width must be multiples of this.
  public var sizeMultiple: Int { 1 << (blockOutChannels.count - 1) }

  var timeChannels: Int { timeEmbeddingChannels ?? 4 * blockOutChannels[0] }

  /// Everything that the reference can and this model cannot.
  private static func refuse(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("UNet2DConditionModel")])
    try config.require("mid_block_type", in: [.string("UNetMidBlock2DCrossAttn")])
    try config.require("act_fn", in: [.string("silu"), .string("swish")])
    try config.require("resnet_time_scale_shift", in: [.string("default")])
    try config.require("time_embedding_type", in: [.string("positional")])
    try config.require("attention_type", in: [.string("default")])
    for key in ["mid_block_scale_factor", "resnet_out_scale_factor"] {
      try config.require(key, in: [.integer(1)])
    }
    for key in [
      "center_input_sample", "dual_cross_attention", "class_embeddings_concat", "resnet_skip_time_act",
    ] {
      try config.require(key, in: [.bool(false), .null])
    }
    for key in [
      "class_embed_type", "num_class_embeds", "addition_embed_type", "addition_time_embed_dim",
      "encoder_hid_dim",
      "encoder_hid_dim_type", "time_cond_proj_dim", "time_embedding_act_fn", "timestep_post_act",
      "projection_class_embeddings_input_dim", "cross_attention_norm", "reverse_transformer_layers_per_block",
    ] {
      try config.require(key, in: [.null])
    }
  }

  private static func attention(
    _ types: [String], key: String, plain: String, cross: String, _ config: ConfigObject
  ) throws -> [Bool] {
    try types.map { type in
      guard type == plain || type == cross else {
        throw ModelError.unsupported(
          model: config.model, key: key, value: "\"\(type)\"", supported: [plain, cross])
      }
      return type == cross
    }
  }

  private static func flags(_ key: String, count: Int, _ config: ConfigObject) throws -> [Bool] {
    guard case .array(let items)? = config.values[key] else {
      return Array(repeating: try config.bool(key, default: false), count: count)
    }
    guard items.count == count else { throw config.invalid(key, "\(count) values, one a block") }
    return try items.map {
      guard case .bool(let flag) = $0 else { throw config.invalid(key, "true or false for each block") }
      return flag
    }
  }
}
