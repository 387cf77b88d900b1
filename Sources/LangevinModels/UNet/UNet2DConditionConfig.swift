/// The architecture of a conditional UNet, as diffusers' config.json gives it. Lists have one entry for each
/// resolution, from the largest picture to the smallest.
public struct UNet2DConditionConfig: Sendable, Hashable {
  /// The latent's usual height and width.
  public var sampleSize = 64
  /// Channels of the input: of the latent, and of what inpainting and editing put beside it.
  public var inChannels = 4
  /// Channels of the output.
  public var outChannels = 4
  /// Width of each block.
  public var blockOutChannels = [320, 640, 1280, 1280]
  /// ResNet blocks on the way down; on the way up there is one more.
  public var layersPerBlock = [2, 2, 2, 2]
  /// The blocks on the way down.
  public var downBlocks: [UNetBlockKind] = [.crossAttention, .crossAttention, .crossAttention, .plain]
  /// The block of the smallest pictures, if there is one.
  public var midBlock: UNetMidKind? = .crossAttention
  /// The blocks on the way up; in the file's order, the smallest picture first.
  public var upBlocks: [UNetBlockKind] = [.plain, .crossAttention, .crossAttention, .crossAttention]
  /// Heads of the transformers of `crossAttention`, which divide the width.
  public var headCounts = [8, 8, 8, 8]
  /// Channels of a head in the other kinds of attention, which divide the width. The file has one key for both.
  public var headSizes = [8, 8, 8, 8]
  /// Transformer blocks behind each ResNet block on the way down; the mid block has as many as the last begins with.
  public var transformerLayers = [[1, 1], [1, 1], [1, 1], [1, 1]]
  /// Transformer blocks behind each ResNet block on the way up; in the file's order, the smallest picture first.
  public var upTransformerLayers = [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
  /// Width of the context that is attended to.
  public var crossAttentionChannels = [768, 768, 768, 768]
  /// Whether a transformer's first attention looks at the context instead of the pixels, and whether pixels do not
  /// see each other in `simpleCrossAttention`.
  public var onlyCrossAttention = [false, false, false, false]
  /// The same of a mid block of `simpleCrossAttention`.
  public var midOnlyCrossAttention = false
  /// How `simpleCrossAttention` normalises the context; nil means not at all.
  public var contextNorm: UNetContextNorm?
  /// Width of the context that is given, where a linear layer brings it to `crossAttentionChannels`.
  public var contextInputChannels: Int?
  /// 0 means one row below and one column to the right.
  public var downsamplePadding = 1
  /// Whether the time embedding scales and shifts in the ResNet blocks, rather than only shifts.
  public var timeScales = false
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
  /// Width of `UNetConditioning.timestepCondition`, where the network can take one.
  public var timestepConditionChannels: Int?
  /// How class labels join the time embedding, where there are some.
  public var classEmbedding: UNetClassEmbedding?
  /// Of the pooled text and time ids, where there are some.
  public var textTime: UNetTextTimeSize?
  /// Side of the first convolution, odd.
  public var convInKernel = 3
  /// Side of the last convolution, odd.
  public var convOutKernel = 3

  /// The configuration of Stable Diffusion 1.x.
  public init() {}

  /// A latent's height and width must be multiples of this.
  public var sizeMultiple: Int { 1 << (blockOutChannels.count - 1) }

  /// Width of the time embedding.
  public var timeChannels: Int { timeEmbeddingChannels ?? 4 * blockOutChannels[0] }

  /// Whether the network takes `UNetConditioning.contextMask`.
  public var takesContextMask: Bool {
    midBlock != .crossAttention && !(downBlocks + upBlocks).contains(.crossAttention)
  }
}

// MARK: The network's parts

extension UNet2DConditionConfig {
  var embeddings: UNetEmbeddings.Shape {
    UNetEmbeddings.Shape(
      sinusoid: Sinusoid(channels: blockOutChannels[0], flipped: flipSinToCos, shift: frequencyShift),
      outputs: timeChannels, conditionChannels: timestepConditionChannels, classes: classEmbedding,
      textTime: textTime)
  }

  var backbone: UNetBackbone.Shape {
    let last = blockOutChannels.count - 1
    return UNetBackbone.Shape(
      inputs: inChannels, outputs: outChannels, channels: blockOutChannels,
      down: (0...last).map { level in
        block(level, downBlocks[level], transformerLayers[level], resizes: level < last)
      },
      middle: midBlock.map(middle),
      up: (0...last).map { i in
        block(last - i, upBlocks[i], upTransformerLayers[i], resizes: i < last)
      },
      groups: normGroups, epsilon: normEpsilon, convInKernel: convInKernel, convOutKernel: convOutKernel)
  }

  /// `depths` has one entry a layer.
  private func block(_ level: Int, _ kind: UNetBlockKind, _ depths: [Int], resizes: Bool) -> UNetBlockShape {
    let onlyContext = onlyCrossAttention[level]
    var shape = plain(layers: depths.count)
    shape.attentions = depths.compactMap { depth -> UNetAttention.Shape? in
      switch kind {
      case .plain, .resnet: nil
      case .attention: pixels(level)
      case .crossAttention: transformer(level, depth: depth, onlyContext: onlyContext)
      case .simpleCrossAttention: addedContext(level, onlyContext: onlyContext)
      }
    }
    if resizes {
      switch kind {
      case .plain, .attention, .crossAttention: shape.resize = .convolution
      case .resnet, .simpleCrossAttention: shape.resize = .resnet
      }
    }
    return shape
  }

  private func middle(_ kind: UNetMidKind) -> UNetBlockShape {
    let last = blockOutChannels.count - 1
    var shape = plain(layers: kind == .resnet ? 0 : 1)
    switch kind {
    case .resnet, .resnets: break
    case .attention: shape.attentions = [pixels(last)]
    case .crossAttention:
      shape.attentions = [transformer(last, depth: transformerLayers[last][0], onlyContext: false)]
    case .simpleCrossAttention: shape.attentions = [addedContext(last, onlyContext: midOnlyCrossAttention)]
    }
    return shape
  }

  private func plain(layers: Int) -> UNetBlockShape {
    UNetBlockShape(
      layers: layers, timeChannels: timeChannels, scalesByTime: timeScales, groups: normGroups,
      epsilon: normEpsilon, downsamplePadding: downsamplePadding)
  }

  private func pixels(_ level: Int) -> UNetAttention.Shape {
    .pixels(
      PixelAttention.Shape(
        channels: blockOutChannels[level], heads: blockOutChannels[level] / headSizes[level],
        groups: normGroups, epsilon: normEpsilon))
  }

  private func transformer(_ level: Int, depth: Int, onlyContext: Bool) -> UNetAttention.Shape {
    .transformer(
      Transformer2D.Shape(
        channels: blockOutChannels[level], contextChannels: crossAttentionChannels[level],
        heads: headCounts[level], depth: depth, groups: normGroups, onlyCrossAttention: onlyContext))
  }

  private func addedContext(_ level: Int, onlyContext: Bool) -> UNetAttention.Shape {
    .addedContext(
      AddedContextAttention.Shape(
        channels: blockOutChannels[level], contextChannels: crossAttentionChannels[level],
        heads: blockOutChannels[level] / headSizes[level], groups: normGroups, onlyContext: onlyContext,
        contextNorm: contextNorm))
  }
}
