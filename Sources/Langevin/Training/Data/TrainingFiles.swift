import Foundation

/// Data for training, whatever they are in.
public enum TrainingFiles {
  /// Opens folders of pictures, tar files, and folders that hold tar files and no pictures.
  ///
  /// Several are joined in their order; tar files of a folder are read in the order of their names. Throws
  /// `DataError`.
  public static func open(_ urls: [URL], _ options: CaptionOptions = CaptionOptions()) throws
    -> any TrainingData
  {
    let parts = try urls.map { try open($0, options) }
    guard let first = parts.first else { throw DataError.invalidOption("no data are given") }
    return parts.count == 1 ? first : JoinedData(parts)
  }

  private static func open(_ url: URL, _ options: CaptionOptions) throws -> any TrainingData {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw DataError.missing(path: url.path)
    }
    guard isFolder.boolValue else { return try WebDataset([url], options) }
    let contents = try FolderContents(url.path)
    let tars = contents.names.filter { $0.lowercased().hasSuffix(".tar") }
    guard !tars.isEmpty else { return try ImageFolder(url, options) }
    guard contents.pictures.isEmpty else {
      throw DataError.malformed(
        DataPlace(url.path), reason: "it holds both pictures and tar files; give one of the two")
    }
    return try WebDataset(tars.map { url.appendingPathComponent($0) }, options)
  }
}

/// Data one behind the other.
struct JoinedData: TrainingData {
  let pictures: [CaptionedPicture]
  private let parts: [any TrainingData]
  /// Where each part begins.
  private let starts: [Int]

  init(_ parts: [any TrainingData]) {
    self.parts = parts
    var count = 0
    starts = parts.map { part in
      defer { count += part.pictures.count }
      return count
    }
    pictures = parts.flatMap(\.pictures)
  }

  func picture(_ index: Int) throws -> Picture {
    let part = (starts.firstIndex { $0 > index } ?? parts.count) - 1
    return try parts[part].picture(index - starts[part])
  }
}
