import LangevinJSON

/// The architecture of an unconditional UNet, as diffusers' config.json gives it. Lists have one entry for each
/// resolution, from the largest picture to the smallest.
public struct UNet2DConfig: Sendable, Hashable {
  /// The picture's usual height and width, where the file says.
  public var sampleSize: Int?
  /// Channels of the input: of the picture, and for super-resolution of the small one beside it.
  public var inChannels = 3
  /// Channels of the output.
  public var outChannels = 3
  /// Width of each block.
  public var blockOutChannels = [224, 448, 672, 896]
  /// ResNet blocks on the way down; on the way up there is one more.
  public var layersPerBlock = 2
  /// The blocks on the way down: `plain`, `resnet` and `attention`.
  public var downBlocks: [UNetBlockKind] = [.plain, .attention, .attention, .attention]
  /// The block of the smallest pictures, if there is one: `attention` or `resnets`.
  public var midBlock: UNetMidKind? = .attention
  /// The blocks on the way up; in the file's order, the smallest picture first.
  public var upBlocks: [UNetBlockKind] = [.attention, .attention, .attention, .plain]
  /// Channels of an attention head, which divide the width; nil means one head.
  public var headSize: Int? = 8
  /// 0 means one row below and one column to the right.
  public var downsamplePadding = 1
  /// Whether a ResNet block changes the size in `attention` blocks on the way down, rather than a convolution.
  public var downsamplesByResnet = false
  /// The same on the way up.
  public var upsamplesByResnet = false
  /// Whether the time embedding scales and shifts in the ResNet blocks, rather than only shifts.
  public var timeScales = false
  /// Groups of the group norms, which divide the widths.
  public var normGroups = 32
  /// Groups of the norm in front of the mid block's attention; nil means there is none.
  public var midAttentionGroups: Int? = 32
  /// Added to the variances.
  public var normEpsilon: Float = 1e-5
  /// Whether the cosines of the timestep come before the sines.
  public var flipSinToCos = true
  /// Taken from the divisor of the sinusoids' exponents.
  public var frequencyShift = 0.0
  /// Nil: four times the first of `blockOutChannels`.
  public var timeEmbeddingChannels: Int?
  /// How class labels join the time embedding, where there are some: `table`, `timestep` or `identity`.
  public var classEmbedding: UNetClassEmbedding?

  /// What the reference builds without a configuration.
  public init() {}

  /// A picture's height and width must be multiples of this.
  public var sizeMultiple: Int { 1 << (blockOutChannels.count - 1) }

  /// Width of the time embedding.
  public var timeChannels: Int { timeEmbeddingChannels ?? 4 * blockOutChannels[0] }

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    self.init()
    try Self.refuse(config)
    let kinds: [UNetBlockKind] = [.plain, .resnet, .attention]
    downBlocks = try UNetBlockKind.list(
      config, "down_block_types", among: kinds, by: \.downName, default: downBlocks)
    upBlocks = try UNetBlockKind.list(
      config, "up_block_types", among: kinds, by: \.upName, default: upBlocks)
    let count = downBlocks.count
    blockOutChannels = try config.ints("block_out_channels", default: blockOutChannels)
    guard (1...16).contains(count) else { throw config.invalid("down_block_types", "1 to 16 blocks") }
    guard upBlocks.count == count else {
      throw config.invalid("up_block_types", "as many as down_block_types")
    }
    guard blockOutChannels.count == count else {
      throw config.invalid("block_out_channels", "\(count) numbers, one a block")
    }

