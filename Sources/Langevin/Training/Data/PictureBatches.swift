import LangevinTensor

/// The pictures and captions of some samples of a run.
public struct PictureBatch: Sendable {
  /// Numbers of the samples in the run.
  public let samples: Range<UInt64>
  /// [N, H, W, 3], row-major, -1 for black to 1 for white.
  public let pixels: [Float]
  /// N, H, W, 3.
  public let shape: Shape
  /// Nil where the caption was dropped, and where the picture has none.
  public let captions: [String?]
  /// By what the latents of each picture can be kept.
  public let views: [PictureView]
}

/// Makes batches of a run's samples. A batch depends on nothing but the data, the settings and the samples'
/// numbers.
public struct PictureBatches: Sendable {
  /// The pictures.
  public let data: any TrainingData
  /// Which of them each sample shows.
  public let order: SampleOrder
  /// In which size.
  public let framing: Framing
  private let cache: BoundedCache<Int, Picture>

  /// - Parameters:
  ///   - data: at least one picture.
  ///   - order: made for these data.
  ///   - framing: the size of the batches' pictures.
  ///   - cacheLimit: bytes of decoded and resized pictures to keep in memory; 1 GiB by default.
  ///
  /// Throws `DataError.invalidOption`.
  public init(_ data: any TrainingData, _ order: SampleOrder, _ framing: Framing, cacheLimit: Int = 1 << 30)
    throws
  {
    try framing.check()
    self.data = data
    self.order = order
    self.framing = framing
    cache = BoundedCache(limit: cacheLimit)
  }

  /// The pictures of these samples, decoded on all cores where they are not kept.
  ///
  /// Throws `ImageError` of the first sample whose picture cannot be read.
  public func callAsFunction(_ samples: Range<UInt64>) throws -> PictureBatch {
    let choices = samples.map(order.choice)
    let views = choices.map(framing.view)
    let pictures = forEachInParallel(choices.indices) { place in Result { try picture(views[place]) } }
    var pixels: [Float] = []
    pixels.reserveCapacity(samples.count * framing.width * framing.height * 3)
    for picture in pictures { pixels += try picture.get().pixels.lazy.map { Self.levels[Int($0)] } }
    return PictureBatch(
      samples: samples, pixels: pixels, shape: [samples.count, framing.height, framing.width, 3],
      captions: choices.map { choice in
        choice.caption.map { data.pictures[choice.index].captions[$0].text }
      },
      views: views)
  }

  /// One view of a picture, in the run's size. Throws `ImageError`.
  public func picture(_ view: PictureView) throws -> Picture {
    let sized = try cache.value(for: view.index, byteCount: \.pixels.count) {
      framing.sized(try data.picture(view.index))
    }
    return framing.framed(sized, view)
  }

  /// As `Picture.tensor` has them.
  private static let levels = (0..<256).map { Float($0) / 255 * 2 - 1 }
}
