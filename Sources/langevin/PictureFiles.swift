import ArgumentParser
import Foundation
import Langevin

/// Where the pictures of a run go: the files that the user named, standard output, or names of which nothing has
/// one yet.
struct PictureFiles {
  /// One an image; of standard output its device.
  let urls: [URL]
  let isStandardOutput: Bool
  /// Whether nobody chose the names, so that nobody expects a file to be replaced.
  private let isDefault: Bool

  /// Of pictures of these seeds. Throws `ValidationError`.
  init(_ output: String?, _ options: GenerationOptions, seeds: [UInt64]) throws {
    let count = seeds.count
    isDefault = output == nil
    isStandardOutput = output == "-"
    if isStandardOutput {
      guard count == 1 else { throw ValidationError("--output - takes one picture, not \(count)") }
      guard isatty(STDOUT_FILENO) == 0 else {
        throw ValidationError("--output - needs standard output to be a file or a pipe, not a terminal")
      }
      urls = [URL(fileURLWithPath: "/dev/stdout")]
    } else if let output {
      urls = try options.files(output, count: count)
    } else {
      urls = seeds.map { URL(fileURLWithPath: "langevin-\($0).png") }
    }
  }

  /// The names beside which previews lie: of standard output those that the pictures would have in the working folder.
  func previewURLs(seed: UInt64) -> [URL] {
    isStandardOutput ? [URL(fileURLWithPath: "langevin-\(seed).png")] : urls
  }

  /// Whether they could be written. Throws `VideoError` and `ImageError.unwritable`.
  func check() throws {
    for url in urls { try isStandardOutput ? OutputFile.check(url) : Clip.check(url) }
  }

  /// Whether they can hold what the pipeline makes. Throws `ValidationError`.
  func check(fit pipeline: any Pipeline, _ options: GenerationOptions) throws {
    guard isStandardOutput else { return try options.check(urls, fit: pipeline) }
    if type(of: pipeline).options.contains(.frames) {
      throw ValidationError("--output - is for a picture; \(pipeline.checkpoint.pipeline) makes videos")
    }
  }

  /// Writes an image; returns the files as the user would type them. Throws as `Clip.write` does.
  func write(_ clip: Clip, image: Int, _ parameters: PictureParameters) throws -> [String] {
    let url = urls[image]
    if isStandardOutput {
      try clip.write(to: url, parameters)
      return []
    }
    guard isDefault else { return try clip.write(to: url, parameters).map(Output.path) }
    return try OutputFile.exclusively(in: url.deletingLastPathComponent()) {
      try clip.write(to: free(url, clip), parameters).map(Output.path)
    }
  }

  /// The first of `NAME.png`, `NAME-1.png`, `NAME-2.png`, … that would replace nothing.
  private func free(_ url: URL, _ clip: Clip) throws -> URL {
    let stem = url.deletingPathExtension().path
    var candidate = url
    for number in 1... {
      let files =
        try clip.framesPerSecond == nil ? [candidate] : VideoFile.files(candidate, count: clip.frames.count)
      var status = stat()
      if files.allSatisfy({ lstat($0.path, &status) != 0 }) { break }
      candidate = URL(fileURLWithPath: "\(stem)-\(number).\(url.pathExtension)")
    }
    return candidate
  }
}
