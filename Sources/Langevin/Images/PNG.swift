import CSPNG
import Foundation

extension Picture {
  /// Reads a PNG file of any colour type and depth, upright; of 16 bits the upper eight are kept.
  ///
  /// Throws `ImageError.malformed`, also for one that breaks off, and `.limit`.
  static func decodePNG(
    _ bytes: UnsafeRawBufferPointer, path: String, limits: ImageLimits, _ transparency: Transparency
  ) throws -> File {
    guard let context = spng_ctx_new(0) else {
      throw ImageError.malformed(path: path, reason: "out of memory")
    }
    defer { spng_ctx_free(context) }
    func check(_ code: Int32) throws {
      if code == Int32(SPNG_ECHUNK_LIMITS.rawValue) { throw limits.metadataError(path) }
      if code != 0 {
        let reason = "not a PNG file that can be read: \(String(cString: spng_strerror(code)))"
        throw ImageError.malformed(path: path, reason: reason)
      }
    }
    try check(spng_set_chunk_limits(context, min(limits.metadata, Int(Int32.max)), limits.metadata))
    try check(spng_set_png_buffer(context, bytes.baseAddress, bytes.count))
    var header = spng_ihdr()
    try check(spng_get_ihdr(context, &header))
    let (width, height) = (Int(header.width), Int(header.height))
    try limits.check(width: width, height: height, path: path)
    let format = Int32(SPNG_FMT_RGBA8.rawValue)
    var size = 0
    try check(spng_decoded_image_size(context, format, &size))
    // Zeroed by the system as it is touched: a file that breaks off costs what it has.
    guard let rgba = calloc(size, 1) else {
      throw ImageError.malformed(path: path, reason: "\(width)x\(height) pixels do not fit in memory")
    }
    defer { free(rgba) }
    try check(spng_decode_image(context, rgba, size, format, Int32(SPNG_DECODE_TRNS.rawValue)))
    try check(spng_decode_chunks(context))
    var block = spng_exif()
    var orientation = 1
    if spng_get_exif(context, &block) == 0 {
      orientation =
        Exif(parsing: [UInt8](UnsafeRawBufferPointer(start: block.data, count: block.length))).orientation
    }
    let (picture, alpha) = layers(
      UnsafeRawBufferPointer(start: rgba, count: size), width: width, height: height,
      orientation: orientation,
      transparency)
    return File(picture: picture, texts: texts(context), alpha: alpha)
  }

