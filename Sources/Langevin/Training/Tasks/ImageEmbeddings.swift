import LangevinModels
import LangevinNN
import LangevinTensor

/// CLIP's embeddings of a run's pictures, each made when it is first needed and kept on the host.
struct ImageEmbeddings: Sendable {
  /// Of an embedding.
  let channels: Int
  private let encoder: CLIPVisionModelWithProjection
  private let preparation: ImagePreparation
  private let batches: PictureBatches
  private let device: Device
  private let kept: BoundedCache<PictureView, [Float]>

  /// Reads the checkpoint's `image_encoder` and `feature_extractor`. Throws `CheckpointError` and what
  /// loading throws.
  init(_ checkpoint: Checkpoint, _ batches: PictureBatches, on device: Device, cacheBytes: Int) throws {
    let stage = try ImageEmbeddingStage(checkpoint)
    (channels, preparation) = (stage.config.projectionSize, stage.preparation)
    encoder = try CLIPVisionModelWithProjection(
      stage.config, Weights(stage.component.weights, on: device, component: "image_encoder"))
    (self.batches, self.device) = (batches, device)
    kept = BoundedCache(limit: cacheBytes)
  }

  /// Of the image encoder of a CLIP's folder. Throws what loading throws.
  init(_ clip: CLIPFolder, _ batches: PictureBatches, on device: Device, cacheBytes: Int) throws {
    (channels, preparation) = (clip.config.projectionSize, clip.preparation)
    let weights = Weights(clip.weights, on: device, component: "image_encoder")
    for text in ["text_model", "text_projection", "logit_scale"] { weights[text].skip() }
    encoder = try CLIPVisionModelWithProjection(clip.config.vision, weights)
    (self.batches, self.device) = (batches, device)
    kept = BoundedCache(limit: cacheBytes)
  }

  /// float32 [N, channels], one a view: what the encoder says of the picture as the run sees it, cropped and
  /// mirrored.
  func callAsFunction(_ views: [PictureView]) throws -> Tensor {
    let rows = try views.map { view in
      try kept.value(for: view, byteCount: { $0.count * 4 }) {
        try embedding(of: batches.picture(view))
      }
    }
    return try Tensor(rows.flatMap { $0 }, [views.count, channels], on: device)
  }

  /// Of a picture that is not kept.
  func embedding(of picture: Picture) throws -> [Float] {
    try encoder(preparation([picture], on: device)).imageEmbeds.floats()
  }

  /// The middle of so many pictures at most, evenly chosen.
  private func middles(_ limit: Int) -> [PictureView] {
    let total = batches.data.pictures.count
    let count = min(total, limit)
    return (0..<count).map { batches.framing.middle(of: $0 * total / count) }
  }

  /// So many pictures of the data at most, evenly chosen, in the run's size.
  func examples(_ limit: Int) throws -> [Picture] { try middles(limit).map(batches.picture) }

  /// Mean and deviation of each channel over so many pictures at most, evenly chosen; [1, channels] each.
  func statistics(over limit: Int) throws -> (mean: Tensor, deviation: Tensor) {
    let views = middles(limit)
    let count = Double(views.count)
    var (sums, squares) = ([Double](repeating: 0, count: channels), [Double](repeating: 0, count: channels))
    for view in views {
      for (channel, value) in try self([view]).floats().enumerated() {
        sums[channel] += Double(value)
        squares[channel] += Double(value) * Double(value)
      }
    }
    let means = sums.map { $0 / count }
    // A channel that says nothing of these pictures must not divide by zero.
    let deviations = zip(squares, means).map { max($0 / count - $1 * $1, 1e-12).squareRoot() }
    return (
      try Tensor(means.map { Float($0) }, [1, channels], on: device),
      try Tensor(deviations.map { Float($0) }, [1, channels], on: device)
    )
  }
}
