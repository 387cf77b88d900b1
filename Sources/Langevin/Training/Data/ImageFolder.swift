import Foundation
import LangevinJSON

/// A folder of pictures with their captions, as Hugging Face's datasets know it under the name `imagefolder`.
///
/// Captions stand in `metadata.jsonl`, one object a line with `file_name`, `text` and perhaps `weight`; or,
/// where there is no such file, in a text file beside each picture, `a.txt` for `a.png`, one caption a line.
/// Pictures may lie in folders within; names that begin with a dot are passed over.
public struct ImageFolder: TrainingData {
  /// In the order of metadata.jsonl, else by name; those that metadata.jsonl leaves out come last, by name.
  public let pictures: [CaptionedPicture]
  /// The folder itself.
  public let url: URL

  /// The file that holds the captions of all pictures.
  public static let metadataName = "metadata.jsonl"

  /// Reads the captions and looks at what files are there; decodes no picture.
  ///
  /// Throws `DataError`.
  public init(_ url: URL, _ options: CaptionOptions = CaptionOptions()) throws {
    self.url = url
    let files = try FolderContents(url.path)
    let metadata = url.appendingPathComponent(Self.metadataName).path
    if files.sizes[Self.metadataName] != nil {
      pictures = try Self.listed(in: metadata, files, options)
    } else {
      if let other = files.names.first(where: { ($0 as NSString).lastPathComponent.hasPrefix("metadata.") }) {
        let isWithin = (other as NSString).lastPathComponent == Self.metadataName
        let folder = (files.path(other) as NSString).deletingLastPathComponent
        throw DataError.malformed(
          DataPlace(files.path(other)),
          reason: isWithin
            ? "the captions of a folder within are not read; give \(folder) as the data"
            : "captions are read from \(Self.metadataName) and from text files only")
      }
      pictures = try Self.besideTexts(files, options)
    }
    guard !pictures.isEmpty else { throw DataError.empty(path: url.path) }
    let bare = pictures.filter(\.captions.isEmpty)
    if options.areNeeded, let first = bare.first {
      throw DataError.withoutCaption(
        path: url.path, count: bare.count, total: pictures.count, first: first.name)
    }
  }

  /// Reads and decodes a picture. Throws `ImageError`.
  public func picture(_ index: Int) throws -> Picture {
    try Picture.read(url.appendingPathComponent(pictures[index].name)).picture
  }

  // MARK: metadata.jsonl

  private static func listed(in path: String, _ files: FolderContents, _ options: CaptionOptions) throws
    -> [CaptionedPicture]
  {
    let texts = Set(files.names.filter { $0.hasSuffix(".txt") })
    if let name = files.pictures.first(where: { texts.contains(textName($0)) }) {
      throw DataError.malformed(
        DataPlace(files.path(textName(name))),
        reason: "captions both in text files and in \(metadataName); keep one of the two")
    }
    let file = try DataError.reading(path, RegularFile.init(path:))
    return try withExtendedLifetime(file) {
      var result: [CaptionedPicture] = []
      var lines: [String: Int] = [:]
      var missing: [(DataPlace, String)] = []
      for (index, line) in file.bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        .enumerated()
      {
        if line.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
        let place = DataPlace(path, line: index + 1)
        let json = try StrictJSON(parsing: line, at: place)
        let entry = try CaptionEntry(
          json, usual: ["text"], others: ["file_name"], options, at: place)
        guard let given = json["file_name"]?.string else {
          throw DataError.malformed(place, reason: "it has no text 'file_name'")
        }
        let name = try normalized(given, at: place)
        if let earlier = lines.updateValue(index + 1, forKey: name) {
          throw DataError.duplicate(place, name: name, earlier: "line \(earlier)")
        }
        guard let size = files.size(name) else {
          missing.append((place, name))
          continue
        }
        result.append(
          CaptionedPicture(name: name, byteCount: size, captions: entry.captions, weight: entry.weight))
      }
      if let first = missing.first {
        throw DataError.withoutPicture(count: missing.count, first: first.0, name: first.1)
      }
      for name in files.pictures where lines[name] == nil {
        result.append(CaptionedPicture(name: name, byteCount: files.sizes[name] ?? 0, captions: []))
      }
      return result
    }
  }

  /// A path within the folder, in the one spelling that it has there. Throws `DataError.outside`.
  private static func normalized(_ name: String, at place: DataPlace) throws -> String {
    let parts = name.split(separator: "/").filter { $0 != "." }
    guard !parts.isEmpty, !name.hasPrefix("/"), !name.utf8.contains(0), !parts.contains("..") else {
      throw DataError.outside(place, name: name)
    }
    return parts.joined(separator: "/")
  }

  // MARK: Text files

  private static func textName(_ picture: String) -> String {
    (picture as NSString).deletingPathExtension + ".txt"
  }

  private static func besideTexts(_ files: FolderContents, _ options: CaptionOptions) throws
    -> [CaptionedPicture]
  {
    let unsupported = files.pictures.filter { !FolderContents.isRead($0) }
    if let first = unsupported.first {
      throw DataError.unsupported(path: files.root, count: unsupported.count, first: first)
    }
    var texts = Set(files.names.filter { $0.hasSuffix(".txt") })
    var owners: [String: String] = [:]
    let result = try files.pictures.map { name in
      var picture = CaptionedPicture(name: name, byteCount: files.sizes[name] ?? 0, captions: [])
      let text = textName(name)
      if let owner = owners[text] {
        throw DataError.duplicate(DataPlace(files.path(name)), name: text, earlier: owner)
      }
      guard texts.remove(text) != nil else { return picture }
      owners[text] = name
      let file = try DataError.reading(files.path(text), RegularFile.init(path:))
      picture.captions = try withExtendedLifetime(file) {
        try CaptionEntry(text: file.bytes, at: DataPlace(files.path(text))).captions
      }
      return picture
    }
    if let first = files.names.first(where: texts.contains) {
      let name = (first as NSString).deletingPathExtension
      throw DataError.withoutPicture(
        count: texts.count, first: DataPlace(files.path(first)), name: "\(name).png, .jpg or .webp")
    }
    return result
  }
}
