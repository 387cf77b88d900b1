import LangevinJSON
import LangevinNN
import LangevinTensor

/// The architecture of a T2I-Adapter, as diffusers' config.json gives it.
public struct T2IAdapterConfig: Sendable, Hashable {
  /// Which of its blocks halve the picture.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// All but the first: for Stable Diffusion 1.x.
    case full = "full_adapter"
    /// The third: for Stable Diffusion XL, whose middle gets the last features.
    case fullXL = "full_adapter_xl"
    /// All but the first, and one more of the last width; its convolutions work on a quarter of the channels.
    case light = "light_adapter"
  }

  /// Which of its blocks halve the picture.
  public var kind = Kind.full
  /// Channels of the picture: 3, or 1 for a grey one.
  public var inChannels = 3
  /// Width of each block; of a light one, of all but the last.
  public var channels = [320, 640, 1280, 1280]
  /// Residual blocks in each block.
  public var residualBlocks = 2
  /// Sides of the square of pixels that becomes one vector.
  public var downscale = 8

  /// The configuration of Stable Diffusion 1.x's T2I-Adapters.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("T2IAdapter")])
    try config.require("adapter_type", in: Kind.allCases.map { .string($0.rawValue) })
    kind = Kind(rawValue: try config.string("adapter_type", default: kind.rawValue)) ?? kind
    inChannels = try config.int("in_channels", default: inChannels)
    channels = try config.ints("channels", default: channels)
    residualBlocks = try config.int("num_res_blocks", default: residualBlocks)
    downscale = try config.int("downscale_factor", default: downscale)
    guard downscale <= 64 else { throw config.invalid("downscale_factor", "at most 64") }
    guard (1...8).contains(channels.count) else {
      throw config.invalid("channels", "1 to 8 numbers")
    }
    // Only its second and third block may change the width.
    guard kind != .fullXL || zip(channels, channels.dropFirst()).dropFirst(2).allSatisfy(==) else {
      throw config.invalid("channels", "one width from the third block on")
    }
    guard kind != .light || channels.allSatisfy({ $0 >= 4 }) else {
      throw config.invalid("channels", "at least 4 each")
    }
  }

  /// Width of each block.
  var widths: [Int] { kind == .light ? channels + channels.suffix(1) : channels }

  /// A picture's height and width must be multiples of this.
  public var sizeMultiple: Int {
    downscale << (kind == .fullXL ? 1 : widths.count - 1)
  }

  /// Whether block k halves height and width.
  func halves(_ block: Int) -> Bool { kind == .fullXL ? block == 2 : block > 0 }

  /// [h, w, C] of what each block makes of a picture of this height and width.
  public func featureShapes(height: Int, width: Int) -> [Shape] {
    var shift = 0
    return widths.enumerated().map { block, channels in
      if halves(block) { shift += 1 }
      return [(height / downscale) >> shift, (width / downscale) >> shift, channels]
    }
  }
}

/// A small network that sees a picture once and adds its features to a UNet's down blocks in every step.
/// arXiv:2302.08453.
public struct T2IAdapter: Sendable {
  /// What the network was built from.
  public let config: T2IAdapterConfig
  /// Nil where the first block takes the pixels.
  let convIn: Convolution?
  let blocks: [Block]
  let path: String

  /// Loads the whole network under diffusers' names. Throws `WeightError`.
  public init(_ config: T2IAdapterConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let (root, widths) = (weights["adapter"], config.widths)
    let pixels = config.inChannels * config.downscale * config.downscale
    let isLight = config.kind == .light
    convIn =
      isLight ? nil : try Convolution(root["conv_in"], inputs: pixels, outputs: widths[0], kernel: 3)
    blocks = try widths.indices.map { i in
      try Block(
        root["body"][i], inputs: i > 0 ? widths[i - 1] : isLight ? pixels : widths[0], outputs: widths[i],
        residualBlocks: config.residualBlocks, halves: config.halves(i), isLight: isLight)
    }
    try weights.finish()
  }

  /// Picture [N, H, W, inChannels] in 0...1 -> what is added to the UNet's down blocks, times `scale`.
  ///
  /// Throws `ModelError.invalidInput` for other channels, and sizes that are no multiples of
  /// `config.sizeMultiple`.
  public func callAsFunction(_ picture: Tensor, scale: Float = 1) throws -> UNetAdditions {
    let (shape, multiple) = (picture.shape, config.sizeMultiple)
    guard shape.rank == 4, shape[3] == config.inChannels, shape[1] > 0, shape[2] > 0,
      shape[1] % multiple == 0, shape[2] % multiple == 0
    else {
      throw ModelError.invalidInput(
        model: "T2IAdapter",
        reason:
          "the control picture is \(shape), the network takes [N, H, W, \(config.inChannels)] of multiples of "
          + "\(multiple)")
    }
    return try layer(path) {
      var h = try picture.pixelUnshuffled(config.downscale)
      if let convIn { h = try convIn(h) }
      var additions = UNetAdditions()
      for block in blocks {
        h = try block(h)
        additions.blocks.append(scale == 1 ? h : try h * scale)
      }
      return additions
    }
  }

  /// Residual blocks at one size; of a light adapter on a quarter of the channels.
  struct Block: Sendable {
    let halves: Bool
    let convIn: Convolution?
    let residuals: [(first: Convolution, second: Convolution)]
    let convOut: Convolution?

    init(
      _ weights: Weights, inputs: Int, outputs: Int, residualBlocks: Int, halves: Bool, isLight: Bool
    ) throws {
      self.halves = halves
      let width = isLight ? outputs / 4 : outputs
      convIn =
        inputs == outputs && !isLight
        ? nil : try Convolution(weights["in_conv"], inputs: inputs, outputs: width, kernel: 1)
      residuals = try (0..<residualBlocks).map {
        let block = weights["resnets"][$0]
        return (
          try Convolution(block["block1"], inputs: width, outputs: width, kernel: 3),
          try Convolution(block["block2"], inputs: width, outputs: width, kernel: isLight ? 3 : 1)
        )
      }
      convOut =
        isLight ? try Convolution(weights["out_conv"], inputs: width, outputs: outputs, kernel: 1) : nil
    }

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      var h = halves ? try x.halved() : x
      if let convIn { h = try convIn(h) }
      h = try residuals.reduce(h) { h, block in
        try block.second(block.first(h).leakyReLU(0), residual: h)
      }
      guard let convOut else { return h }
      return try convOut(h)
    }
  }
}
