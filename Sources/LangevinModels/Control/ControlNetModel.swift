import LangevinJSON
import LangevinNN
import LangevinTensor

/// The architecture of a ControlNet, as diffusers' config.json gives it.
public struct ControlNetConfig: Sendable, Hashable {
  /// The UNet whose way down and middle it repeats; what is said of the way up has no meaning.
  public var unet = UNet2DConditionConfig()
  /// Channels of the picture that controls.
  public var conditioningChannels = 3
  /// Widths of the convolutions that bring the picture to the latent's size, which halve it but for the last.
  public var embeddingChannels = [16, 32, 96, 256]

  /// The configuration of Stable Diffusion 1.x's ControlNets.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("ControlNetModel")])
    try config.require("controlnet_conditioning_channel_order", in: [.string("rgb")])
    // It is trained for guess mode, where the negative prompt's half goes without control.
    try config.require("global_pool_conditions", in: [.bool(false)])
    for key in ["encoder_hid_dim", "encoder_hid_dim_type"] { try config.require(key, in: [.null]) }
    let down = try config.strings(
      "down_block_types", default: unet.downBlocks.map(\.downName))
    unet = try UNet2DConditionConfig(
      config.replacing([
        "_class_name": .string("UNet2DConditionModel"),
        "down_block_types": .strings(down),
        // There is no way up; what a UNet of these blocks has keeps the checks whole.
        "up_block_types": .strings(down.reversed().map { $0.replacing("Down", with: "Up") }),
      ]))
    conditioningChannels = try config.int("conditioning_channels", default: conditioningChannels)
    embeddingChannels = try config.ints("conditioning_embedding_out_channels", default: embeddingChannels)
    guard embeddingChannels.count <= 8 else {
      throw config.invalid("conditioning_embedding_out_channels", "at most 8 numbers")
    }
  }

  /// The picture's pixels a latent, along each side.
  public var downscale: Int { 1 << (embeddingChannels.count - 1) }
}

/// A trainable copy of a UNet's way down that sees a picture (edges, depth, a pose) and adds to the UNet's
/// skips. arXiv:2302.05543.
public struct ControlNetModel: Sendable {
  /// What the network was built from.
  public let config: ControlNetConfig
  let embeddings: UNetEmbeddings
  let encoder: UNetEncoder
  let hintIn: Convolution
  let hintBlocks: [Convolution]
  let hintOut: Convolution
  /// Convolutions that begin as zero: with them training begins at the UNet as it was.
  let skips: [Convolution]
  let middle: Convolution
  let path: String

  /// Loads the whole network under diffusers' names. Throws `WeightError`.
  public init(_ config: ControlNetConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let shape = config.unet.backbone
    embeddings = try UNetEmbeddings(weights, config.unet.embeddings, model: Self.name)
    encoder = try UNetEncoder(weights, shape)

    let (hint, widths) = (weights["controlnet_cond_embedding"], config.embeddingChannels)
    hintIn = try Convolution(
      hint["conv_in"], inputs: config.conditioningChannels, outputs: widths[0], kernel: 3)
    hintBlocks = try (0..<2 * (widths.count - 1)).map { i in
      let halves = i % 2 == 1
      return try Convolution(
        hint["blocks"][i], inputs: widths[i / 2], outputs: widths[halves ? i / 2 + 1 : i / 2], kernel: 3,
        stride: halves ? 2 : 1)
    }
    hintOut = try Convolution(
      hint["conv_out"], inputs: widths[widths.count - 1], outputs: shape.channels[0], kernel: 3)

    skips = try encoder.skipChannels.enumerated().map { i, channels in
      try Convolution(weights["controlnet_down_blocks"][i], inputs: channels, outputs: channels, kernel: 1)
    }
    let last = shape.channels[shape.channels.count - 1]
    middle = try Convolution(weights["controlnet_mid_block"], inputs: last, outputs: last, kernel: 1)
    try weights.finish()
  }

  static let name = "ControlNetModel"

  /// What the picture [N, H, W, conditioningChannels] in 0...1 says at the latent's size, [N, h, w, C]: the
  /// same in every step.
  ///
  /// Throws `ModelError.invalidInput` for other channels, and sizes that are no multiples of
  /// `config.downscale`.
  public func hint(_ picture: Tensor) throws -> Tensor {
    let (shape, multiple) = (picture.shape, config.downscale)
    guard shape.rank == 4, shape[3] == config.conditioningChannels, shape[1] > 0, shape[2] > 0,
      shape[1] % multiple == 0, shape[2] % multiple == 0
    else {
      throw ModelError.invalidInput(
        model: Self.name,
        reason:
          "the control picture is \(shape), the network takes [N, H, W, \(config.conditioningChannels)] of "
          + "multiples of \(multiple)")
    }
    return try layer(path) {
      let first = try hintIn(picture, activation: .silu)
      return try hintOut(hintBlocks.reduce(first) { try $1($0, activation: .silu) })
    }
  }

  /// latent [N, h, w, inChannels], one timestep an image, and what the UNet is conditioned on -> what is
  /// added to the UNet's skips and middle, times `scale`. The hint is [N or 1, h, w, C].
  ///
  /// Throws `ModelError.invalidInput` as the UNet does, and for a hint of another size.
  public func callAsFunction(
    _ latent: Tensor, timesteps: [Float], conditioning: UNetConditioning, hint: Tensor, scale: Float = 1
  ) throws -> UNetAdditions {
    try config.unet.check(
      latent.shape, timesteps: timesteps.count, context: conditioning.context.shape, model: Self.name)
    let expected = latent.shape.replacing(axis: 3, with: config.unet.blockOutChannels[0])
    guard hint.shape == expected || hint.shape == expected.replacing(axis: 0, with: 1) else {
      throw ModelError.invalidInput(
        model: Self.name, reason: "the control picture's hint is \(hint.shape), expected \(expected)")
    }
    return try layer(path) {
      let time = try embeddings(
        timesteps, classLabels: conditioning.classLabels, textTime: conditioning.textTime)
      let (outputs, last) = try encoder(
        latent, time: time, context: UNetContext(tokens: conditioning.context), hint: hint)
      func scaled(_ x: Tensor) throws -> Tensor { scale == 1 ? x : try x * scale }
      var additions = UNetAdditions()
      additions.skips = try zip(skips, outputs).map { try scaled($0($1)) }
      additions.middle = try scaled(middle(last))
      return additions
    }
  }
}
