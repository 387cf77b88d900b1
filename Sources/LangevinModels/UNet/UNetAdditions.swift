import LangevinNN
import LangevinTensor

/// What other networks add to a UNet in one call: the residuals of ControlNets and T2I-Adapters, and the
/// image prompts of IP-Adapters; and what the call need not compute. Without any the UNet computes what it
/// computes alone.
public struct UNetAdditions: Sendable {
  /// Added to the skips, one for each in the order of the way down; none at all, or as many as `skipShapes`
  /// says. [N or 1, h, w, C], in the dtype of the weights. arXiv:2302.05543, section 3.2.
  public var skips: [Tensor] = []
  /// Added to the output of the middle, of that shape.
  public var middle: Tensor?
  /// Added within the down blocks, one for each and perhaps one for the middle; none at all, or as many as
  /// `blockShapes` says, the last being optional. [N or 1, h, w, C]. arXiv:2302.08453, section 3.3.
  public var blocks: [Tensor] = []
  /// What cross-attentions look at beside the context, by their names in
  /// `UNet2DConditionConfig.crossAttentions`.
  public var imagePrompts: [String: [AddedAttention]] = [:]

  /// Features that one call keeps for others.
  public var deepFeatures: DeepFeatures?
  /// Outputs of cross-attentions that one call keeps for others.
  public var crossAttention: CrossAttentionOutputs?
  /// The share of the pixels that self-attention sees less of in the largest pictures that have transformers, 0 to
  /// 0.75; see arXiv:2303.17604.
  public var mergedTokens = 0.0

  /// Nothing.
  public init() {}

  /// Adds what another network adds: sums of residuals, and one image prompt beside the other. Both are of
  /// one UNet; what need not be computed stays as it is.
  ///
  /// Throws `TensorError` where shapes differ.
  public mutating func add(_ other: UNetAdditions) throws {
    skips = try Self.sum(skips, other.skips)
    blocks = try Self.sum(blocks, other.blocks)
    middle = try Self.sum([middle].compactMap { $0 }, [other.middle].compactMap { $0 }).first
    imagePrompts.merge(other.imagePrompts) { $0 + $1 }
  }

  /// Element by element; where one has more, what is more stays.
  private static func sum(_ a: [Tensor], _ b: [Tensor]) throws -> [Tensor] {
    let common = min(a.count, b.count)
    return try zip(a, b).map { try $0 + $1 } + a.dropFirst(common) + b.dropFirst(common)
  }
}

/// A transformer's attention to the context.
public struct UNetCrossAttention: Sendable, Hashable {
  /// In the checkpoint: `mid_block.attentions.0.transformer_blocks.0.attn2`.
  public let name: String
  /// Width of the pixels' vectors.
  public let channels: Int
  /// Width of the context's tokens.
  public let contextChannels: Int
}

extension UNet2DConditionConfig {
  /// The cross-attentions of all transformers as diffusers numbers them: down, up, then the middle.
  public var crossAttentions: [UNetCrossAttention] {
    let last = blockOutChannels.count - 1
    func attentions(_ block: String, _ level: Int, _ depths: [Int]) -> [UNetCrossAttention] {
      depths.enumerated().flatMap { layer, depth in
        (0..<depth).map {
          UNetCrossAttention(
            name: "\(block).attentions.\(layer).transformer_blocks.\($0).attn2",
            channels: blockOutChannels[level], contextChannels: crossAttentionChannels[level])
        }
      }
    }
    var result: [UNetCrossAttention] = []
    for (level, kind) in downBlocks.enumerated() where kind == .crossAttention {
      result += attentions("down_blocks.\(level)", level, transformerLayers[level])
    }
    for (i, kind) in upBlocks.enumerated() where kind == .crossAttention {
      result += attentions("up_blocks.\(i)", last - i, upTransformerLayers[i])
    }
    if midBlock == .crossAttention {
      result += attentions("mid_block", last, [transformerLayers[last][0]])
    }
    return result
  }

  /// How many skips go from the way down to the way up; the first is the first convolution's.
  public var skipCount: Int { backbone.skipChannels.count }

