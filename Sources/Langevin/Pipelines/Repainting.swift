import LangevinDiffusion
import LangevinModels
import LangevinTensor

// Inpainting and outpainting: a part of a picture is drawn anew, and the rest is kept.

/// A picture and which of its pixels are drawn anew, both of the size of what is made.
public struct Repainting: Sendable {
  /// What is kept of it is where the mask is black.
  public let picture: Picture
  /// Where it is drawn anew.
  public let mask: Mask
}

extension GenerationRequest {
  /// What the sampling of latents of a picture of this size starts from.
  ///
  /// Throws `GenerationError.badRequest` for a mask, or a canvas, without one picture that fits it.
  func latentStart(width: Int, height: Int) throws -> LatentStart {
    guard let picture = image else {
      if mask != nil { throw GenerationError.badRequest("a mask needs an image of which a part is kept") }
      if canvas != nil { throw GenerationError.badRequest("a canvas needs an image to put on it") }
      return initialLatents.map { .latents($0) } ?? .noise
    }
    guard images.count == 1 else {
      throw GenerationError.badRequest("\(images.count) images; this model starts from one")
    }
    if let mask, mask.width != picture.width || mask.height != picture.height {
      throw GenerationError.badRequest(
        "the mask is \(mask.width)x\(mask.height) and the image \(picture.width)x\(picture.height); "
          + "they must be of one size")
    }
    guard mask != nil || canvas != nil else { return .picture(picture) }
    var (whole, white) = (picture, mask ?? picture.black)
    if let canvas {
      guard canvas.width >= picture.width, canvas.height >= picture.height, canvas.width <= 16_384,
        canvas.height <= 16_384
      else {
        throw GenerationError.badRequest(
          "a canvas must be at least as large as the image, \(picture.width)x\(picture.height), and at most "
            + "16384x16384, got \(canvas.width)x\(canvas.height)")
      }
      (whole, white) = (whole.onCanvas(canvas, border: .edges), white.onCanvas(canvas, border: .white))
    }
    func fitted(_ picture: Picture) -> Picture { picture.fitted(width: width, height: height, imageFit) }
    return .repainting(Repainting(picture: fitted(whole), mask: Mask(fitted(white))))
  }
}

/// A picture of which a part is kept, in latents.
public struct EncodedRepainting: Sendable {
  /// The latents that the picture may have, [1, h, w, C]; nil where nothing needs them.
  let clean: DiagonalGaussian?
  /// Those of the picture with grey where it is drawn anew, for inpainting checkpoints; nil for others.
  let masked: DiagonalGaussian?
  /// [1, h, w, 1], 1 where it is drawn anew.
  let mask: Tensor
  /// Whether sampling starts from noise alone.
  let isFull: Bool

  /// The start of a batch, from draws in the reference's order; `shape` is [N, h, w, C].
  func prepare(
    _ shape: Shape, along steps: Schedule, _ autoencoder: AutoencoderStage, _ noise: inout NoiseSource
  ) throws -> PreparedStart {
    let clean = try clean.map {
      try autoencoder.scaled($0.sample(noise: noise.normal(shape, for: .posterior)))
    }
    let initial = try noise.normal(shape, for: .initial)
    // PyTorch's generators go on from here, whether or not the network sees it.
    let hidden = try noise.normal(shape, for: .maskedPosterior)
    var start = PreparedStart(latent: try steps.initial(noise: initial))
    if let clean, !isFull { start.latent = try steps.addingNoise(initial, to: clean) }
    let mask = try mask.broadcast(to: shape.replacing(axis: -1, with: 1))
    if let masked {
      start.beside = try .concatenated([mask, autoencoder.scaled(masked.sample(noise: hidden))], axis: -1)
    } else if let clean {
      let kept = try mask.affine(scale: -1, offset: 1)
      // As diffusers' StableDiffusionInpaintPipeline: the kept part has the noise of the next step.
      start.adjust = { latent, next in
        let known =
          try next.map { try Tensor.combination([(Float($0.alpha), clean), (Float($0.sigma), initial)]) }
          ?? clean
        return try known * kept + latent * mask
      }
    }
    return start
  }
}

/// What a batch's trajectory starts with.
public struct PreparedStart {
  /// The first latents, float32 [N, h, w, C].
  public var latent: Tensor
  /// What the network reads beside each noisy latent, float32 [N, h, w, C']; nil for nothing.
  public var beside: Tensor?
  /// What is done to the latents after each step; nil for nothing.
  public var adjust: StepAdjustment?
}
