import LangevinNN
import LangevinTensor

/// The reference fixes it; config.json does not have it.
private let epsilon: Float = 1e-6

private func resnets(
  _ weights: Weights, _ config: AutoencoderKLConfig, count: Int, inputs: Int, outputs: Int
) throws -> [ResnetBlock2D] {
  try (0..<count).map {
    try ResnetBlock2D(
      weights["resnets"][$0], inputs: $0 == 0 ? inputs : outputs, outputs: outputs, groups: config.normGroups,
      epsilon: epsilon)
  }
}

/// One block after the other; tiles, which have statistics, are not for training.
private func run(_ resnets: [ResnetBlock2D], _ x: Tensor, _ statistics: GroupStatistics?, recomputes: Bool)
  throws -> Tensor
{
  try resnets.reduce(x) { h, resnet in
    if let statistics { return try resnet(h, statistics: statistics) }
    return try h.recomputing(if: recomputes) { try resnet($0) }
  }
}

/// Picture [N, H, W, inChannels] -> moments [N, h, w, 2 latentChannels].
struct VAEEncoder: Sendable {
  struct Level: Sendable {
    let resnets: [ResnetBlock2D]
    let downsample: Downsample2D?
    let recomputes: Bool

    func callAsFunction(_ x: Tensor, statistics: GroupStatistics? = nil) throws -> Tensor {
      let h = try run(resnets, x, statistics, recomputes: recomputes)
      return try downsample?(h) ?? h
    }
  }

  let convIn: Convolution
  let levels: [Level]
  let middle: VAEMidBlock
  let normOut: GroupNormalization
  let convOut: Convolution
  let path: String

  init(_ config: AutoencoderKLConfig, _ weights: Weights) throws {
    path = weights.layerPath
    let channels = config.blockOutChannels
    let last = channels.count - 1
    convIn = try Convolution(weights["conv_in"], inputs: config.inChannels, outputs: channels[0], kernel: 3)
    levels = try channels.indices.map { i in
      let block = weights["down_blocks"][i]
      return Level(
        resnets: try resnets(
          block, config, count: config.layersPerBlock, inputs: channels[max(i - 1, 0)], outputs: channels[i]),
        downsample: i < last
          ? try Downsample2D(block["downsamplers"][0], channels: channels[i], padding: 0) : nil,
        recomputes: weights.recomputes)
    }
    middle = try VAEMidBlock(config, weights["mid_block"])
    normOut = try GroupNormalization(
      weights["conv_norm_out"], channels: channels[last], groups: config.normGroups, epsilon: epsilon)
    convOut = try Convolution(
      weights["conv_out"], inputs: channels[last], outputs: 2 * config.latentChannels, kernel: 3)
  }

  func callAsFunction(_ picture: Tensor) throws -> Tensor { try end(begin(picture, levels: 0), from: 0) }

  /// Picture -> what comes into level `count`.
  func begin(_ picture: Tensor, levels count: Int, statistics: GroupStatistics? = nil) throws -> Tensor {
    try layer(path) {
      try levels.prefix(count).reduce(convIn(picture)) { try $1($0, statistics: statistics) }
    }
  }

  /// What comes into level `first` -> moments.
  func end(_ x: Tensor, from first: Int) throws -> Tensor {
    try layer(path) {
      let h = try middle(levels.dropFirst(first).reduce(x) { try $1($0) })
      return try convOut(normOut(h, activation: .silu))
    }
  }
}

/// Latent [N, h, w, latentChannels] -> picture [N, H, W, outChannels].
struct VAEDecoder: Sendable {
  struct Level: Sendable {
    let resnets: [ResnetBlock2D]
    let upsample: Upsample2D?
    let recomputes: Bool

    func callAsFunction(_ x: Tensor, statistics: GroupStatistics? = nil) throws -> Tensor {
      try run(resnets, x, statistics, recomputes: recomputes)
    }

    func doubled(_ x: Tensor) throws -> Tensor { try upsample?(x) ?? x }
  }

  let convIn: Convolution
  let middle: VAEMidBlock
  let levels: [Level]
  let normOut: GroupNormalization
  let convOut: Convolution
  let path: String

  init(_ config: AutoencoderKLConfig, _ weights: Weights) throws {
    path = weights.layerPath
    let channels = Array(config.blockOutChannels.reversed())
    let last = channels.count - 1
    convIn = try Convolution(
      weights["conv_in"], inputs: config.latentChannels, outputs: channels[0], kernel: 3)
    middle = try VAEMidBlock(config, weights["mid_block"])
    levels = try channels.indices.map { i in
      let block = weights["up_blocks"][i]
      return Level(
        resnets: try resnets(
          block, config, count: config.layersPerBlock + 1, inputs: channels[max(i - 1, 0)],
          outputs: channels[i]),
        upsample: i < last ? try Upsample2D(block["upsamplers"][0], channels: channels[i]) : nil,
        recomputes: weights.recomputes)
    }
    normOut = try GroupNormalization(
      weights["conv_norm_out"], channels: channels[last], groups: config.normGroups, epsilon: epsilon)
    convOut = try Convolution(
      weights["conv_out"], inputs: channels[last], outputs: config.outChannels, kernel: 3)
  }

  func callAsFunction(_ latent: Tensor) throws -> Tensor { try end(begin(latent, levels: 1), from: 1) }

  /// Latent -> what comes out of the first `count` levels, at least one, before its size is doubled.
  func begin(_ latent: Tensor, levels count: Int) throws -> Tensor {
    try layer(path) {
      let h = try levels[0](middle(convIn(latent)))
      return try (1..<count).reduce(h) { try levels[$1](levels[$1 - 1].doubled($0)) }
    }
  }

  /// What comes out of level `first - 1` -> picture.
  func end(_ x: Tensor, from first: Int, statistics: GroupStatistics? = nil) throws -> Tensor {
    try layer(path) {
      let h = try (first..<levels.count).reduce(x) {
        try levels[$1](levels[$1 - 1].doubled($0), statistics: statistics)
      }
      return try convOut(normOut(h, activation: .silu, statistics: statistics))
    }
  }
}

/// `UNetMidBlock2D`: ResNet, attention over all pixels with one head, ResNet.
struct VAEMidBlock: Sendable {
  let resnet1: ResnetBlock2D
  let attention: PixelAttention?
  let resnet2: ResnetBlock2D
  let path: String
  let recomputes: Bool

  init(_ config: AutoencoderKLConfig, _ weights: Weights) throws {
    path = weights.layerPath
    recomputes = weights.recomputes
    let channels = config.blockOutChannels[config.blockOutChannels.count - 1]
    let pair = try resnets(weights, config, count: 2, inputs: channels, outputs: channels)
    (resnet1, resnet2) = (pair[0], pair[1])
    attention =
      config.midBlockHasAttention
      ? try PixelAttention(
        weights["attentions"][0],
        PixelAttention.Shape(channels: channels, heads: 1, groups: config.normGroups, epsilon: epsilon)) : nil
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let h = try x.recomputing(if: recomputes) { [resnet1] in try resnet1($0) }
      return try h.recomputing(if: recomputes) { [attention, resnet2] h in
        try resnet2(attention?(h) ?? h)
      }
    }
  }
}