  /// [h, w, C] of every skip, for a latent of this height and width.
  public func skipShapes(height: Int, width: Int) -> [Shape] {
    let backbone = backbone
    var result: [Shape] = [[height, width, blockOutChannels[0]]]
    for (level, block) in backbone.down.enumerated() {
      let channels = blockOutChannels[level]
      result += Array(repeating: [height >> level, width >> level, channels], count: block.layers)
      if block.resize != nil { result.append([height >> (level + 1), width >> (level + 1), channels]) }
    }
    return result
  }

  /// [h, w, C] of what is added to each down block, and last to the middle, for a latent of this height and
  /// width.
  public func blockShapes(height: Int, width: Int) -> [Shape] {
    let last = blockOutChannels.count - 1
    let down = downBlocks.enumerated().map { level, kind in
      let shift = kind == .crossAttention || level == last ? level : level + 1
      return Shape([height >> shift, width >> shift, blockOutChannels[level]])
    }
    return down + [[height >> last, width >> last, blockOutChannels[last]]]
  }

  /// Throws `ModelError.invalidInput` for what does not fit a latent [N, h, w, C] in this UNet.
  func check(_ additions: UNetAdditions, latent: Shape, model: String) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: model, reason: reason()) }
    }
    func check(_ residuals: [Tensor], _ shapes: [Shape], _ what: String) throws {
      for (i, (residual, shape)) in zip(residuals, shapes).enumerated() {
        let expected = Shape([latent[0]] + shape.dimensions)
        try require(
          residual.shape == expected || residual.shape == expected.replacing(axis: 0, with: 1),
          "the residual of \(what) \(i) is \(residual.shape), expected \(expected)")
      }
    }
    if !additions.skips.isEmpty {
      let shapes = skipShapes(height: latent[1], width: latent[2])
      try require(
        additions.skips.count == shapes.count, "\(additions.skips.count) residuals for \(shapes.count) skips")
      try check(additions.skips, shapes, "skip")
    }
    if let deep = additions.deepFeatures {
      try require(
        (0..<skipCount).contains(deep.branch), "a branch at skip \(deep.branch) of \(skipCount) skips")
    }
    try require(
      additions.mergedTokens >= 0 && additions.mergedTokens <= 0.75,
      "\(additions.mergedTokens) of the tokens are to be merged; that is 0 to 0.75")
    let blocks = blockShapes(height: latent[1], width: latent[2])
    if !additions.blocks.isEmpty {
      try require(
        blocks.count - 1...blocks.count ~= additions.blocks.count,
        "\(additions.blocks.count) residuals for \(blocks.count - 1) down blocks")
      try check(additions.blocks, blocks, "block")
    }
    if let middle = additions.middle { try check([middle], [blocks[blocks.count - 1]], "middle") }
    guard !additions.imagePrompts.isEmpty else { return }
    let known = Dictionary(uniqueKeysWithValues: crossAttentions.map { ($0.name, $0.channels) })
    for (name, parts) in additions.imagePrompts {
      guard let channels = known[name] else {
        throw ModelError.invalidInput(model: model, reason: "it has no cross-attention \(name)")
      }
      for part in parts {
        let shape = part.keys.shape
        try require(
          shape == part.values.shape && shape.rank == 3 && shape[0] == latent[0] && shape[2] == channels,
          "the image prompt of \(name) is \(shape), expected [\(latent[0]), S, \(channels)]")
      }
    }
  }

  /// Throws `ModelError.invalidInput` unless latent, timesteps and context go together and fit.
  func check(_ latent: Shape, timesteps: Int, context: Shape, model: String) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw ModelError.invalidInput(model: model, reason: reason()) }
    }
    try require(
      latent.rank == 4 && latent[3] == inChannels,
      "the latent is \(latent), the network takes [N, h, w, \(inChannels)]")
    try require(
      latent[1] > 0 && latent[2] > 0 && latent[1] % sizeMultiple == 0 && latent[2] % sizeMultiple == 0,
      "a latent of \(latent[1])x\(latent[2]): height and width must be multiples of \(sizeMultiple)")
    try require(timesteps == latent[0], "\(timesteps) timesteps for \(latent[0]) images")
    let channels = contextInputChannels.map { [$0] } ?? crossAttentionChannels
    try require(
      context.rank == 3 && context[0] == latent[0] && channels.allSatisfy { $0 == context[2] },
      "the context is \(context), the network takes [\(latent[0]), T, \(channels[0])]")
  }
}
