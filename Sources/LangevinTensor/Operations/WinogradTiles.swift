/// How processors compute a convolution of 3x3 taps tile by tile: 2x2 pixels each, with 16 products where the direct sum
/// has 36, or 4x4, with 36 where it has 144. Winograd's F(2x2, 3x3) and F(4x4, 3x3), arXiv:1509.09308.
///
/// Errors of the larger tiles are two to four times those of the smaller, and four to seven times those of a direct sum.
/// They keep its bound where the pixels of a window are of like size.
///
/// Whether a convolution is computed so depends on its shapes alone: no tuning and no device changes it, and for the side
/// the number of images does not count.
public struct WinogradTiles: Sendable, Hashable {
  /// Pixels of the input and of the output, [N, H, W, C].
  public let input, output: Shape
  /// Pixels of a tile in a line: 2 or 4.
  public let side: Int
  /// Zeros above and left of the input.
  public let padTop, padLeft: Int

  /// Between the transforms, of a run of tiles: what stays in a processor's last cache.
  private static let runBytes = 24 << 20
  /// Of transformed weights, for each core.
  private static let weightBytes = 4 << 20
  /// With fewer pixels the weights' transform costs what the products save.
  private static let leastPixels = 512
  /// With fewer channels the transforms of pixels do.
  private static let leastChannels = 64
  /// An image with fewer pixels makes too few large tiles: the weights' transform, 36 matrices, is the same for all.
  private static let leastPixelsOfLarge = 1024
  /// With fewer channels a large tile's error comes too close to what is allowed. In seven million outputs the largest was
  /// 1.19 of that with 128 channels and 0.63 with 256.
  private static let leastChannelsOfLarge = 256
  /// Rows that products are computed in.
  private static let runMultiple = 64

  /// Nil where the direct sum is faster, and for channels that fill no vectors of 16.
  public init?(_ conv: Conv2D, input: Shape, output: Shape) {
    guard conv.kernel == Extent2D(height: 3, width: 3), conv.stride == 1 else { return nil }
    guard min(input[3], output[3]) >= WinogradTiles.leastChannels, input[3] % 16 == 0, output[3] % 16 == 0,
      output[0] * output[1] * output[2] >= WinogradTiles.leastPixels
    else { return nil }
    (self.input, self.output) = (input, output)
    let isLarge =
      output[1] * output[2] >= WinogradTiles.leastPixelsOfLarge
      && input[3] >= WinogradTiles.leastChannelsOfLarge
    side = isLarge ? 4 : 2
    (padTop, padLeft) = (conv.padding.top, conv.padding.left)
  }

  /// Of the input, and of the output.
  public var channels: Int { input[3] }
  public var columns: Int { output[3] }
  /// Terms of a product that are added to one accumulator, where it matters. Of large tiles the last transform multiplies
  /// the products' errors by up to eight, and most of these are from long sums.
  public var longestSum: Int? { side == 4 ? 128 : nil }

  /// Pixels of a tile's window in a line.
  public var window: Int { side + 2 }
  /// Between the transforms, one for each pixel of a window.
  public var matrices: Int { window * window }
  /// Of an image.
  public var tileRows: Int { (output[1] + side - 1) / side }
  public var tileColumns: Int { (output[2] + side - 1) / side }
  /// Of all images.
  public var count: Int { output[0] * tileRows * tileColumns }

  /// How many tiles are computed together.
  public var run: Int {
    let fitting = WinogradTiles.runBytes / (matrices * (channels + columns) * 4)
    return min(count, max(fitting / WinogradTiles.runMultiple, 2) * WinogradTiles.runMultiple)
  }

  /// All tiles, as many at a time as are computed together.
  public var runs: [Range<Int>] {
    stride(from: 0, to: count, by: run).map { $0..<min($0 + run, count) }
  }

  /// Whether all tiles are computed together, so that each weight is used once.
  public var isOneRun: Bool { run == count }

  /// How many panels of `width` columns of the weights are transformed and then multiplied at a time. Few that stay in the
  /// caches where each is used once, else all.
  public func panelsAtOnce(width: Int, cores: Int) -> Int {
    guard isOneRun else { return (columns + width - 1) / width }
    return max(cores, 1) * max(1, WinogradTiles.weightBytes / (matrices * channels * width * 4))
  }

  /// Of a run's products; the last run may have fewer rows.
  public var size: ProductSize {
    ProductSize(batch: matrices, rows: run, inner: channels, columns: columns)
  }
}
