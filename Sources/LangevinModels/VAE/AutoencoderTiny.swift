import LangevinNN
import LangevinTensor

/// The architecture of a tiny autoencoder, as diffusers' config.json gives it.
public struct AutoencoderTinyConfig: Sendable, Hashable {
  /// Channels of a picture that is encoded.
  public var inChannels = 3
  /// Channels of a decoded picture.
  public var outChannels = 3
  /// Channels of the latent.
  public var latentChannels = 4
  /// Channels of every layer of the encoder.
  public var encoderChannels = 64
  /// Channels of every layer of the decoder.
  public var decoderChannels = 64
  /// Blocks of each of the encoder's stages; every stage but the first halves height and width.
  public var encoderBlocks = [1, 3, 3, 3]
  /// Blocks of each of the decoder's stages; every stage but the last doubles height and width.
  public var decoderBlocks = [3, 3, 3, 1]
  /// A diffusion model works on `(latent - shiftFactor) * scalingFactor`.
  public var scalingFactor: Float = 1
  /// Taken from the latent before it is scaled.
  public var shiftFactor: Float = 0

  /// The configuration of TAESD.
  public init() {}

  /// Reads config.json. Throws `ModelError.unsupported` and `.invalidConfig`.
  public init(_ config: ConfigObject) throws {
    try config.require("_class_name", in: [.string("AutoencoderTiny")])
    try config.require("act_fn", in: [.string("relu")])
    try config.require("upsample_fn", in: [.string("nearest")])
    try config.require("upsampling_scaling_factor", in: [.integer(2)])
    inChannels = try config.int("in_channels", default: inChannels)
    outChannels = try config.int("out_channels", default: outChannels)
    latentChannels = try config.int("latent_channels", default: latentChannels)
    encoderBlocks = try config.ints("num_encoder_blocks", default: encoderBlocks)
    decoderBlocks = try config.ints("num_decoder_blocks", default: decoderBlocks)
    scalingFactor = try config.scale("scaling_factor", default: 1)
    shiftFactor = Float(try config.float("shift_factor", default: 0))
    // The reference has no convolution that would change the width between two stages.
    func width(_ key: String, stages: Int, of blocks: String) throws -> Int {
      let widths = try config.ints(key, default: [Int](repeating: 64, count: 4))
      guard widths.count == stages, stages <= 8 else {
        throw config.invalid(key, "as many numbers as \(blocks), 1 to 8")
      }
      guard widths.allSatisfy({ $0 == widths[0] }) else { throw config.invalid(key, "equal numbers") }
      return widths[0]
    }
    encoderChannels = try width(
      "encoder_block_out_channels", stages: encoderBlocks.count, of: "num_encoder_blocks")
    decoderChannels = try width(
      "decoder_block_out_channels", stages: decoderBlocks.count, of: "num_decoder_blocks")
  }

  /// How many pixels a latent's side stands for.
  public var downscale: Int { 1 << (encoderBlocks.count - 1) }
}

/// TAESD: an autoencoder of a few convolutions that stands in for a large one, for previews.
/// https://github.com/madebyollin/taesd, in diffusers' layout.
public struct AutoencoderTiny: Sendable {
  /// What the autoencoder was built from.
  public let config: AutoencoderTinyConfig
  let encoder: [Stage]?
  let decoder: [Stage]
  let path: String

  /// Loads the decoder and, unless it is not wanted, the encoder. Throws `WeightError`.
  public init(_ config: AutoencoderTinyConfig, _ weights: Weights, withEncoder: Bool = true) throws {
    self.config = config
    path = weights.layerPath
    if withEncoder {
      encoder = try AutoencoderTiny.encoder(config, weights["encoder"]["layers"])
    } else {
      encoder = nil
      weights["encoder"].skip()
    }
    decoder = try AutoencoderTiny.decoder(config, weights["decoder"]["layers"])
    try weights.finish()
  }

