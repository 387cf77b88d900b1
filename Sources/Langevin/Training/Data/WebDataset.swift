import Foundation
import LangevinJSON
import LangevinTensor

/// Pictures with their captions in tar files, as the webdataset library writes them: `KEY.png`, `.jpg`,
/// `.jpeg` or `.webp`, and `KEY.txt` with one caption a line, or `KEY.json` with `text` or `caption` and
/// perhaps `weight`.
///
/// The files stay packed: an index says where each picture lies. A key ends at the first dot of a file's
/// name.
public struct WebDataset: TrainingData {
  /// In the order of the files, and within each in the order in which the keys first appear.
  public let pictures: [CaptionedPicture]
  private let shards: [Shard]
  private let places: [Place]

  private struct Shard: Sendable {
    let path: String
    let file: RegularFile
  }

  /// Where a picture lies.
  private struct Place: Sendable {
    let shard: Int
    let range: Range<Int>
  }

  /// Reads the archives' headers and the captions; decodes no picture.
  ///
  /// `options.column` `txt` stands for `KEY.txt`, any other for a key of `KEY.json`; members of other kinds
  /// are then passed over. Throws `DataError`.
  public init(_ urls: [URL], _ options: CaptionOptions = CaptionOptions()) throws {
    var pictures: [CaptionedPicture] = []
    var shards: [Shard] = []
    var places: [Place] = []
    for url in urls {
      let shard = Shard(path: url.path, file: try DataError.reading(url.path, RegularFile.init(path:)))
      for entry in try Self.entries(of: shard, options) {
        pictures.append(entry.picture)
        places.append(Place(shard: shards.count, range: entry.range))
      }
      shards.append(shard)
    }
    let path = urls.count == 1 ? urls[0].path : "\(urls.count) tar files"
    guard !pictures.isEmpty else { throw DataError.empty(path: path) }
    let bare = pictures.filter(\.captions.isEmpty)
    if options.areNeeded, let first = bare.first {
      throw DataError.withoutCaption(
        path: path, count: bare.count, total: pictures.count, first: first.name)
    }
    (self.pictures, self.shards, self.places) = (pictures, shards, places)
  }

  /// Decodes a picture. Throws `ImageError`.
  public func picture(_ index: Int) throws -> Picture {
    let place = places[index]
    let shard = shards[place.shard]
    let limits = try ImageLimits(environment: ProcessInfo.processInfo.environment)
    return try withExtendedLifetime(shard.file) {
      let bytes = UnsafeRawBufferPointer(rebasing: shard.file.bytes[place.range])
      // The name begins with the archive's.
      let folder = (shard.path as NSString).deletingLastPathComponent
      let path = (folder as NSString).appendingPathComponent(pictures[index].name)
      return try Picture.decode(bytes, path: path, limits: limits).picture
    }
  }

  // MARK: One file

  private typealias Entry = (picture: CaptionedPicture, range: Range<Int>)

  /// The members that share a key.
  private struct Sample {
    let key: String
    var picture: TarIndex.Member?
    var text: TarIndex.Member?
    var json: TarIndex.Member?
  }

  private static func entries(of shard: Shard, _ options: CaptionOptions) throws -> [Entry] {
    try withExtendedLifetime(shard.file) {
      let bytes = shard.file.bytes
      let samples = try samples(TarIndex(bytes, path: shard.path), shard.path, options)
      let orphans = samples.filter { $0.picture == nil }
      if let first = orphans.first, let caption = first.text ?? first.json {
        throw DataError.withoutPicture(
          count: orphans.count, first: DataPlace(shard.path, member: caption.name),
          name: "\(first.key).png, .jpg or .webp")
      }
      let name = (shard.path as NSString).lastPathComponent
      return try samples.compactMap { sample in
        guard let picture = sample.picture else { return nil }
        let entry = try captions(sample, bytes, shard.path, options)
        return (
          CaptionedPicture(
            name: "\(name)/\(picture.name)", byteCount: picture.range.count, captions: entry.captions,
            weight: entry.weight), picture.range
        )
      }
    }
  }

  private static func samples(_ index: TarIndex, _ path: String, _ options: CaptionOptions) throws
    -> [Sample]
  {
    var samples: [Sample] = []
    var places: [String: Int] = [:]
    var others: [String] = []
    for member in index.members {
      let (key, ending) = split(member.name)
      // Files of macOS's and other hidden ones have no key.
      guard !key.isEmpty, !key.hasSuffix("/") else { continue }
      let role: WritableKeyPath<Sample, TarIndex.Member?>? =
        switch ending {
        case "png", "jpg", "jpeg", "webp": \.picture
        case "txt": \.text
        case "json": \.json
        default: nil
        }
      guard let role else {
        others.append(member.name)
        continue
      }
      let place = places[key] ?? samples.count
      if place == samples.count {
        samples.append(Sample(key: key))
        places[key] = place
      }
      if let earlier = samples[place][keyPath: role] {
        throw DataError.duplicate(DataPlace(path, member: member.name), name: key, earlier: earlier.name)
      }
      samples[place][keyPath: role] = member
    }
    guard others.isEmpty || options.column != nil else {
      throw DataError.unknownColumns(DataPlace(path), names: others)
    }
    return samples
  }

  /// The key and what stands behind the first dot of the last part, in lower case.
  private static func split(_ name: String) -> (key: String, ending: String) {
    let start = name.lastIndex(of: "/").map(name.index(after:)) ?? name.startIndex
    guard let dot = name[start...].firstIndex(of: ".") else { return (name, "") }
    return (String(name[..<dot]), name[name.index(after: dot)...].lowercased())
  }

  private static func captions(
    _ sample: Sample, _ bytes: UnsafeRawBufferPointer, _ path: String, _ options: CaptionOptions
  ) throws -> CaptionEntry {
    func place(_ member: TarIndex.Member) -> DataPlace { DataPlace(path, member: member.name) }
    var (text, json) = (sample.text, sample.json)
    if let column = options.column {
      if column == "txt" { json = nil } else { text = nil }
    } else if let text, json != nil {
      throw DataError.malformed(
        place(text),
        reason: "captions both here and in \(sample.key).json; name the column: txt, or a key of the JSON")
    }
    if let text {
      return try CaptionEntry(text: UnsafeRawBufferPointer(rebasing: bytes[text.range]), at: place(text))
    }
    if let json {
      let document = try StrictJSON(parsing: bytes[json.range], at: place(json))
      return try CaptionEntry(document, usual: ["text", "caption"], options, at: place(json))
    }
    return CaptionEntry()
  }
}
