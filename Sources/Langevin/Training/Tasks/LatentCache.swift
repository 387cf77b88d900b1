import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// Latents of a run's pictures, each encoded when it is first needed and kept on the host.
///
/// What is kept is the distribution; the draw from it is the sample's own.
struct LatentCache: Sendable {
  private let config: AutoencoderKLConfig
  private let autoencoder: AutoencoderKL
  private let batches: PictureBatches
  private let device: Device
  /// Means, then deviations, of a latent [h, w, C].
  private let kept: BoundedCache<PictureView, [Float]>

  init(
    _ config: AutoencoderKLConfig, _ component: Checkpoint.Component, _ batches: PictureBatches,
    on device: Device, cacheBytes: Int
  ) throws {
    (self.config, self.batches, self.device) = (config, batches, device)
    autoencoder = try AutoencoderKL(config, Weights(component.weights, on: device, component: "vae"))
    kept = BoundedCache(limit: cacheBytes)
  }

  /// [N, h, w, C] in the diffusion model's scale, one a view, drawn with the samples' own noise.
  func latents(of views: [PictureView], _ samples: Range<UInt64>, seed: UInt64) throws -> Tensor {
    var shape: Shape = [views.count]
    var (means, deviations): ([Float], [Float]) = ([], [])
    let moments = try views.map { view in
      try kept.value(for: view, byteCount: { $0.count * 4 }) { try encode(view) }
    }
    let (height, width) = (
      batches.framing.height / config.downscale, batches.framing.width / config.downscale
    )
    shape = [views.count, height, width, config.latentChannels]
    for moment in moments {
      means += moment[..<(moment.count / 2)]
      deviations += moment[(moment.count / 2)...]
    }
    let one = Shape(Array(shape.dimensions.dropFirst()))
    let noise = try TrainingNoise.posterior(samples, one, seed: seed, on: device)
    let latent = try Tensor(means, shape, on: device) + noise * Tensor(deviations, shape, on: device)
    return try latent.affine(
      scale: config.scalingFactor, offset: -config.shiftFactor * config.scalingFactor)
  }

  private func encode(_ view: PictureView) throws -> [Float] {
    let posterior = try autoencoder.encode(batches.picture(view).tensor(on: device))
    return try posterior.mean.floats() + (posterior.logVariance * 0.5).map(.exp).floats()
  }
}