  /// Without its alpha, laid over white.
  static func overWhite(_ rgba: UnsafeRawBufferPointer) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: rgba.count / 4 * 3) { result, count in
      for pixel in 0..<rgba.count / 4 {
        let alpha = Int(rgba[pixel * 4 + 3])
        for channel in 0..<3 {
          let over = Int(rgba[pixel * 4 + channel]) * alpha + 255 * (255 - alpha)
          result[pixel * 3 + channel] = UInt8((over + 127) / 255)
        }
      }
      count = rgba.count / 4 * 3
    }
  }

  private static func texts(_ context: OpaquePointer) -> [String: String] {
    var count: UInt32 = 0
    guard spng_get_text(context, nil, &count) == 0, count > 0 else { return [:] }
    var entries = [spng_text](repeating: spng_text(), count: Int(count))
    guard spng_get_text(context, &entries, &count) == 0 else { return [:] }
    var result: [String: String] = [:]
    for entry in entries.prefix(Int(count)) {
      guard let text = entry.text else { continue }
      let bytes = UnsafeRawBufferPointer(start: text, count: entry.length)
      let keyword = withUnsafeBytes(of: entry.keyword) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      // tEXt and zTXt are Latin-1, iTXt is UTF-8.
      result[keyword] =
        entry.type == Int32(SPNG_ITXT.rawValue)
        ? String(decoding: bytes, as: UTF8.self)
        : String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
    }
    return result
  }

  /// Writes a PNG file, which appears under its name only when it is complete.
  ///
  /// Texts that Latin-1 can hold become tEXt chunks, the others iTXt, as other writers do. Throws
  /// `ImageError.unwritable`.
  public func writePNG(to url: URL, texts: [(keyword: String, text: String)] = []) throws {
    try writePNG(to: url, texts: texts, alpha: nil)
  }

  /// The bytes of a PNG file without texts. Throws `ImageError.unwritable` where memory is short.
  public func png() throws -> Data { try withPNG(for: "PNG", texts: []) { Data($0) } }

  /// The same with a grey picture as its transparency.
  func writePNG(to url: URL, texts: [(keyword: String, text: String)], alpha: Picture?) throws {
    try withPNG(for: url.path, texts: texts, alpha: alpha) { try OutputFile.write($0, to: url) }
  }

  /// Lends the bytes of a PNG file to `body`. Throws `ImageError.unwritable`, with the path that they are for, and what
  /// `body` throws.
  func withPNG<Result>(
    for path: String, texts: [(keyword: String, text: String)], alpha: Picture? = nil,
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    guard let context = spng_ctx_new(Int32(SPNG_CTX_ENCODER.rawValue)) else {
      throw ImageError.unwritable(path: path, reason: "out of memory")
    }
    defer { spng_ctx_free(context) }
    func check(_ code: Int32) throws {
      if code != 0 {
        throw ImageError.unwritable(path: path, reason: String(cString: spng_strerror(code)))
      }
    }
    try check(spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1))
    var header = spng_ihdr()
    header.width = UInt32(width)
    header.height = UInt32(height)
    header.bit_depth = 8
    let type = alpha == nil ? SPNG_COLOR_TYPE_TRUECOLOR : SPNG_COLOR_TYPE_TRUECOLOR_ALPHA
    header.color_type = UInt8(type.rawValue)
    try check(spng_set_ihdr(context, &header))
    let chunks = texts.map { TextChunk($0.keyword, $0.text) }
    defer { for chunk in chunks { chunk.free() } }
    if !chunks.isEmpty {
      var entries = chunks.map(\.entry)
      try check(spng_set_text(context, &entries, UInt32(entries.count)))
    }
    let samples = alpha.map(rgba) ?? pixels
    try check(
      spng_encode_image(
        context, samples, samples.count, Int32(SPNG_FMT_PNG.rawValue), Int32(SPNG_ENCODE_FINALIZE.rawValue)))
    var size = 0
    var code: Int32 = 0
    guard let buffer = spng_get_png_buffer(context, &size, &code) else {
      try check(code)
      throw ImageError.unwritable(path: path, reason: "the encoder gave no data")
    }
    defer { Foundation.free(buffer) }
    return try body(UnsafeRawBufferPointer(start: buffer, count: size))
  }
}

/// The library's form of a text, with the memory that it points to.
private struct TextChunk {
  let entry: spng_text
  private let text: UnsafeMutablePointer<CChar>
  private let empty: UnsafeMutablePointer<CChar>

  init(_ keyword: String, _ value: String) {
    // A NUL would end the text early.
    let scalars = value.unicodeScalars.filter { $0 != "\0" }
    let isLatin1 = scalars.allSatisfy { $0.value < 256 }
    let bytes =
      isLatin1 ? scalars.map { UInt8($0.value) } : Array(String(String.UnicodeScalarView(scalars)).utf8)
    text = .allocate(capacity: bytes.count + 1)
    for (index, byte) in bytes.enumerated() { text[index] = CChar(bitPattern: byte) }
    text[bytes.count] = 0
    empty = .allocate(capacity: 1)
    empty[0] = 0
    var entry = spng_text()
    withUnsafeMutableBytes(of: &entry.keyword) { $0.copyBytes(from: Array(keyword.utf8).prefix(79)) }
    entry.type = Int32((isLatin1 ? SPNG_TEXT : SPNG_ITXT).rawValue)
    entry.length = bytes.count
    entry.text = text
    entry.language_tag = empty
    entry.translated_keyword = empty
    self.entry = entry
  }

  func free() {
    text.deallocate()
    empty.deallocate()
  }
}
