import ArgumentParser
import Foundation
import Langevin

/// `every:5`.
struct PreviewOption {
  let steps: Int

  /// Throws a line with what is wanted.
  init(_ text: String) throws {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0] == "every", let steps = Int(parts[1]), (1...10_000).contains(steps)
    else {
      throw ValidationError("It is every:N, a preview after every N steps, N from 1 to 10000")
    }
    self.steps = steps
  }
}

/// Where the previews of a run go: every one into a folder, or the newest onto the terminal, or where that shows no
/// pictures, into a file beside the picture's that goes away with it.
final class Previews {
  private let folder: URL?
  private let graphics: TerminalGraphics?
  /// The names of the pictures.
  private let stems: [URL]
  /// By image.
  private var shown: [Int: URL] = [:]
  private var isBroken = false

  /// Of pictures in these files; `isInline` where a terminal may show them.
  init(_ pictures: [URL], folder: String?, isInline: Bool) {
    self.folder = folder.map { URL(fileURLWithPath: $0) }
    graphics = isInline && folder == nil ? TerminalGraphics.detect() : nil
    stems = pictures.map { $0.deletingPathExtension() }
  }

  /// `size` is that of the picture that there will be; `isFirst` tells the first of a batch. Throws
  /// `ImageError.unwritable` for a folder's file.
  func show(
    _ preview: Picture, of image: Int, isFirst: Bool, step: Int, size: CanvasSize?,
    _ display: inout ProgressDisplay
  ) throws {
    if let folder {
      let name = stems[image].lastPathComponent + String(format: "-step-%04d.png", step)
      return try preview.enlarged(to: size).writePNG(to: folder.appendingPathComponent(name))
    }
    if let graphics {
      if isFirst { try display.picture(preview, by: graphics) }
      return
    }
    guard !isBroken else { return }
    do {
      try write(preview.enlarged(to: size), image, &display)
    } catch {
      // No picture is lost for want of its preview.
      isBroken = true
      display.close()
      Output.warning("no more previews: \(error)")
    }
  }

  private func write(_ preview: Picture, _ image: Int, _ display: inout ProgressDisplay) throws {
    if let url = shown[image] { return try preview.writePNG(to: url) }
    let folder = stems[image].deletingLastPathComponent()
    shown[image] = try OutputFile.exclusively(in: folder) {
      var (url, number, status) = (stems[image].appending("-preview.png"), 0, stat())
      while lstat(url.path, &status) == 0 {
        number += 1
        url = stems[image].appending("-preview-\(number).png")
      }
      try preview.writePNG(to: url)
      display.line("previews are in \(Output.path(url)) until the picture is there")
      return url
    }
  }

  /// The picture is there.
  func finish(_ image: Int) {
    guard let url = shown.removeValue(forKey: image) else { return }
    try? FileManager.default.removeItem(at: url)
  }

  /// Takes away what is left.
  func close() { for image in shown.keys { finish(image) } }
}

extension URL {
  fileprivate func appending(_ text: String) -> URL {
    deletingLastPathComponent().appendingPathComponent(lastPathComponent + text)
  }
}

extension Picture {
  /// In this size where it is smaller.
  fileprivate func enlarged(to size: CanvasSize?) -> Picture {
    guard let size, width < size.width, height < size.height else { return self }
    return resized(width: size.width, height: size.height, filter: .bilinear)
  }
}
