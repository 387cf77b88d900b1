import Foundation
import LangevinJSON
import LangevinTensor

/// How a picture becomes the input of an image encoder, as transformers' preprocessor_config.json says: resize, crop
/// to the centre, rescale, normalise, in this order. Equal to `CLIPImageProcessor` on Pillow, bit for bit.
public struct ImagePreparation: Sendable, Hashable {
  /// What a picture is resized to.
  public enum Size: Sendable, Hashable {
    /// The shorter side becomes this long, and the longer one keeps the ratio, rounded down.
    case shortestEdge(Int)
    /// Whatever the ratio was.
    case exactly(width: Int, height: Int)
  }

  /// Nil leaves the size alone.
  public var size: Size? = .shortestEdge(224)
  /// How it is resized.
  public var filter = ResizeFilter.bicubic
  /// Width and height of the middle that is kept, black where the picture is smaller; nil keeps all.
  public var crop: [Int]? = [224, 224]
  /// Levels 0...255 are multiplied by this, in double precision.
  public var rescaleFactor: Double? = 1 / 255
  /// Red, green, blue; taken away after rescaling. Nil, with `deviation`, leaves the values alone.
  public var mean: [Float]? = [0.481_454_66, 0.457_827_5, 0.408_210_73]
  /// Red, green, blue; then divided by.
  public var deviation: [Float]? = [0.268_629_54, 0.261_302_58, 0.275_777_11]

  /// CLIP's, for 224 pixels.
  public init() {}

  /// Reads a folder's preprocessor_config.json.
  ///
  /// Throws `CheckpointError.missingFile`, `.malformed`, and `.unsupported` for another processor than CLIP's, for a
  /// filter other than bilinear, bicubic and Lanczos, and for sizes and padding that CLIP's processor does not use.
  public init(folder: URL) throws {
    let url = folder.appendingPathComponent("preprocessor_config.json")
    try self.init(JSONFile.read(url), path: url.path)
  }

  init(_ json: StrictJSON, path: String) throws {
    let file = PreparationFile(json: json, path: path)
    guard case .object = json else { throw file.malformed("it is no object") }
    for key in ["image_processor_type", "feature_extractor_type"] {
      let known = [
        "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor",
      ]
      guard let name = file[key] else { continue }
      guard let name = name.string, known.contains(name) else {
        throw file.unsupported(key, name, supported: known)
      }
    }
    if try file.flag("do_pad", default: false) {
      throw file.unsupported("do_pad", .bool(true), supported: ["false"])
    }
    size = try file.flag("do_resize", default: true) ? file.size(default: .shortestEdge(224)) : nil
    filter = try file.filter(default: .bicubic)
    crop = try file.flag("do_center_crop", default: true) ? file.crop(default: [224, 224]) : nil
    rescaleFactor =
      try file.flag("do_rescale", default: true) ? file.number("rescale_factor", default: 1 / 255) : nil
    let standard = ImagePreparation()
    guard try file.flag("do_normalize", default: true) else {
      (mean, deviation) = (nil, nil)
      return
    }
    mean = try file.channels("image_mean", default: standard.mean)
    deviation = try file.channels("image_std", default: standard.deviation)
    if deviation?.contains(where: { abs($0) < 1e-6 }) == true {
      throw file.malformed("image_std holds a zero")
    }
  }

  /// Pictures -> float32 [N, H, W, 3].
  ///
  /// Throws `ImageError.shape` where they do not come out in one size, and where a picture is so narrow that its long
  /// side would become absurd.
  public func callAsFunction(_ pictures: [Picture], on device: Device) throws -> Tensor {
    let sized = try pictures.map(prepared)
    guard let first = sized.first else { throw ImageError.shape("no picture at all") }
    if let other = sized.first(where: { ($0.width, $0.height) != (first.width, first.height) }) {
      throw ImageError.shape("a batch of \(first.width)x\(first.height) and \(other.width)x\(other.height)")
    }
    let table = levels
    let values = sized.flatMap { picture in
      picture.pixels.indices.map { table[$0 % 3][Int(picture.pixels[$0])] }
    }
    return try Tensor(values, [sized.count, first.height, first.width, 3], on: device)
  }

