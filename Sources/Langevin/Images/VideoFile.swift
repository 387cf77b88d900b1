import Foundation
import LangevinTensor

/// How frames become a file; the file's ending decides.
public enum VideoFormat: String, Sendable, CaseIterable {
  /// H.264, made by the program ffmpeg.
  case mp4
  /// Animated, made by the program ffmpeg too.
  case webp
  /// A numbered file for each frame.
  case png

  /// By the ending of a file's name, in upper or lower case. Throws `VideoError.unknownFormat`.
  public init(_ url: URL) throws {
    guard let format = VideoFormat(rawValue: url.pathExtension.lowercased()) else {
      throw VideoError.unknownFormat(path: url.path)
    }
    self = format
  }
}

/// Writes the frames of a video; files appear under their names only when they are complete.
public enum VideoFile {
  /// Whether a video could be written here: the ending, the folder, and for MP4 and WebP the program ffmpeg.
  ///
  /// Throws `VideoError` and `ImageError.unwritable`.
  public static func check(
    _ url: URL, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws {
    if try VideoFormat(url) != .png { _ = try FFmpeg(for: url, environment: environment) }
    try OutputFile.check(url)
  }

  /// The files that `count` frames are written to: `OUT-0000.png`, `OUT-0001.png`, … or the one that is named.
  ///
  /// Throws `VideoError.unknownFormat`.
  public static func files(_ url: URL, count: Int) throws -> [URL] {
    guard try VideoFormat(url) == .png else { return [url] }
    let stem = url.deletingPathExtension()
    return (0..<count).map { index in
      let digits = String(index)
      let number = String(repeating: "0", count: max(0, 4 - digits.count)) + digits
      return stem.deletingLastPathComponent()
        .appendingPathComponent("\(stem.lastPathComponent)-\(number).\(url.pathExtension)")
    }
  }

  /// Writes frames of one size, at least one; returns the files. On failure none of them stays.
  ///
  /// - Parameters:
  ///   - frames: all of one size.
  ///   - url: the file; of PNG, what the numbered names begin with.
  ///   - framesPerSecond: positive; PNG files do not carry it.
  ///   - text: what made the video: the comment of an MP4, the text `parameters` of each PNG. WebP drops it.
  ///   - environment: where ffmpeg is looked for, by its `PATH`.
  ///
  /// Throws `VideoError` and `ImageError.unwritable`.
  @discardableResult
  public static func write(
    _ frames: [Picture], framesPerSecond: Double, to url: URL, text: String? = nil,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> [URL] {
    let format = try VideoFormat(url)
    guard let first = frames.first else { throw VideoError.badFrames(path: url.path, "there are no frames") }
    guard frames.allSatisfy({ $0.width == first.width && $0.height == first.height }) else {
      throw VideoError.badFrames(path: url.path, "the frames differ in size")
    }
    guard framesPerSecond > 0, framesPerSecond.isFinite else {
      throw VideoError.badFrames(path: url.path, "\(framesPerSecond) frames per second")
    }
    let files = try files(url, count: frames.count)
    switch format {
    case .png: try writePNG(frames, files, text)
    case .mp4, .webp:
      if format == .mp4 && (first.width % 2 != 0 || first.height % 2 != 0) {
        let reason = "frames of \(first.width)x\(first.height): MP4 needs an even width and height"
        throw VideoError.badFrames(path: url.path, reason)
      }
      let program = try FFmpeg(for: url, environment: environment)
      try OutputFile.write(to: url) { (temporary: URL) in
        try program.encode(
          frames, framesPerSecond: framesPerSecond, as: format, text: text, to: temporary)
      }
    }
    return files
  }

  private static func writePNG(_ frames: [Picture], _ files: [URL], _ text: String?) throws {
    let texts = text.map { [(keyword: PictureParameters.keyword, text: $0)] } ?? []
    var written: [URL] = []
    do {
      for (frame, file) in zip(frames, files) {
        try frame.writePNG(to: file, texts: texts)
        written.append(file)
      }
    } catch {
      for file in written { unlink(file.path) }
      throw error
    }
  }
}

extension Clip {
  /// Whether a picture or a video could be written here; which of them it will be is not known yet, so that of WebP only
  /// the folder is looked at. Throws as `VideoFile.check`.
  public static func check(_ url: URL) throws {
    if PictureFormat(url) == nil { try VideoFile.check(url) } else { try OutputFile.check(url) }
  }

  /// Writes a still picture or a video, as the file's ending says; returns the files.
  ///
  /// Throws as `Picture.write` and `VideoFile.write` do.
  @discardableResult
  public func write(to url: URL, _ parameters: PictureParameters) throws -> [URL] {
    let text = parameters.description
    guard let framesPerSecond else {
      precondition(frames.count == 1, "a video without a frame rate")
      try picture.write(to: url, text: text)
      return [url]
    }
    return try VideoFile.write(frames, framesPerSecond: framesPerSecond, to: url, text: text)
  }
}

/// Why a video could not be written.
public enum VideoError: Error, Sendable, Equatable, CustomStringConvertible {
  case unknownFormat(path: String)
  /// ffmpeg is not on PATH.
  case noEncoder(path: String)
  /// With the last line that ffmpeg wrote.
  case encoderFailed(path: String, String)
  case badFrames(path: String, String)

  /// One line that names the file and says what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .unknownFormat(let path):
      return "\(path): a video's file must end in .mp4, .webp or .png (its frames, numbered)"
    case .noEncoder(let path):
      let format = URL(fileURLWithPath: path).pathExtension
      return "\(path): the program ffmpeg makes .\(format) files, and is not on PATH "
        + "(apt install ffmpeg); a name that ends in .png gives numbered frames without it"
    case .encoderFailed(let path, let reason): return "\(path): ffmpeg failed: \(reason)"
    case .badFrames(let path, let reason): return "\(path): cannot be written: \(reason)"
    }
  }
}
