import Foundation
import LangevinJSON

/// What kind of file a picture is in.
public enum PictureFormat: String, Sendable, CaseIterable {
  /// Without loss; texts of any length.
  case png
  /// Of quality 95; a text of up to 32,000 characters, in EXIF.
  case jpeg
  /// Of quality 90; a text in EXIF.
  case webp

  /// By the ending of a file's name, in upper or lower case; `.jpg` is JPEG. Nil for another.
  public init?(_ url: URL) {
    let ending = url.pathExtension.lowercased()
    self.init(rawValue: ending == "jpg" ? "jpeg" : ending)
  }

  /// By how a file begins; nil where it is none of these.
  init?(beginningOf bytes: UnsafeRawBufferPointer) {
    if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]) {
      self = .png
    } else if bytes.starts(with: [0xFF, 0xD8, 0xFF]) {
      self = .jpeg
    } else if bytes.count >= 12, bytes.starts(with: Array("RIFF".utf8)),
      bytes[8..<12].elementsEqual(Array("WEBP".utf8))
    {
      self = .webp
    } else {
      return nil
    }
  }
}

extension Picture {
  /// A decoded file and the texts that it carries.
  public struct File: Sendable, Equatable {
    /// Upright, without its transparency.
    public var picture: Picture
    /// By keyword; of two texts with one keyword the last. EXIF's comment is `parameters`.
    public var texts: [String: String]
    /// A grey picture, where transparency was to be read apart and there is some.
    package var alpha: Picture?
  }

  /// Reads a PNG, JPEG or WebP file, which is recognised by its contents.
  ///
  /// `limits` are those of the environment where they are nil. Throws `ImageError.missingFile`, `.unreadable`,
  /// `.malformed` or `.limit`.
  public static func read(_ url: URL, limits: ImageLimits? = nil) throws -> File {
    try read(url, limits: limits, transparency: .overWhite)
  }

  static func read(_ url: URL, limits: ImageLimits?, transparency: Transparency) throws -> File {
    let limits = try limits ?? ImageLimits(environment: ProcessInfo.processInfo.environment)
    let file: RegularFile
    do {
      file = try RegularFile(path: url.path)
    } catch {
      switch error {
      case .missing: throw ImageError.missingFile(path: url.path)
      case .unreadable(let reason): throw ImageError.unreadable(path: url.path, reason: reason)
      }
    }
    return try withExtendedLifetime(file) {
      try decode(file.bytes, path: url.path, limits: limits, transparency)
    }
  }

  /// The same for the bytes of a file; `path` is what errors call it.
  package static func read(
    _ data: Data, path: String, limits: ImageLimits, _ transparency: Transparency = .overWhite
  ) throws -> File {
    try data.withUnsafeBytes { try decode($0, path: path, limits: limits, transparency) }
  }

  /// The bytes of a PNG file with this text `parameters`. Throws `ImageError.unwritable`.
  package func png(text: String? = nil) throws -> Data {
    try withPNG(for: "the picture", texts: text.map { [(PictureParameters.keyword, $0)] } ?? []) { Data($0) }
  }

  static func decode(
    _ bytes: UnsafeRawBufferPointer, path: String, limits: ImageLimits,
    _ transparency: Transparency = .overWhite
  ) throws -> File {
    switch PictureFormat(beginningOf: bytes) {
    case .png: try decodePNG(bytes, path: path, limits: limits, transparency)
    case .jpeg: try decodeJPEG(bytes, path: path, limits: limits)
    case .webp: try decodeWebP(bytes, path: path, limits: limits, transparency)
    case nil: throw ImageError.malformed(path: path, reason: "not a PNG, JPEG or WebP file")
    }
  }

  /// Writes a file, which appears under its name only when it is complete.
  ///
  /// - Parameters:
  ///   - url: where to.
  ///   - format: by default what the name's ending says, and PNG where it says nothing.
  ///   - text: what made the picture (`PictureParameters`): PNG's text `parameters`, or EXIF's comment.
  ///
  /// Throws `ImageError.unwritable`.
  public func write(to url: URL, as format: PictureFormat? = nil, text: String? = nil) throws {
    let bytes: [UInt8]
    // PNG has no empty texts.
    let text = text?.isEmpty == true ? nil : text
    switch format ?? PictureFormat(url) ?? .png {
    case .png:
      return try writePNG(to: url, texts: text.map { [(PictureParameters.keyword, $0)] } ?? [])
    case .jpeg: bytes = try jpeg(text: text, path: url.path)
    case .webp: bytes = try webP(text: text, path: url.path)
    }
    try bytes.withUnsafeBytes { try OutputFile.write($0, to: url) }
  }
}