  /// The picture resized and cropped as the configuration says.
  func prepared(_ picture: Picture) throws -> Picture {
    var result = picture
    switch size {
    case .exactly(let width, let height):
      result = result.resized(width: width, height: height, filter: filter)
    case .shortestEdge(let edge):
      let short = min(picture.width, picture.height)
      let (width, height) = (edge * picture.width / short, edge * picture.height / short)
      guard width <= 1 << 26 / height else {
        throw ImageError.shape("\(picture.width)x\(picture.height), resized to \(width)x\(height),")
      }
      result = result.resized(width: width, height: height, filter: filter)
    case nil: break
    }
    return crop.map { result.croppedToCentre(width: $0[0], height: $0[1]) } ?? result
  }

  /// What each level of red, green and blue becomes.
  private var levels: [[Float]] {
    (0..<3).map { channel in
      (0..<256).map { level in
        let value = Float(Double(level) * (rescaleFactor ?? 1))
        guard let mean, let deviation else { return value }
        return (value - mean[channel]) / deviation[channel]
      }
    }
  }
}

/// Reads the keys of a preprocessor_config.json; null counts as absent.
private struct PreparationFile {
  let json: StrictJSON
  let path: String

  subscript(key: String) -> StrictJSON? { json[key].flatMap { $0 == .null ? nil : $0 } }

  func malformed(_ reason: String) -> CheckpointError { .malformed(path: path, reason: reason) }

  func unsupported(_ key: String, _ value: StrictJSON, supported: [String]) -> CheckpointError {
    .unsupported(path: path, found: "\(key) = \(value.text)", supported: supported)
  }

  func flag(_ key: String, default fallback: Bool) throws -> Bool {
    guard let value = self[key] else { return fallback }
    guard case .bool(let flag) = value else { throw malformed("\(key) is neither true nor false") }
    return flag
  }

  func number(_ key: String, default fallback: Double) throws -> Double {
    guard let value = self[key] else { return fallback }
    guard let number = value.double, abs(number) <= 1e6 else {
      throw malformed("\(key) is no number of at most 1e6")
    }
    return number
  }

  /// Reads a length in pixels. Throws `CheckpointError` unless it is 1 to 16384.
  private func side(_ value: StrictJSON?, _ key: String) throws -> Int {
    guard let count = value?.count, (1...1 << 14).contains(count) else {
      throw malformed("\(key) must be 1 to 16384 pixels, got \(value?.text ?? "nothing")")
    }
    return count
  }

  func size(default fallback: ImagePreparation.Size) throws -> ImagePreparation.Size {
    guard let value = self["size"] else { return fallback }
    guard case .object(let members) = value else { return .shortestEdge(try side(value, "size")) }
    switch Set(members.filter { $0.value != .null }.map(\.key)) {
    case ["shortest_edge"]: return .shortestEdge(try side(value["shortest_edge"], "size"))
    case ["height", "width"]:
      return .exactly(width: try side(value["width"], "size"), height: try side(value["height"], "size"))
    default: throw unsupported("size", value, supported: ["a number", "shortest_edge", "height and width"])
    }
  }

  func crop(default fallback: [Int]) throws -> [Int] {
    guard let value = self["crop_size"] else { return fallback }
    guard case .object = value else {
      let edge = try side(value, "crop_size")
      return [edge, edge]
    }
    return [try side(value["width"], "crop_size"), try side(value["height"], "crop_size")]
  }

  func filter(default fallback: ResizeFilter) throws -> ResizeFilter {
    guard let value = self["resample"] else { return fallback }
    let names = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    guard let number = value.count, names.indices.contains(number) else {
      throw malformed("resample must be 0 to 5, got \(value.text)")
    }
    guard let filter = ResizeFilter(rawValue: names[number]) else {
      throw unsupported(
        "resample", .string("\(number) (\(names[number]))"),
        supported: ["1 (lanczos)", "2 (bilinear)", "3 (bicubic)"])
    }
    return filter
  }

  /// One number for all, or three.
  func channels(_ key: String, default fallback: [Float]?) throws -> [Float]? {
    guard let value = self[key] else { return fallback }
    var numbers = [value]
    if case .array(let items) = value { numbers = items }
    let values = numbers.compactMap(\.double).filter { abs($0) <= 1e6 }.map { Float($0) }
    guard values.count == numbers.count, [1, 3].contains(values.count) else {
      throw malformed("\(key) must be three numbers of at most 1e6, got \(value.text)")
    }
    return values.count == 3 ? values : [values[0], values[0], values[0]]
  }
}
