import LangevinJSON
import LangevinNN
import LangevinTensor

/// Mean and deviation of CLIP's image embeddings, around which stable-unclip adds noise to them.
///
/// Everything is float32: a noised embedding is made once a picture.
public struct StableUnCLIPImageNormalizer: Sendable {
  /// Channels of an embedding.
  public let channels: Int
  let mean: Tensor
  let deviation: Tensor
  let path: String

  /// Loads `mean` and `std` [1, embedding_dim] of a config.json. Throws `ModelError` and `WeightError`.
  public init(_ config: ConfigObject, _ weights: Weights) throws {
    try config.require("_class_name", in: [.string("StableUnCLIPImageNormalizer")])
    channels = try config.int("embedding_dim", default: 768)
    guard channels % 2 == 0 else { throw config.invalid("embedding_dim", "an even number") }
    path = weights.layerPath
    mean = try weights.tensor("mean", [1, channels]).cast(to: .float32)
    deviation = try weights.tensor("std", [1, channels]).cast(to: .float32)
    try weights.finish()
  }

  /// Embeddings [N, channels] to mean 0 and deviation 1.
  public func scale(_ embeddings: Tensor) throws -> Tensor {
    try layer(path) { try (embeddings.cast(to: .float32) - mean) / deviation }
  }

  /// The inverse of `scale`.
  public func unscale(_ embeddings: Tensor) throws -> Tensor {
    try layer(path) { try embeddings.cast(to: .float32) * deviation + mean }
  }

  /// What the UNet takes as class labels: embeddings [N, channels] that already have the noise of a level, and
  /// the sinusoid of that level, [N, 2 channels].
  public func classLabels(_ noisy: Tensor, noiseLevel: Int) throws -> Tensor {
    try classLabels(noisy, noiseLevels: Array(repeating: noiseLevel, count: noisy.shape[0]))
  }

  /// The same with a level for each embedding. Throws `TensorError` unless there are as many.
  public func classLabels(_ noisy: Tensor, noiseLevels: [Int]) throws -> Tensor {
    let sinusoid = Sinusoid(channels: channels, flipped: true, shift: 0)
    return try layer(path) {
      let levels = try Tensor(
        noiseLevels.flatMap { sinusoid(Float($0)) }, [noiseLevels.count, channels], on: noisy.device)
      return try Tensor.concatenated([noisy.cast(to: .float32), levels], axis: 1)
    }
  }
}
