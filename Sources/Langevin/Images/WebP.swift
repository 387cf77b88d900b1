import CWebP
import Foundation

extension Picture {
  /// Pixels a side at most.
  private static let webPSide = 16_383

  /// Reads a still WebP file, upright; its text `parameters` is EXIF's comment.
  ///
  /// Throws `ImageError.malformed`, also for an animation and for a file that breaks off, and `.limit`.
  static func decodeWebP(
    _ bytes: UnsafeRawBufferPointer, path: String, limits: ImageLimits, _ transparency: Transparency
  ) throws -> File {
    func malformed(_ reason: String) -> ImageError { .malformed(path: path, reason: reason) }
    let source = bytes.bindMemory(to: UInt8.self).baseAddress
    var features = WebPBitstreamFeatures()
    guard WebPGetFeatures(source, bytes.count, &features) == VP8_STATUS_OK else {
      throw malformed("not a WebP file that can be read")
    }
    guard features.has_animation == 0 else { throw malformed("it is an animation, not a picture") }
    let (width, height) = (Int(features.width), Int(features.height))
    try limits.check(width: width, height: height, path: path)
    let size = width * height * 4
    guard let rgba = calloc(size, 1) else {
      throw malformed("\(width)x\(height) pixels do not fit in memory")
    }
    defer { free(rgba) }
    guard
      WebPDecodeRGBAInto(
        source, bytes.count, rgba.assumingMemoryBound(to: UInt8.self), size, Int32(width * 4)) != nil
    else { throw malformed("not a WebP file that can be read: it is damaged or breaks off") }
    let exif = Exif(parsing: try exif(bytes, path: path, limits: limits))
    let (picture, alpha) = layers(
      UnsafeRawBufferPointer(start: rgba, count: size), width: width, height: height,
      orientation: exif.orientation, transparency)
    return File(
      picture: picture, texts: exif.comment.map { [PictureParameters.keyword: $0] } ?? [:], alpha: alpha)
  }

  private static func exif(_ bytes: UnsafeRawBufferPointer, path: String, limits: ImageLimits) throws
    -> [UInt8]
  {
    var data = WebPData(bytes: bytes.bindMemory(to: UInt8.self).baseAddress, size: bytes.count)
    guard let mux = WebPMuxCreate(&data, 0) else { return [] }
    defer { WebPMuxDelete(mux) }
    var chunk = WebPData()
    guard WebPMuxGetChunk(mux, "EXIF", &chunk) == WEBP_MUX_OK else { return [] }
    guard chunk.size <= limits.metadata else { throw limits.metadataError(path) }
    return [UInt8](UnsafeBufferPointer(start: chunk.bytes, count: chunk.size))
  }

  /// As WebP of quality 90, with a comment in EXIF where there is a text, and a grey picture as its transparency.
  ///
  /// Throws `ImageError.unwritable`.
  func webP(text: String?, path: String, alpha: Picture? = nil) throws -> [UInt8] {
    func failed(_ reason: String) -> ImageError { .unwritable(path: path, reason: reason) }
    guard width <= Self.webPSide, height <= Self.webPSide else {
      throw failed("\(width)x\(height) is larger than WebP's \(Self.webPSide) pixels a side; PNG holds it")
    }
    var buffer: UnsafeMutablePointer<UInt8>?
    let encode = alpha == nil ? WebPEncodeRGB : WebPEncodeRGBA
    let size = encode(
      alpha.map(rgba) ?? pixels, Int32(width), Int32(height), Int32(width * (alpha == nil ? 3 : 4)), 90,
      &buffer)
    defer { WebPFree(buffer) }
    guard size > 0, let buffer else { throw failed("the encoder failed") }
    guard let text else { return [UInt8](UnsafeBufferPointer(start: buffer, count: size)) }

    guard let mux = WebPMuxNew() else { throw failed("out of memory") }
    defer { WebPMuxDelete(mux) }
    var image = WebPData(bytes: buffer, size: size)
    let block = Exif(comment: text).block
    let code = block.withUnsafeBufferPointer { block in
      var chunk = WebPData(bytes: block.baseAddress, size: block.count)
      guard WebPMuxSetImage(mux, &image, 1) == WEBP_MUX_OK else { return WEBP_MUX_BAD_DATA }
      return WebPMuxSetChunk(mux, "EXIF", &chunk, 1)
    }
    var assembled = WebPData()
    guard code == WEBP_MUX_OK, WebPMuxAssemble(mux, &assembled) == WEBP_MUX_OK else {
      throw failed("its text cannot be added")
    }
    defer { WebPDataClear(&assembled) }
    return [UInt8](UnsafeBufferPointer(start: assembled.bytes, count: assembled.size))
  }
}
