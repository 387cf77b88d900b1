import Foundation

/// How much a picture's file may ask for: a few bytes can promise gigabytes of pixels or of compressed text. Checked
/// before anything of that size is allocated.
public struct ImageLimits: Sendable, Hashable {
  /// Width times height; by default 2^26, 8192x8192.
  public var pixels = 1 << 26
  /// Bytes of texts, colour profiles and whatever else is no pixel, uncompressed; by default 16 MiB.
  public var metadata = 1 << 24

  /// The environment variables that raise or lower the limits.
  static let (pixelsVariable, metadataVariable) = ("LANGEVIN_MAX_IMAGE_PIXELS", "LANGEVIN_MAX_IMAGE_METADATA")

  /// The defaults.
  public init() {}

  /// The defaults, or what `LANGEVIN_MAX_IMAGE_PIXELS` and `LANGEVIN_MAX_IMAGE_METADATA` say. Throws `ImageError.limit`
  /// for anything but whole numbers from 1 to 2^40.
  public init(environment: [String: String]) throws {
    func number(_ name: String, _ fallback: Int) throws -> Int {
      guard let text = environment[name] else { return fallback }
      guard let number = Int(text), (1...1 << 40).contains(number) else {
        throw ImageError.limit("\(name) must be a whole number from 1 to 2^40, got '\(text.prefix(40))'")
      }
      return number
    }
    pixels = try number(Self.pixelsVariable, pixels)
    metadata = try number(Self.metadataVariable, metadata)
  }

  /// Throws `ImageError.limit` where a picture has more pixels.
  func check(width: Int, height: Int, path: String) throws {
    let (area, overflow) = width.multipliedReportingOverflow(by: height)
    guard overflow || area > pixels else { return }
    throw ImageError.limit(
      "\(path): \(width)x\(height) pixels are more than \(pixels) in all; \(Self.pixelsVariable) raises the limit"
    )
  }

  /// What is wrong where the metadata are larger.
  func metadataError(_ path: String) -> ImageError {
    .limit(
      "\(path): its texts and profiles are larger than \(metadata) bytes; \(Self.metadataVariable) raises the limit"
    )
  }
}
