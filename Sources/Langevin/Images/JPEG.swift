import CTurboJPEG
import Foundation

extension Picture {
  /// Reads a JPEG file of any kind, upright; its text `parameters` is EXIF's comment.
  ///
  /// Throws `ImageError.malformed`, also for one that breaks off, and `.limit`.
  static func decodeJPEG(_ bytes: UnsafeRawBufferPointer, path: String, limits: ImageLimits) throws -> File {
    guard let handle = tjInitDecompress() else {
      throw ImageError.malformed(path: path, reason: "out of memory")
    }
    defer { tjDestroy(handle) }
    func failed() -> ImageError {
      let reason = tjGetErrorStr2(handle).map { String(cString: $0) } ?? "damaged"
      return .malformed(path: path, reason: "not a JPEG file that can be read: \(reason)")
    }
    let source = bytes.bindMemory(to: UInt8.self).baseAddress
    var (columns, rows, sampling, space): (Int32, Int32, Int32, Int32) = (0, 0, 0, 0)
    guard tjDecompressHeader3(handle, source, UInt(bytes.count), &columns, &rows, &sampling, &space) == 0
    else {
      throw failed()
    }
    let (width, height) = (Int(columns), Int(rows))
    try limits.check(width: width, height: height, path: path)
    // Of inks the library makes no colours.
    let hasInks = [TJCS_CMYK.rawValue, TJCS_YCCK.rawValue].contains(UInt32(bitPattern: space))
    let channels = hasInks ? 4 : 3
    guard let decoded = calloc(width * height, channels) else {
      throw ImageError.malformed(path: path, reason: "\(width)x\(height) pixels do not fit in memory")
    }
    defer { free(decoded) }
    let format = Int32((hasInks ? TJPF_CMYK : TJPF_RGB).rawValue)
    let code = tjDecompress2(
      handle, source, UInt(bytes.count), decoded.assumingMemoryBound(to: UInt8.self), columns, 0, rows,
      format,
      TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS)
    // Bytes between two markers change no pixel; whatever else it warns of has.
    if code != 0, !failed().description.contains("extraneous bytes") { throw failed() }

    let segments = JPEGSegments(bytes)
    let raw = UnsafeRawBufferPointer(start: decoded, count: width * height * channels)
    let pixels = hasInks ? colours(ofInks: raw, areInverted: segments.isAdobe) : [UInt8](raw)
    let exif = Exif(parsing: segments.exif)
    return File(
      picture: Picture(unchecked: pixels, width: width, height: height).upright(from: exif.orientation),
      texts: exif.comment.map { [PictureParameters.keyword: $0] } ?? [:])
  }

  /// Cyan, magenta, yellow and black; Adobe's programs store how much paper is left white.
  private static func colours(ofInks inks: UnsafeRawBufferPointer, areInverted: Bool) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: inks.count / 4 * 3) { result, count in
      func white(_ index: Int) -> Int { areInverted ? Int(inks[index]) : 255 - Int(inks[index]) }
      for pixel in 0..<inks.count / 4 {
        let black = white(4 * pixel + 3)
        for channel in 0..<3 {
          result[3 * pixel + channel] = UInt8((white(4 * pixel + channel) * black + 127) / 255)
        }
      }
      count = inks.count / 4 * 3
    }
  }

  /// As JPEG of quality 95 without subsampling, with a comment in EXIF where there is a text.
  ///
  /// Throws `ImageError.unwritable`, also for a text that does not fit into a segment's 64 KiB.
  func jpeg(text: String?, path: String) throws -> [UInt8] {
    func failed(_ reason: String) -> ImageError { .unwritable(path: path, reason: reason) }
    guard let handle = tjInitCompress() else { throw failed("out of memory") }
    defer { tjDestroy(handle) }
    var buffer: UnsafeMutablePointer<UInt8>?
    var size: UInt = 0
    defer { tjFree(buffer) }
    guard
      tjCompress2(
        handle, pixels, Int32(width), 0, Int32(height), Int32(TJPF_RGB.rawValue), &buffer, &size,
        Int32(TJSAMP_444.rawValue), 95, TJFLAG_ACCURATEDCT) == 0, let buffer
    else {
      throw failed(tjGetErrorStr2(handle).map { String(cString: $0) } ?? "the encoder failed")
    }
    let encoded = [UInt8](UnsafeBufferPointer(start: buffer, count: Int(size)))
    guard let text else { return encoded }
    let body = Array("Exif\0\0".utf8) + Exif(comment: text).block
    guard body.count + 2 <= 0xFFFF else {
      throw failed(
        "its text of \(text.utf16.count) characters is longer than a JPEG file holds; PNG holds it")
    }
    let segment =
      [0xFF, 0xE1, UInt8((body.count + 2) >> 8), UInt8(truncatingIfNeeded: body.count + 2)] + body
    // After the start and JFIF's own segment.
    let place = 4 + (Int(encoded[4]) << 8 | Int(encoded[5]))
    return encoded[..<place] + segment + encoded[place...]
  }
}

/// What a JPEG file says beside its pixels.
private struct JPEGSegments {
  /// EXIF's block, empty where there is none.
  var exif: [UInt8] = []
  /// Written by a program of Adobe's or one that does as they do.
  var isAdobe = false

  /// Reads the segments up to the first scan.
  init(_ bytes: UnsafeRawBufferPointer) {
    var position = 2
    while position + 4 <= bytes.count, bytes[position] == 0xFF {
      let marker = bytes[position + 1]
      let length = Int(bytes[position + 2]) << 8 | Int(bytes[position + 3])
      let end = position + 2 + length
      guard marker != 0xDA, length >= 2, end <= bytes.count else { return }
      let body = bytes[position + 4..<end]
      if marker == 0xE1, exif.isEmpty, body.starts(with: Array("Exif\0\0".utf8)) { exif = Array(body) }
      if marker == 0xEE, body.starts(with: Array("Adobe".utf8)) { isAdobe = true }
      position = end
    }
  }
}
