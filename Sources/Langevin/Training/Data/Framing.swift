import LangevinTensor

/// How a picture of any size becomes one of a run's size.
public struct Framing: Sendable, Hashable {
  /// In pixels.
  public var width: Int
  /// In pixels.
  public var height: Int
  /// How it is resized.
  public var fit = ImageFit.crop
  /// With `.crop`: whether the crop lies anywhere instead of in the middle. The picture is then resized
  /// before it is cropped.
  public var isCropRandom = false
  /// Pixels of white that are added at each side before a crop of the run's size: shifts the picture.
  public var padding = 0
  /// The number of places, evenly spaced along each axis, that a crop can have; with 3, a padded picture has
  /// nine views, few enough to keep their latents. Nil is any place.
  public var places: Int?

  /// The middle of each picture, in this size.
  public init(width: Int, height: Int) {
    self.width = width
    self.height = height
  }

  /// Throws `DataError.invalidOption` for sizes and paddings that no picture has.
  public func check() throws {
    guard (1...1 << 14).contains(width), (1...1 << 14).contains(height) else {
      throw DataError.invalidOption(
        "pictures must be 1 to 16384 pixels wide and high, got \(width)x\(height)")
    }
    guard (0...1 << 12).contains(padding) else {
      throw DataError.invalidOption("the padding must be 0 to 4096 pixels, got \(padding)")
    }
    guard (1...1 << 10).contains(places ?? 1) else {
      throw DataError.invalidOption("a crop must have 1 to 1024 places along an axis, got \(places ?? 1)")
    }
    guard !isCropRandom || fit == .crop else {
      throw DataError.invalidOption("a random crop needs the fit 'crop', got '\(fit.rawValue)'")
    }
  }
}

/// One way to see a picture: what latents are kept by.
public struct PictureView: Sendable, Hashable {
  /// The picture's place in the data.
  public let index: Int
  /// Where the crop lies, across and down, as a share of the room that it has.
  let place: SIMD2<Double>
  /// Whether left and right are exchanged.
  public let isMirrored: Bool
}

extension Framing {
  /// The view that a sample's choice amounts to.
  func view(_ choice: SampleChoice) -> PictureView {
    // How far a padded picture can be shifted is known, so that its views are as many as its pixels of room.
    let places = places ?? (isCropRandom ? nil : 2 * padding + 1)
    func place(_ random: Double) -> Double {
      guard let places else { return random }
      return places == 1 ? 0.5 : (random * Double(places)).rounded(.down) / Double(places - 1)
    }
    // Without room all places are one.
    let hasRoom = isCropRandom || padding > 0
    return PictureView(
      index: choice.index, place: hasRoom ? SIMD2(place(choice.crop.x), place(choice.crop.y)) : SIMD2(),
      isMirrored: choice.isMirrored)
  }

  /// The view of a picture from its middle, as it is.
  func middle(of index: Int) -> PictureView {
    view(SampleChoice(index: index, caption: nil, isMirrored: false, crop: SIMD2(repeating: 0.5)))
  }

  /// What does not depend on the view: the picture in the run's size, or covering it where the crop is
  /// random.
  func sized(_ picture: Picture) -> Picture {
    guard isCropRandom else { return picture.fitted(width: width, height: height, fit) }
    let scale = max(Double(width) / Double(picture.width), Double(height) / Double(picture.height))
    func side(_ length: Int, _ wanted: Int) -> Int { max(wanted, Int((Double(length) * scale).rounded())) }
    return picture.resized(width: side(picture.width, width), height: side(picture.height, height))
  }

  /// The crop of a picture from `sized` that shows the view.
  func framed(_ picture: Picture, _ view: PictureView) -> Picture {
    func start(_ length: Int, _ wanted: Int, _ place: Double) -> Int {
      let room = length + 2 * padding - wanted
      // Any of room + 1 pixels alike, or the nearest to the place.
      let isAnywhere = isCropRandom && places == nil
      let offset = isAnywhere ? Int(place * Double(room + 1)) : Int((place * Double(room)).rounded())
      return min(offset, room) - padding
    }
    let (left, top) = (
      start(picture.width, width, view.place.x), start(picture.height, height, view.place.y)
    )
    guard view.isMirrored || (left, top) != (0, 0) || (picture.width, picture.height) != (width, height)
    else {
      return picture
    }
    var pixels = [UInt8](repeating: 255, count: width * height * 3)
    for y in max(0, -top)..<min(height, picture.height - top) {
      for x in max(0, -left)..<min(width, picture.width - left) {
        let source = ((y + top) * picture.width + x + left) * 3
        let target = (y * width + (view.isMirrored ? width - 1 - x : x)) * 3
        for channel in 0..<3 { pixels[target + channel] = picture.pixels[source + channel] }
      }
    }
    return Picture(unchecked: pixels, width: width, height: height)
  }
}
