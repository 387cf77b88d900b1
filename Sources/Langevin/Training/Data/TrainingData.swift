import LangevinTensor

/// A text that describes a picture.
public struct Caption: Sendable, Hashable {
  /// Not blank.
  public var text: String
  /// How often it is chosen, relative to the picture's other captions; above 0.
  public var weight: Double

  /// A caption, as likely as the others unless a weight says otherwise.
  public init(_ text: String, weight: Double = 1) {
    self.text = text
    self.weight = weight
  }
}

/// What is known of a picture before it is decoded.
public struct CaptionedPicture: Sendable, Hashable {
  /// Its path within the data, the same wherever the data lie.
  public var name: String
  /// The size of its file.
  public var byteCount: Int
  /// Empty where the picture has no text.
  public var captions: [Caption]
  /// How often it is drawn, relative to the other pictures; above 0.
  public var weight: Double

  /// A picture, drawn as often as the others unless a weight says otherwise.
  public init(name: String, byteCount: Int, captions: [Caption], weight: Double = 1) {
    self.name = name
    self.byteCount = byteCount
    self.captions = captions
    self.weight = weight
  }
}

/// Pictures to train on, with their captions.
public protocol TrainingData: Sendable {
  /// At least one; the same files give the same order.
  var pictures: [CaptionedPicture] { get }

  /// Reads and decodes a picture of `pictures`: upright, its transparency laid over white.
  ///
  /// May be called from several threads. Throws `ImageError`, which names the file.
  func picture(_ index: Int) throws -> Picture
}

extension TrainingData {
  /// In hexadecimal: tells whether a run that is resumed sees the data that it began with. Made of the names,
  /// sizes, captions and weights in their order; not of the pixels, nor of where the data lie.
  public var hash: String {
    let hash = pictures.reduce(UInt64(pictures.count)) { hash, picture in
      // No byte of UTF-8 is 255, so that it ends a text.
      var bytes = Array(picture.name.utf8) + [255]
      bytes.append(UInt64(picture.byteCount))
      bytes.append(picture.weight.bitPattern)
      bytes.append(UInt64(picture.captions.count))
      for caption in picture.captions {
        bytes += Array(caption.text.utf8) + [255]
        bytes.append(caption.weight.bitPattern)
      }
      return FNV.hash(bytes, seed: hash)
    }
    return String(hash, radix: 16)
  }
}

extension [UInt8] {
  fileprivate mutating func append(_ number: UInt64) {
    for shift in stride(from: 0, to: 64, by: 8) { append(UInt8(truncatingIfNeeded: number >> shift)) }
  }
}

/// How captions are found, whether in a folder or in tar files.
public struct CaptionOptions: Sendable, Hashable {
  /// The column that holds the captions; the other columns are then passed over. Nil is the usual column, and
  /// columns that nothing reads are errors.
  public var column: String?
  /// Whether a picture without a caption is an error.
  public var areNeeded = true

  /// The usual column, and a caption for every picture.
  public init() {}
}
