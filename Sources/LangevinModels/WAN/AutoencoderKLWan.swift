import LangevinNN
import LangevinTensor

/// The autoencoder between videos and latents of WAN 2.1, causal in time. arXiv:2503.20314, section 4.1;
/// diffusers' `AutoencoderKLWan`.
///
/// A video goes through in chunks, so that memory is that of a chunk: the first frame by itself, then as many
/// frames as one latent frame stands for (the encoder: four).
public struct AutoencoderKLWan: Sendable {
  /// What the autoencoder was built from.
  public let config: AutoencoderKLWanConfig
  let encoder: WanEncoder?
  let quantConv: Convolution3D?
  let postQuantConv: Convolution3D
  let decoder: WanDecoder

  /// Loads the decoder and, unless it is not wanted, the encoder. Throws `WeightError`.
  public init(_ config: AutoencoderKLWanConfig, _ weights: Weights, withEncoder: Bool = true) throws {
    self.config = config
    let latent = config.latentChannels
    if withEncoder {
      encoder = try WanEncoder(config, weights["encoder"])
      quantConv = try Convolution3D(
        weights["quant_conv"], inputs: 2 * latent, outputs: 2 * latent, frames: 1, kernel: 1)
    } else {
      (encoder, quantConv) = (nil, nil)
      weights["encoder"].skip()
      weights["quant_conv"].skip()
    }
    postQuantConv = try Convolution3D(
      weights["post_quant_conv"], inputs: latent, outputs: latent, frames: 1, kernel: 1)
    decoder = try WanDecoder(config, weights["decoder"])
    try weights.finish()
  }

  // MARK: Decoding

  /// Latents [N, f, h, w, latentChannels] -> videos [N, 1 + r (f - 1), H, W, outChannels] in -1...1, where r is
  /// `config.temporalDownscale`.
  ///
  /// The latent is the autoencoder's own; see `denormalized(_:)`. Throws `ModelError.invalidInput`.
  public func decode(_ latents: Tensor) throws -> Tensor {
    try check(latents, channels: config.latentChannels, what: "latent")
    return try unclampedVideos(latents).clamped(-1, 1)
  }

  /// One video's latent [f, h, w, latentChannels], from which `body` gets its frames as they are made: one, and
  /// then r at a time, [F, H, W, outChannels] in -1...1.
  ///
  /// Throws `ModelError.invalidInput`, and what `body` throws.
  public func decode(_ latent: Tensor, _ body: (Tensor) throws -> Void) throws {
    let one = Shape([1] + latent.shape.dimensions)
    try check(latent.reshaped(one), channels: config.latentChannels, what: "latent")
    try unclamped(latent) { try body($0.clamped(-1, 1)) }
  }

  /// As `decode`, before the limits.
  func unclampedVideos(_ latents: Tensor) throws -> Tensor {
    try videos(latents) { latent in
      var chunks: [Tensor] = []
      try unclamped(latent) { chunks.append($0) }
      return chunks
    }
  }

  private func unclamped(_ latent: Tensor, _ body: (Tensor) throws -> Void) throws {
    var history = FrameHistory()
    for frame in 0..<latent.shape[0] {
      let h = try postQuantConv(latent.rows(frame..<frame + 1))
      try body(decoder(h, history: &history))
      history.chunk += 1
    }
  }

  // MARK: Encoding

  /// Videos [N, 4 k + 1, H, W, inChannels] in -1...1 -> the distribution of their latents
  /// [N, f, h, w, latentChannels].
  ///
  /// Throws `ModelError.invalidInput` unless height and width are multiples of `config.downscale` and there are
  /// 4 k + 1 frames, and `.notLoaded` where the encoder was left out.
  public func encode(_ videos: Tensor) throws -> DiagonalGaussian {
    guard let encoder, let quantConv else {
      throw ModelError.notLoaded(model: "AutoencoderKLWan", part: "encoder")
    }
    try check(videos, channels: config.inChannels, what: "video")
    let (frames, height, width) = (videos.shape[1], videos.shape[2], videos.shape[3])
    guard frames % 4 == 1 else {
      throw invalid("a video of \(frames) frames: their number must be one more than a multiple of 4")
    }
    guard height % config.downscale == 0, width % config.downscale == 0 else {
      throw invalid(
        "a video of \(width)x\(height): width and height must be multiples of \(config.downscale)")
    }
    return try DiagonalGaussian(
      moments: self.videos(videos) { video in
        var history = FrameHistory()
        return try stride(from: 0, to: frames, by: 4).map { end in
          let chunk = try video.rows(max(0, end - 3)..<end + 1)
          return try quantConv(encoder(chunk, history: &history))
        }
      })
  }

  // MARK: The diffusion model's latents

  /// A latent [..., latentChannels] of the autoencoder as the diffusion model has it: mean 0 and deviation 1.
  public func normalized(_ latent: Tensor) throws -> Tensor {
    let (mean, std) = try statistics(latent)
    return try (latent - mean) / std
  }

  /// A latent [..., latentChannels] of the diffusion model as the autoencoder has it.
  public func denormalized(_ latent: Tensor) throws -> Tensor {
    let (mean, std) = try statistics(latent)
    return try latent * std + mean
  }

  private func statistics(_ latent: Tensor) throws -> (mean: Tensor, std: Tensor) {
    let shape: Shape = [config.latentChannels]
    return (
      try Tensor(config.latentsMean, shape, on: latent.device).cast(to: latent.dtype),
      try Tensor(config.latentsStd, shape, on: latent.device).cast(to: latent.dtype)
    )
  }

  // MARK: Parts

