import Foundation
import Testing

@testable import Langevin

/// A folder with files for a test. It goes away with the process: data read their pictures when they are asked for, which may
/// be after the last use of this.
final class DataFolder {
  let url: URL

  private static let root: URL = {
    let root = FileManager.default.temporaryDirectory.appending(path: "data-\(UUID().uuidString)")
    atexit { try? FileManager.default.removeItem(at: DataFolder.root) }
    return root
  }()

  init() throws {
    url = Self.root.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  func path(_ name: String) -> String { url.appending(path: name).path }

  func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }

  func write(_ name: String, _ bytes: [UInt8]) throws {
    let file = url.appending(path: name)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: file)
  }

  /// A picture of one colour, in the format that the name ends with.
  func picture(_ name: String, _ colour: [UInt8] = [10, 200, 60], width: Int = 8, height: Int = 8) throws {
    try solidPicture(colour, width: width, height: height).write(to: url.appending(path: name))
  }

  /// What opening the folder as pictures throws.
  func error(_ options: CaptionOptions = CaptionOptions()) -> DataError? {
    #expect(throws: DataError.self) { try ImageFolder(url, options) }
  }

  /// The line without the path of this folder.
  func line(_ error: DataError?) -> String {
    (error?.description ?? "no error").replacingOccurrences(of: url.path, with: "DATA")
  }
}

func solidPicture(_ colour: [UInt8], width: Int, height: Int) throws -> Picture {
  try Picture(
    width: width, height: height, pixels: (0..<width * height).flatMap { _ in colour })
}

/// Whether all pixels are about this colour, as lossy formats keep it.
func isAbout(_ picture: Picture, _ colour: [UInt8], within tolerance: Int = 6) -> Bool {
  picture.pixels.enumerated().allSatisfy { abs(Int($1) - Int(colour[$0 % 3])) <= tolerance }
}

/// Data in memory: pictures of one colour each.
struct SolidData: TrainingData {
  var pictures: [CaptionedPicture]
  var width = 8
  var height = 8

  init(count: Int, captions: Int = 1, weight: (Int) -> Double = { _ in 1 }) {
    pictures = (0..<count).map { index in
      CaptionedPicture(
        name: "\(index).png", byteCount: 100 + index,
        captions: (0..<captions).map { Caption("caption \($0) of \(index)") }, weight: weight(index))
    }
  }

  static func colour(_ index: Int) -> [UInt8] { [UInt8(index % 250), 100, UInt8(250 - index % 250)] }

  func picture(_ index: Int) throws -> Picture {
    try solidPicture(Self.colour(index), width: width, height: height)
  }
}
