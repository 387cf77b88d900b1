import Foundation
import LangevinModels
import LangevinNN
import LangevinTensor

/// Enlarges pictures by a network of Real-ESRGAN, tile by tile, so that memory does not grow with the
/// picture.
public struct Upscaler: Sendable {
  /// The weights' file without its ending.
  public let name: String
  /// The network's kind and size.
  public let config: UpscalerConfig
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations.
  public let precision: DType
  let network: UpscalerNetwork

  /// The side of a tile, in pixels of the picture, where nobody chose one.
  public static let defaultTile = 256
  /// What a tile sees around its own part at most, in pixels of the picture: all that a published
  /// `SRVGGNetCompact` reaches. Of the hundreds that an `RRDBNet` reaches, those beyond change hardly any pixel.
  static let context = 36

  /// Loads the network. Throws `WeightError`, `CheckpointError` and what the device throws.
  public init(_ file: UpscalerFile, on device: Device, precision: DType = .float32) throws {
    (name, config) = (file.name, file.config)
    (self.device, self.precision) = (device, precision)
    network = try UpscalerNetwork(
      config, Weights(file.weights, on: device, as: precision, component: "upscaler"))
  }

  /// Tiles of this side, in pixels of the picture, with what the network needs to see around them.
  public func tiling(_ tile: Int = Upscaler.defaultTile) -> Tiling {
    let unit = 2 * config.multiple
    let overlap = min(2 * min(config.reach, Upscaler.context), tile / 3) / unit * unit
    return Tiling(tile: tile / config.multiple * config.multiple, overlap: overlap, measuringPasses: 0)
  }

  /// The picture `scale` times as wide and as high; where the network enlarges more, its result is then
  /// reduced by Lanczos' filter.
  ///
  /// - Parameters:
  ///   - picture: of any size.
  ///   - scale: 1 to the network's own; by default that.
  ///   - tiling: by default tiles of `defaultTile`.
  ///   - progress: is told how many tiles are done, of how many. What it throws ends the work.
  ///
  /// Throws `ModelError.invalidInput` for a scale or tiles that cannot be, `ImageError.notFinite`, and what
  /// the device throws.
  public func callAsFunction(
    _ picture: Picture, scale: Int? = nil, tiling: Tiling? = nil,
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> Picture {
    let scale = try checked(scale)
    let padded = picture.mirrored(toMultipleOf: config.multiple)
    let tiles = try (tiling ?? self.tiling()).tiles(
      height: padded.height, width: padded.width, multiple: config.multiple)
    var canvas = Canvas(width: picture.width * config.scale, height: picture.height * config.scale)
    for (index, tile) in tiles.enumerated() {
      let part = try Tensor(
        padded.values(rows: tile.rows, columns: tile.columns), [1, tile.rows.count, tile.columns.count, 3],
        on: device)
      let values = try network(part.cast(to: precision)).floats()
      guard values.allSatisfy(\.isFinite) else { throw ImageError.notFinite }
      canvas.put(values, of: tile, scale: config.scale)
      try progress(index + 1, tiles.count)
    }
    let large = Picture(unchecked: canvas.pixels, width: canvas.width, height: canvas.height)
    guard scale < config.scale else { return large }
    return large.resized(width: picture.width * scale, height: picture.height * scale, filter: .lanczos)
  }

  /// The network's own scale where it is nil. Throws `ModelError.invalidInput` for one that the network
  /// cannot give.
  public func checked(_ scale: Int?) throws -> Int {
    let scale = scale ?? config.scale
    guard (1...config.scale).contains(scale) else {
      throw ModelError.invalidInput(
        model: name, reason: "it enlarges by \(config.scale); a scale of \(scale) is out of its reach")
    }
    return scale
  }
}

/// A picture that is put together from tiles.
private struct Canvas {
  let width, height: Int
  var pixels: [UInt8]

  init(width: Int, height: Int) {
    (self.width, self.height) = (width, height)
    pixels = [UInt8](repeating: 0, count: width * height * 3)
  }

  /// Takes a tile's own part of what the network made of it; what lies beyond the canvas is padding.
  mutating func put(_ values: [Float], of tile: PictureTile, scale: Int) {
    let stride = tile.columns.count * scale * 3
    let rows = tile.ownRows.lowerBound * scale..<min(tile.ownRows.upperBound * scale, height)
    let columns = tile.ownColumns.lowerBound * scale..<min(tile.ownColumns.upperBound * scale, width)
    for y in rows {
      let source =
        (y - tile.rows.lowerBound * scale) * stride
        + (columns.lowerBound - tile.columns.lowerBound * scale) * 3
      let target = (y * width + columns.lowerBound) * 3
      for index in 0..<columns.count * 3 {
        let value = (values[source + index] * 255).rounded(.toNearestOrEven)
        pixels[target + index] = UInt8(min(max(value, 0), 255))
      }
    }
  }
}

extension Picture {
  /// Pixels of a part, in 0...1.
  fileprivate func values(rows: Range<Int>, columns: Range<Int>) -> [Float] {
    rows.flatMap { y in
      let (first, end) = (y * width + columns.lowerBound, y * width + columns.upperBound)
      return pixels[first * 3..<end * 3].map { Float($0) / 255 }
    }
  }

  /// With its last rows and columns mirrored outwards until the sides are multiples, as the reference has it.
  fileprivate func mirrored(toMultipleOf multiple: Int) -> Picture {
    let newHeight = (height + multiple - 1) / multiple * multiple
    let newWidth = (width + multiple - 1) / multiple * multiple
    guard newHeight != height || newWidth != width else { return self }
    func inside(_ index: Int, _ length: Int) -> Int {
      index < length ? index : max(2 * length - 2 - index, 0)
    }
    var result: [UInt8] = []
    result.reserveCapacity(newWidth * newHeight * 3)
    for y in 0..<newHeight {
      for x in 0..<newWidth {
        let start = (inside(y, height) * width + inside(x, width)) * 3
        result.append(contentsOf: pixels[start..<start + 3])
      }
    }
    return Picture(unchecked: result, width: newWidth, height: newHeight)
  }
}
