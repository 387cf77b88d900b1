import Foundation
import LangevinModels
import LangevinTensor

/// A picture with its transparency apart, and the texts of its file.
public struct PictureLayers: Sendable, Equatable {
  /// Colours as the file has them, also of pixels that are transparent.
  public var picture: Picture
  /// How opaque each pixel is, as a grey picture of the same size; nil where all of them are.
  public var alpha: Picture?
  /// By keyword; of two texts with one keyword the last. EXIF's comment is `parameters`.
  public var texts: [String: String]

  /// Layers of one size, and texts.
  public init(picture: Picture, alpha: Picture? = nil, texts: [String: String] = [:]) {
    (self.picture, self.alpha, self.texts) = (picture, alpha, texts)
  }

  /// Reads a PNG, JPEG or WebP file. Throws as `Picture.read` does.
  public static func read(_ url: URL, limits: ImageLimits? = nil) throws -> PictureLayers {
    let file = try Picture.read(url, limits: limits, transparency: .apart)
    return PictureLayers(picture: file.picture, alpha: file.alpha, texts: file.texts)
  }

  /// Writes a file, which appears under its name only when it is complete.
  ///
  /// PNG keeps everything; WebP keeps the text `parameters` alone, and JPEG has no transparency either: there
  /// the picture is laid over white. Throws `ImageError.unwritable`.
  public func write(to url: URL) throws {
    let format = PictureFormat(url) ?? .png
    let parameters = texts[PictureParameters.keyword]
    switch format {
    case .png:
      let sorted = texts.filter { !$0.value.isEmpty }.sorted { $0.key < $1.key }
      try picture.writePNG(to: url, texts: sorted.map { (keyword: $0.key, text: $0.value) }, alpha: alpha)
    case .jpeg: try overWhite.write(to: url, as: .jpeg, text: parameters)
    case .webp:
      let text = parameters?.isEmpty == true ? nil : parameters
      let bytes = try picture.webP(text: text, path: url.path, alpha: alpha)
      try bytes.withUnsafeBytes { try OutputFile.write($0, to: url) }
    }
  }

  private var overWhite: Picture {
    guard let alpha else { return picture }
    let pixels = picture.rgba(alpha).withUnsafeBytes { Picture.overWhite($0) }
    return Picture(unchecked: pixels, width: picture.width, height: picture.height)
  }
}

extension Picture {
  /// What becomes of transparency as a file is read.
  package enum Transparency: Sendable {
    case overWhite
    /// It is a layer of its own.
    case apart
  }

  /// Colours and opacity of a decoded file, upright.
  static func layers(
    _ rgba: UnsafeRawBufferPointer, width: Int, height: Int, orientation: Int, _ transparency: Transparency
  ) -> (picture: Picture, alpha: Picture?) {
    func upright(_ pixels: [UInt8]) -> Picture {
      Picture(unchecked: pixels, width: width, height: height).upright(from: orientation)
    }
    let isOpaque = stride(from: 3, to: rgba.count, by: 4).allSatisfy { rgba[$0] == 255 }
    if transparency == .overWhite || isOpaque { return (upright(overWhite(rgba)), nil) }
    func plane(_ channels: [Int]) -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: rgba.count / 4 * 3) { result, count in
        count = rgba.count / 4 * 3
        for pixel in 0..<rgba.count / 4 {
          for channel in 0..<3 { result[pixel * 3 + channel] = rgba[pixel * 4 + channels[channel]] }
        }
      }
    }
    return (upright(plane([0, 1, 2])), upright(plane([3, 3, 3])))
  }

  /// Four bytes a pixel, the last of them from a grey picture of the same size.
  func rgba(_ alpha: Picture) -> [UInt8] {
    precondition(alpha.width == width && alpha.height == height)
    return [UInt8](unsafeUninitializedCapacity: width * height * 4) { result, count in
      count = width * height * 4
      for pixel in 0..<width * height {
        for channel in 0..<3 { result[pixel * 4 + channel] = pixels[pixel * 3 + channel] }
        result[pixel * 4 + 3] = alpha.pixels[pixel * 3]
      }
    }
  }
}

extension Upscaler {
  /// Enlarges the colours, and the transparency like a grey picture. Texts stay.
  ///
  /// Parameters and errors are those of a picture; `progress` counts the tiles of both.
  public func callAsFunction(
    _ layers: PictureLayers, scale: Int? = nil, tiling: Tiling? = nil,
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> PictureLayers {
    guard let alpha = layers.alpha else {
      return PictureLayers(
        picture: try self(layers.picture, scale: scale, tiling: tiling, progress: progress),
        texts: layers.texts)
    }
    let picture = try self(layers.picture, scale: scale, tiling: tiling) { try progress($0, 2 * $1) }
    let grey = try self(alpha, scale: scale, tiling: tiling) { try progress($1 + $0, 2 * $1) }.grey()
    return PictureLayers(picture: picture, alpha: grey, texts: layers.texts)
  }
}

extension Picture {
  /// Each pixel's mean of red, green and blue.
  fileprivate func grey() -> Picture {
    let values = stride(from: 0, to: pixels.count, by: 3).flatMap { start in
      let sum = Int(pixels[start]) + Int(pixels[start + 1]) + Int(pixels[start + 2])
      return [UInt8](repeating: UInt8((sum + 1) / 3), count: 3)
    }
    return Picture(unchecked: values, width: width, height: height)
  }
}