  /// One of the layers that follow each other.
  enum Stage: Sendable {
    case convolution(Convolution)
    case block(AutoencoderTinyBlock)
    case relu
    case double

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      switch self {
      case .convolution(let convolution): try convolution(x)
      case .block(let block): try block(x)
      case .relu: try x.relu()
      case .double: try x.upsampledNearest(2)
      }
    }
  }

  private static func encoder(_ config: AutoencoderTinyConfig, _ weights: Weights) throws -> [Stage] {
    let channels = config.encoderChannels
    var stages: [Stage] = []
    for (index, count) in config.encoderBlocks.enumerated() {
      let isFirst = index == 0
      stages.append(
        .convolution(
          try Convolution(
            weights[stages.count], inputs: isFirst ? config.inChannels : channels, outputs: channels,
            kernel: 3, stride: isFirst ? 1 : 2, bias: isFirst)))
      for _ in 0..<count {
        stages.append(.block(try AutoencoderTinyBlock(weights[stages.count], channels: channels)))
      }
    }
    stages.append(
      .convolution(
        try Convolution(weights[stages.count], inputs: channels, outputs: config.latentChannels, kernel: 3)))
    return stages
  }

  private static func decoder(_ config: AutoencoderTinyConfig, _ weights: Weights) throws -> [Stage] {
    let channels = config.decoderChannels
    var stages: [Stage] = [
      .convolution(
        try Convolution(weights[0], inputs: config.latentChannels, outputs: channels, kernel: 3)),
      .relu,
    ]
    for (index, count) in config.decoderBlocks.enumerated() {
      let isLast = index == config.decoderBlocks.count - 1
      for _ in 0..<count {
        stages.append(.block(try AutoencoderTinyBlock(weights[stages.count], channels: channels)))
      }
      if !isLast { stages.append(.double) }
      stages.append(
        .convolution(
          try Convolution(
            weights[stages.count], inputs: channels, outputs: isLast ? config.outChannels : channels,
            kernel: 3, bias: isLast)))
    }
    return stages
  }

  /// Latent [N, h, w, latentChannels] -> picture [N, H, W, outChannels], about -1...1 and not clamped.
  ///
  /// The latent is the autoencoder's own; TAESD's is the diffusion model's, as its scaling factor is 1. Throws
  /// `ModelError.invalidInput`.
  public func decode(_ latent: Tensor) throws -> Tensor {
    try AutoencoderKL.check(
      latent, channels: config.latentChannels, multiple: 1, model: "AutoencoderTiny")
    return try layer(path) {
      // Smoothly limited to what the latents of pictures reach.
      let h = try (latent / 3).map(.tanh) * 3
      return try decoder.reduce(h) { try $1($0) }.affine(scale: 2, offset: -1)
    }
  }

  /// Picture [N, H, W, inChannels] in -1...1 -> latent [N, h, w, latentChannels].
  ///
  /// Throws `ModelError.invalidInput` unless the size is a multiple of `config.downscale`, and `.notLoaded` where the
  /// encoder was left out.
  public func encode(_ picture: Tensor) throws -> Tensor {
    guard let encoder else { throw ModelError.notLoaded(model: "AutoencoderTiny", part: "encoder") }
    try AutoencoderKL.check(
      picture, channels: config.inChannels, multiple: config.downscale, model: "AutoencoderTiny")
    return try layer(path) {
      try encoder.reduce(picture.affine(scale: 0.5, offset: 0.5)) { try $1($0) }
    }
  }
}

/// Three 3x3 convolutions beside the identity.
struct AutoencoderTinyBlock: Sendable {
  let convolutions: [Convolution]
  let path: String

  init(_ weights: Weights, channels: Int) throws {
    path = weights.layerPath
    convolutions = try [0, 2, 4].map {
      try Convolution(weights["conv"][$0], inputs: channels, outputs: channels, kernel: 3)
    }
  }

  /// [N, H, W, C] -> [N, H, W, C].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let h = try convolutions[1](convolutions[0](x).relu()).relu()
      return try convolutions[2](h, residual: x).relu()
    }
  }
}

extension Tensor {
  /// `max(x, 0)`.
  fileprivate func relu() throws -> Tensor { try clamped(0, .greatestFiniteMagnitude) }
}
