import LangevinJSON

extension UNet2DConditionConfig {
  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    self.init()
    try Self.refuse(config)
    downBlocks = try UNetBlockKind.list(
      config, "down_block_types", among: UNetBlockKind.allCases, by: \.downName, default: downBlocks)
    upBlocks = try UNetBlockKind.list(
      config, "up_block_types", among: UNetBlockKind.allCases, by: \.upName, default: upBlocks)
    let count = downBlocks.count
    blockOutChannels = try config.ints("block_out_channels", default: blockOutChannels)
    guard (1...16).contains(count) else { throw config.invalid("down_block_types", "1 to 16 blocks") }
    guard upBlocks.count == count else {
      throw config.invalid("up_block_types", "as many as down_block_types")
    }
    guard blockOutChannels.count == count else {
      throw config.invalid("block_out_channels", "\(count) numbers, one a block")
    }

    sampleSize = try config.int("sample_size", default: sampleSize)
    inChannels = try config.int("in_channels", default: 4)
    outChannels = try config.int("out_channels", default: 4)
    layersPerBlock = try config.perBlock("layers_per_block", count: count, default: 2)
    downsamplePadding = try config.count("downsample_padding", default: 1)
    timeScales = try config.string("resnet_time_scale_shift", default: "default") == "scale_shift"
    normGroups = try config.int("norm_num_groups", default: 32)
    normEpsilon = try config.epsilon("norm_eps", default: 1e-5)
    flipSinToCos = try config.bool("flip_sin_to_cos", default: true)
    frequencyShift = try config.frequencyShift(channels: blockOutChannels[0])
    timeEmbeddingChannels = try config.optionalInt("time_embedding_dim")
    timestepConditionChannels = try config.optionalInt("time_cond_proj_dim")
    convInKernel = try config.int("conv_in_kernel", default: 3)
    convOutKernel = try config.int("conv_out_kernel", default: 3)