    sampleSize = try config.optionalInt("sample_size")
    inChannels = try config.int("in_channels", default: 3)
    outChannels = try config.int("out_channels", default: 3)
    layersPerBlock = try config.int("layers_per_block", default: 2)
    // Null is a value here: one head.
    headSize =
      config.values["attention_head_dim"] == .null ? nil : try config.int("attention_head_dim", default: 8)
    downsamplePadding = try config.count("downsample_padding", default: 1)
    downsamplesByResnet = try config.string("downsample_type", default: "conv") == "resnet"
    upsamplesByResnet = try config.string("upsample_type", default: "conv") == "resnet"
    timeScales = try config.string("resnet_time_scale_shift", default: "default") == "scale_shift"
    normGroups = try config.int("norm_num_groups", default: 32)
    midAttentionGroups = try config.optionalInt("attn_norm_num_groups") ?? (timeScales ? nil : normGroups)
    normEpsilon = try config.epsilon("norm_eps", default: 1e-5)
    flipSinToCos = try config.bool("flip_sin_to_cos", default: true)
    frequencyShift = try config.frequencyShift(channels: blockOutChannels[0])
    timeEmbeddingChannels = try config.optionalInt("time_embedding_dim")
    let attends = try config.bool("add_attention", default: true)
    midBlock = config.values["mid_block_type"] == .null ? nil : attends ? .attention : .resnets
    switch try config.string("class_embed_type", default: "") {
    case "timestep": classEmbedding = .timestep
    case "identity": classEmbedding = .identity
    default: classEmbedding = try config.optionalInt("num_class_embeds").map { .table(count: $0) }
    }
    try check(config)
  }

  private func check(_ config: ConfigObject) throws {
    let last = blockOutChannels.count - 1
    for (level, channels) in blockOutChannels.enumerated() {
      let attends =
        downBlocks[level] == .attention || upBlocks[last - level] == .attention
        || level == last && midBlock == .attention
      guard !attends || channels % (headSize ?? channels) == 0 else {
        throw config.invalid("attention_head_dim", "a divisor of the block_out_channels with attention")
      }
      guard channels % normGroups == 0 else {
        throw config.invalid("norm_num_groups", "a divisor of every one of block_out_channels")
      }
    }
    guard blockOutChannels[0] % 2 == 0 else {
      throw config.invalid("block_out_channels", "an even number in front")
    }
    guard blockOutChannels[last] % (midAttentionGroups ?? 1) == 0 else {
      throw config.invalid("attn_norm_num_groups", "a divisor of the last of block_out_channels")
    }
  }

  /// Everything that the reference can and this model cannot.
  private static func refuse(_ config: ConfigObject) throws {
    func require(_ key: String, _ names: String..., orNull: Bool = false) throws {
      try config.require(key, in: names.map { .string($0) } + (orNull ? [.null] : []))
    }
    try require("_class_name", "UNet2DModel")
    try require("mid_block_type", "UNetMidBlock2D", orNull: true)
    try require("act_fn", "silu", "swish")
    try require("resnet_time_scale_shift", "default", "scale_shift")
    try require("time_embedding_type", "positional")
    try require("downsample_type", "conv", "resnet")
    try require("upsample_type", "conv", "resnet")
    try require("class_embed_type", "timestep", "identity", orNull: true)
    try config.require("mid_block_scale_factor", in: [.integer(1)])
    try config.require("center_input_sample", in: [.bool(false), .null])
  }
}

// MARK: The network's parts

extension UNet2DConfig {
  var embeddings: UNetEmbeddings.Shape {
    UNetEmbeddings.Shape(
      sinusoid: Sinusoid(channels: blockOutChannels[0], flipped: flipSinToCos, shift: frequencyShift),
      outputs: timeChannels, classes: classEmbedding)
  }

  var backbone: UNetBackbone.Shape {
    let last = blockOutChannels.count - 1
    var middle = plain(layers: 1)
    if midBlock == .attention { middle.attentions = [attention(last, groups: midAttentionGroups)] }
    return UNetBackbone.Shape(
      inputs: inChannels, outputs: outChannels, channels: blockOutChannels,
      down: (0...last).map { level in
        block(
          level, downBlocks[level], layers: layersPerBlock,
          resize: level == last ? nil : downsamplesByResnet ? .resnet : .convolution)
      },
      middle: midBlock == nil ? nil : middle,
      up: (0...last).map { i in
        block(
          last - i, upBlocks[i], layers: layersPerBlock + 1,
          resize: i == last ? nil : upsamplesByResnet ? .resnet : .convolution)
      },
      groups: normGroups, epsilon: normEpsilon)
  }

  /// `resize` is that of a block with attention; the other kinds have their own.
  private func block(_ level: Int, _ kind: UNetBlockKind, layers: Int, resize: UNetBlockShape.Resize?)
    -> UNetBlockShape
  {
    var shape = plain(layers: layers)
    if kind == .attention {
      shape.attentions = Array(repeating: attention(level, groups: normGroups), count: layers)
    }
    shape.resize = resize.map { kind == .attention ? $0 : kind == .resnet ? .resnet : .convolution }
    return shape
  }

  private func plain(layers: Int) -> UNetBlockShape {
    UNetBlockShape(
      layers: layers, timeChannels: timeChannels, scalesByTime: timeScales, groups: normGroups,
      epsilon: normEpsilon, downsamplePadding: downsamplePadding)
  }

  private func attention(_ level: Int, groups: Int?) -> UNetAttention.Shape {
    let channels = blockOutChannels[level]
    return .pixels(
      PixelAttention.Shape(
        channels: channels, heads: headSize.map { channels / $0 } ?? 1, groups: groups, epsilon: normEpsilon))
  }
}
