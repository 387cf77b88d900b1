import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What the UNet of stable unCLIP learns of a picture beside its text: CLIP's embedding of it, with noise of
/// a level that the UNet is told, or zeros where it is left out. arXiv:2204.06125, section 2.1.
struct ImageCondition: Sendable {
  let embeddings: ImageEmbeddings
  /// Mean and deviation of the embeddings: the model's own, or those of the data where its folder has none.
  let normalizer: Checkpoint.Component
  private let model: StableUnCLIPImageNormalizer
  private let alphasCumprod: [Float]
  private let dropping: Double
  private let seed: UInt64
  private let device: Device

  /// - Parameters:
  ///   - dropping: the share of samples without an embedding.
  ///   - maxNoiseLevel: the noisiest timestep of the embeddings' own schedule; nil is its last.
  ///
  /// Throws `CheckpointError` where the parts do not fit together, `SettingsError`, and what loading throws.
  init(
    _ context: TaskContext, _ checkpoint: Checkpoint, _ unet: UNet2DConditionConfig,
    _ batches: PictureBatches, dropping: Double, maxNoiseLevel: Int?, cacheBytes: Int
  ) throws {
    func malformed(_ reason: String) -> CheckpointError {
      .malformed(path: context.model.path, reason: reason)
    }
    (device, seed) = (context.device, context.settings.seed)
    guard (0...1).contains(dropping) else { throw SettingsError.value(key: "drop_image", expected: "0 to 1") }
    self.dropping = dropping
    let alphas = try NoiseSchedule(json: checkpoint.scheduler(named: "image_noising_scheduler"))
      .alphasCumprod()
    let last = maxNoiseLevel ?? alphas.count - 1
    guard alphas.indices.contains(last) else {
      throw SettingsError.value(key: "max_noise_level", expected: "0 to \(alphas.count - 1)")
    }
    alphasCumprod = Array(alphas[...last])

    embeddings = try ImageEmbeddings(checkpoint, batches, on: device, cacheBytes: cacheBytes)
    guard case .projection(inputs: embeddings.channels * 2)? = unet.classEmbedding else {
      throw malformed(
        "its image_encoder makes embeddings of \(embeddings.channels) channels, for which its unet needs "
          + "class_embed_type projection and projection_class_embeddings_input_dim \(embeddings.channels * 2)"
      )
    }
    normalizer = try Self.normalizer(context, embeddings)
    model = try StableUnCLIPImageNormalizer(
      normalizer.configuration, Weights(normalizer.weights, on: device, component: "image_normalizer"))
    guard model.channels == embeddings.channels else {
      throw malformed(
        "its image_encoder makes embeddings of \(embeddings.channels) channels, its image_normalizer has "
          + "\(model.channels)")
    }
  }

  private static func normalizer(_ context: TaskContext, _ embeddings: ImageEmbeddings) throws
    -> Checkpoint.Component
  {
    let folder = context.model.appendingPathComponent("image_normalizer")
    // Nothing is computed where the folder has weights.
    var isMissing = false
    let found = try ModelFolder.component(folder) {
      isMissing = true
      return NamedTensors([])
    }
    guard isMissing else { return found }
    let (mean, deviation) = try embeddings.statistics(over: 10_000)
    return Checkpoint.Component(
      found.className, config: found.config,
      weights: NamedTensors([("mean", mean), ("std", deviation)]))
  }

  /// Class labels, float32 [N, 2 channels]: the embedding of each view with its sample's noise, and a
  /// sinusoid of the noise level; zeros where it is left out, as the pipeline has them for guidance.
  func labels(_ views: [PictureView], _ samples: Range<UInt64>) throws -> Tensor {
    let words = samples.map { TrainingNoise.words(seed: seed, sample: $0, TrainingNoise.choiceStream) }
    let steps = words.map { Int((UInt64($0.x) * UInt64(alphasCumprod.count)) >> 32) }
    let levels = BatchLevels(
      steps.map { NoiseLevel(timestep: Float($0), alphaCumprod: alphasCumprod[$0]) })
    let noise = try TrainingNoise.embedding(samples, [embeddings.channels], seed: seed, on: device)
    let noisy = try levels.noisy(model.scale(embeddings(views)), noise)
    let labels = try model.classLabels(model.unscale(noisy), noiseLevels: steps)
    let isKept = words.map { Double($0.y) * 0x1p-32 < dropping ? Float(0) : 1 }
    return try labels * Tensor(isKept, [isKept.count, 1], on: device)
  }
}
