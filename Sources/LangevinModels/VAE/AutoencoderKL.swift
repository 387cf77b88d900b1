import LangevinNN
import LangevinTensor

/// The autoencoder between pictures and latents. arXiv:2112.10752, section 3.1.
public struct AutoencoderKL: Sendable {
  /// What the autoencoder was built from.
  public let config: AutoencoderKLConfig
  let encoder: VAEEncoder?
  let quantConv: Convolution?
  let postQuantConv: Convolution?
  let decoder: VAEDecoder

  /// Loads the decoder and, unless it is not wanted, the encoder. Throws `WeightError`.
  public init(_ config: AutoencoderKLConfig, _ weights: Weights, withEncoder: Bool = true) throws {
    self.config = config
    let latent = config.latentChannels
    if withEncoder {
      encoder = try VAEEncoder(config, weights["encoder"])
      quantConv =
        config.usesQuantConv
        ? try Convolution(weights["quant_conv"], inputs: 2 * latent, outputs: 2 * latent, kernel: 1) : nil
    } else {
      (encoder, quantConv) = (nil, nil)
      weights["encoder"].skip()
      if config.usesQuantConv { weights["quant_conv"].skip() }
    }
    postQuantConv =
      config.usesPostQuantConv
      ? try Convolution(weights["post_quant_conv"], inputs: latent, outputs: latent, kernel: 1) : nil
    decoder = try VAEDecoder(config, weights["decoder"])
    try weights.finish()
  }

  /// Latent [N, h, w, latentChannels] -> picture [N, H, W, outChannels], about -1...1 and not clamped.
  ///
  /// The latent is the autoencoder's own: the caller undoes the diffusion model's scale,
  /// `latent / config.scalingFactor + config.shiftFactor`. With `tiling`, no map of features is larger than those of
  /// a picture of one tile. Throws `ModelError.invalidInput`.
  public func decode(_ latent: Tensor, tiling: Tiling? = nil) throws -> Tensor {
    try AutoencoderKL.check(latent, channels: config.latentChannels, multiple: 1)
    try tiling?.check(model: "AutoencoderKL")
    let h = try postQuantConv?(latent) ?? latent
    guard let tiling else { return try decoder(h) }
    let whole = config.wholeLevels(tiling, height: latent.shape[1], width: latent.shape[2], isDecoder: true)
    let features = try decoder.begin(h, levels: max(whole, 1))
    guard whole < config.blockOutChannels.count else { return try decoder.end(features, from: whole) }
    let first = max(whole, 1)
    return try tiling.run(features, inputs: 1 << (first - 1), outputs: config.downscale) { tile, statistics in
      try decoder.end(tile, from: first, statistics: statistics)
    }
  }

  /// Picture [N, H, W, inChannels] in -1...1 -> the distribution of its latent [N, h, w, latentChannels].
  ///
  /// With `tiling`, no map of features is larger than those of a picture of one tile. Throws `ModelError.invalidInput`
  /// unless the size is a multiple of `config.downscale`, and `.notLoaded` where the encoder was left out.
  public func encode(_ picture: Tensor, tiling: Tiling? = nil) throws -> DiagonalGaussian {
    guard let encoder else { throw ModelError.notLoaded(model: "AutoencoderKL", part: "encoder") }
    try AutoencoderKL.check(picture, channels: config.inChannels, multiple: config.downscale)
    try tiling?.check(model: "AutoencoderKL")
    let h = try tiling.map { try encode(picture, with: encoder, $0) } ?? encoder(picture)
    return try DiagonalGaussian(moments: quantConv?(h) ?? h)
  }

  private func encode(_ picture: Tensor, with encoder: VAEEncoder, _ tiling: Tiling) throws -> Tensor {
    let scale = config.downscale
    let whole = config.wholeLevels(
      tiling, height: picture.shape[1] / scale, width: picture.shape[2] / scale, isDecoder: false)
    let cut = config.blockOutChannels.count - whole
    guard cut > 0 else { return try encoder(picture) }
    // The last level does not halve.
    let levels = min(cut, config.blockOutChannels.count - 1)
    let features = try tiling.run(picture, inputs: scale, outputs: scale >> levels) { tile, statistics in
      try encoder.begin(tile, levels: levels, statistics: statistics)
    }
    return try encoder.end(features, from: levels)
  }

  static func check(_ x: Tensor, channels: Int, multiple: Int, model: String = "AutoencoderKL") throws {
    let shape = x.shape
    guard shape.rank == 4, shape[3] == channels else {
      throw ModelError.invalidInput(
        model: model, reason: "the input is \(shape), expected [N, height, width, \(channels)]")
    }
    guard shape[1] > 0, shape[2] > 0, shape[1] % multiple == 0, shape[2] % multiple == 0 else {
      throw ModelError.invalidInput(
        model: model,
        reason: "a picture of \(shape[2])x\(shape[1]): width and height must be multiples of \(multiple)")
    }
  }
}

/// Independent normal numbers, one for each element of a latent.
public struct DiagonalGaussian: Sendable {
  /// [N, h, w, C].
  public let mean: Tensor
  /// The logarithm of the variance, clamped to -30...20.
  public let logVariance: Tensor

  /// moments [..., 2C]: means, then log variances.
  init(moments: Tensor) throws {
    let channels = moments.shape[-1] / 2
    mean = try moments.sliced(0..<channels, axis: -1)
    logVariance = try moments.sliced(channels..<2 * channels, axis: -1).clamped(-30, 20)
  }

  /// `mean + noise * exp(logVariance / 2)`; noise is standard normal, of the mean's shape and dtype.
  public func sample(noise: Tensor) throws -> Tensor {
    try mean + noise * (logVariance * 0.5).map(.exp)
  }
}