    try readAttention(config, count: count)
    try readTransformerLayers(config, count: count)
    try readEmbeddings(config)
    try check(config)
  }

  private mutating func readAttention(_ config: ConfigObject, count: Int) throws {
    switch config.values["mid_block_type"] {
    case .null?: midBlock = nil
    case .string("UNetMidBlock2D")?: midBlock = .resnet
    case .string("UNetMidBlock2DSimpleCrossAttn")?: midBlock = .simpleCrossAttention
    default: midBlock = .crossAttention
    }
    // Despite its name the key holds the number of heads, for transformers (diffusers issue 2011).
    headCounts = try config.perBlock(Self.headKey(config), count: count, default: 8)
    headSizes = headCounts
    crossAttentionChannels = try config.perBlock("cross_attention_dim", count: count, default: 1280)
    onlyCrossAttention = try Self.flags("only_cross_attention", count: count, config)
    // One flag for all blocks holds for the mid block too.
    let flag: Bool? = if case .bool(let flag)? = config.values["only_cross_attention"] { flag } else { nil }
    midOnlyCrossAttention = try config.bool("mid_block_only_cross_attention", default: flag ?? false)
    contextNorm = try UNetContextNorm(rawValue: config.string("cross_attention_norm", default: ""))
    contextInputChannels = try config.optionalInt("encoder_hid_dim")
    if config.values["encoder_hid_dim_type", default: .null] != .null, contextInputChannels == nil {
      throw config.invalid("encoder_hid_dim", "a number where there is encoder_hid_dim_type")
    }
  }

  private mutating func readTransformerLayers(_ config: ConfigObject, count: Int) throws {
    let (key, reverseKey) = ("transformer_layers_per_block", "reverse_transformer_layers_per_block")
    transformerLayers = try config.perLayer(key, layers: layersPerBlock, default: 1)
    let upLayers = layersPerBlock.reversed().map { $0 + 1 }
    if config.values[reverseKey, default: .null] != .null {
      upTransformerLayers = try config.perLayer(reverseKey, layers: upLayers, default: 1)
    } else {
      guard transformerLayers.allSatisfy({ Set($0).count == 1 }) else {
        throw config.invalid(
          reverseKey, "the depths of the way up, where those of the way down differ in a block")
      }
      upTransformerLayers = zip(transformerLayers.reversed(), upLayers).map { depths, layers in
        Array(repeating: depths[0], count: layers)
      }
    }
  }

  private mutating func readEmbeddings(_ config: ConfigObject) throws {
    let inputsKey = "projection_class_embeddings_input_dim"
    func inputs(for owner: String) throws -> Int {
      guard let inputs = try config.optionalInt(inputsKey) else {
        throw config.invalid(inputsKey, "a number where there is \(owner)")
      }
      return inputs
    }
    switch try config.string("class_embed_type", default: "") {
    case "timestep": classEmbedding = .timestep
    case "identity": classEmbedding = .identity
    case "projection": classEmbedding = .projection(inputs: try inputs(for: "class_embed_type"))
    case "simple_projection":
      classEmbedding = .simpleProjection(inputs: try inputs(for: "class_embed_type"))
    default: classEmbedding = try config.optionalInt("num_class_embeds").map { .table(count: $0) }
    }
    guard try config.string("addition_embed_type", default: "") == "text_time" else { return }
    guard let channels = try config.optionalInt("addition_time_embed_dim"), channels % 2 == 0 else {
      throw config.invalid("addition_time_embed_dim", "an even number where there is addition_embed_type")
    }
    textTime = UNetTextTimeSize(
      timeIDChannels: channels, inputs: try inputs(for: "addition_embed_type"))
  }

  // MARK: Checks

  private func check(_ config: ConfigObject) throws {
    let last = blockOutChannels.count - 1
    for (level, channels) in blockOutChannels.enumerated() {
      var divisors: [Int] = []
      for kind in [downBlocks[level], upBlocks[last - level]] {
        switch kind {
        case .plain, .resnet: break
        case .crossAttention: divisors.append(headCounts[level])
        case .attention, .simpleCrossAttention: divisors.append(headSizes[level])
        }
      }
      if level == last, midBlock == .crossAttention { divisors.append(headCounts[level]) }
      if level == last, midBlock == .simpleCrossAttention { divisors.append(headSizes[level]) }
      guard divisors.allSatisfy({ channels % $0 == 0 }) else {
        throw config.invalid(Self.headKey(config), "divisors of block_out_channels")
      }
      guard channels % normGroups == 0 else {
        throw config.invalid("norm_num_groups", "a divisor of every one of block_out_channels")
      }
      // The reference makes this norm as wide as the block and applies it to the context.
      if contextNorm == .layer, channels != crossAttentionChannels[level] {
        throw config.invalid("cross_attention_norm", "layer_norm only where cross_attention_dim is the width")
      }
    }
    guard blockOutChannels[0] % 2 == 0 else {
      throw config.invalid("block_out_channels", "an even number in front")
    }
    guard contextNorm != .group || crossAttentionChannels.allSatisfy({ $0 % UNetContextNorm.groups == 0 })
    else { throw config.invalid("cross_attention_dim", "multiples of \(UNetContextNorm.groups)") }
    guard contextInputChannels == nil || Set(crossAttentionChannels).count == 1 else {
      throw config.invalid("cross_attention_dim", "one number where there is encoder_hid_dim")
    }
    guard convInKernel % 2 == 1 else { throw config.invalid("conv_in_kernel", "an odd number") }
    guard convOutKernel % 2 == 1 else { throw config.invalid("conv_out_kernel", "an odd number") }
  }

  /// Everything that the reference can and this model cannot.
  private static func refuse(_ config: ConfigObject) throws {
    func require(_ key: String, _ names: String..., orNull: Bool = false) throws {
      try config.require(key, in: names.map { .string($0) } + (orNull ? [.null] : []))
    }
    try require("_class_name", "UNet2DConditionModel")
    try require(
      "mid_block_type", "UNetMidBlock2DCrossAttn", "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2D",
      orNull: true)
    try require("act_fn", "silu", "swish")
    try require("resnet_time_scale_shift", "default", "scale_shift")
    try require("time_embedding_type", "positional")
    try require("attention_type", "default")
    try require(
      "class_embed_type", "timestep", "identity", "projection", "simple_projection", orNull: true)
    try require("addition_embed_type", "text_time", orNull: true)
    try require("encoder_hid_dim_type", "text_proj", orNull: true)
    try require("cross_attention_norm", "layer_norm", "group_norm", orNull: true)
    for key in ["mid_block_scale_factor", "resnet_out_scale_factor"] {
      try config.require(key, in: [.integer(1)])
    }
    for key in [
      "center_input_sample", "dual_cross_attention", "class_embeddings_concat", "resnet_skip_time_act",
    ] {
      try config.require(key, in: [.bool(false), .null])
    }
    for key in ["time_embedding_act_fn", "timestep_post_act"] { try config.require(key, in: [.null]) }
  }

  private static func headKey(_ config: ConfigObject) -> String {
    config.values["num_attention_heads", default: .null] == .null
      ? "attention_head_dim" : "num_attention_heads"
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