  /// [N, F, ...], whose N are computed in turn, in chunks of frames.
  private func videos(_ x: Tensor, _ body: (Tensor) throws -> [Tensor]) throws -> Tensor {
    let frames = Shape(Array(x.shape.dimensions.dropFirst()))
    var chunks: [Tensor] = []
    for index in 0..<x.shape[0] { chunks += try body(x.rows(index..<index + 1).reshaped(frames)) }
    let joined = try Tensor.concatenated(chunks, axis: 0)
    let shape = [x.shape[0], joined.shape[0] / x.shape[0]] + joined.shape.dimensions.dropFirst()
    return try joined.reshaped(Shape(shape))
  }

  func check(_ x: Tensor, channels: Int, what: String) throws {
    guard x.shape.rank == 5, x.shape[4] == channels, x.shape.count > 0 else {
      throw invalid("the \(what) is \(x.shape), expected [N, frames, height, width, \(channels)]")
    }
  }

  func invalid(_ reason: String) -> ModelError {
    .invalidInput(model: "AutoencoderKLWan", reason: reason)
  }
}

/// Frames [F, H, W, inChannels] -> moments [f, h, w, 2 latentChannels]: the first frame by itself, then 4.
struct WanEncoder: Sendable {
  struct Level: Sendable {
    let resnets: [WanResnetBlock]
    let downsample: WanDownsample?
  }

  let convIn: Convolution3D
  let levels: [Level]
  let middle: WanMidBlock
  let normOut: WanNormalization
  let convOut: Convolution3D
  let path: String

  init(_ config: AutoencoderKLWanConfig, _ weights: Weights) throws {
    path = weights.layerPath
    let widths = config.multipliers.map { $0 * config.baseChannels }
    // The reference's list of blocks is flat: the ResNets of a level, its downsampler, the next level's.
    let blocks = weights["down_blocks"]
    convIn = try Convolution3D(
      weights["conv_in"], inputs: config.inChannels, outputs: config.baseChannels, frames: 3, kernel: 3)
    let layers = config.layersPerBlock
    levels = try widths.indices.map { i in
      let start = i * (layers + 1)
      let resnets = try (0..<layers).map { j in
        let inputs = j > 0 ? widths[i] : i > 0 ? widths[i - 1] : config.baseChannels
        return try WanResnetBlock(blocks[start + j], inputs: inputs, outputs: widths[i])
      }
      guard i < widths.count - 1 else { return Level(resnets: resnets, downsample: nil) }
      let downsample = try WanDownsample(
        blocks[start + layers], channels: widths[i], temporal: config.temporalDownsample[i])
      return Level(resnets: resnets, downsample: downsample)
    }
    let last = widths[widths.count - 1]
    middle = try WanMidBlock(weights["mid_block"], channels: last)
    normOut = try WanNormalization(weights["norm_out"], channels: last)
    convOut = try Convolution3D(
      weights["conv_out"], inputs: last, outputs: 2 * config.latentChannels, frames: 3, kernel: 3)
  }

  func callAsFunction(_ frames: Tensor, history: inout FrameHistory) throws -> Tensor {
    try layer(path) {
      var h = try convIn(frames, history: &history)
      for level in levels {
        for resnet in level.resnets { h = try resnet(h, history: &history) }
        if let downsample = level.downsample { h = try downsample(h, history: &history) }
      }
      h = try middle(h, history: &history)
      return try convOut(normOut(h).silu(), history: &history)
    }
  }
}

/// One latent frame [1, h, w, latentChannels] -> frames [F, H, W, outChannels], one of them for a video's first.
struct WanDecoder: Sendable {
  struct Level: Sendable {
    let resnets: [WanResnetBlock]
    let upsample: WanUpsample?
  }

  let convIn: Convolution3D
  let middle: WanMidBlock
  let levels: [Level]
  let normOut: WanNormalization
  let convOut: Convolution3D
  let path: String

  init(_ config: AutoencoderKLWanConfig, _ weights: Weights) throws {
    path = weights.layerPath
    let widths = config.multipliers.reversed().map { $0 * config.decoderBaseChannels }
    convIn = try Convolution3D(
      weights["conv_in"], inputs: config.latentChannels, outputs: widths[0], frames: 3, kernel: 3)
    middle = try WanMidBlock(weights["mid_block"], channels: widths[0])
    let doubling = Array(config.temporalDownsample.reversed())
    levels = try widths.indices.map { i in
      let block = weights["up_blocks"][i]
      // An upsampler has halved the channels of what comes from below.
      let below = i > 0 ? widths[i - 1] / 2 : widths[0]
      let resnets = try (0...config.layersPerBlock).map { j in
        try WanResnetBlock(block["resnets"][j], inputs: j > 0 ? widths[i] : below, outputs: widths[i])
      }
      guard i < widths.count - 1 else { return Level(resnets: resnets, upsample: nil) }
      let upsample = try WanUpsample(block["upsamplers"][0], channels: widths[i], temporal: doubling[i])
      return Level(resnets: resnets, upsample: upsample)
    }
    let last = widths[widths.count - 1]
    normOut = try WanNormalization(weights["norm_out"], channels: last)
    convOut = try Convolution3D(
      weights["conv_out"], inputs: last, outputs: config.outChannels, frames: 3, kernel: 3)
  }

  func callAsFunction(_ frame: Tensor, history: inout FrameHistory) throws -> Tensor {
    try layer(path) {
      var h = try convIn(frame, history: &history)
      h = try middle(h, history: &history)
      for level in levels {
        for resnet in level.resnets { h = try resnet(h, history: &history) }
        if let upsample = level.upsample { h = try upsample(h, history: &history) }
      }
      return try convOut(normOut(h).silu(), history: &history)
    }
  }
}
