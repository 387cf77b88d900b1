import LangevinTensor

/// An RGB picture of 8 bits a channel.
public struct Picture: Sendable, Equatable {
  /// In pixels, at least 1.
  public let width: Int
  /// In pixels, at least 1.
  public let height: Int
  /// Rows from the top, three bytes (red, green, blue) a pixel.
  public let pixels: [UInt8]

  /// Throws `ImageError.shape` unless there are width x height x 3 bytes, and at least one pixel.
  public init(width: Int, height: Int, pixels: [UInt8]) throws {
    guard width > 0, height > 0, pixels.count == width * height * 3 else {
      throw ImageError.shape("\(width)x\(height) with \(pixels.count) bytes")
    }
    self.init(unchecked: pixels, width: width, height: height)
  }

  init(unchecked pixels: [UInt8], width: Int, height: Int) {
    precondition(pixels.count == width * height * 3)
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// From an autoencoder's output: [1, H, W, 3], or [1, H, W, 1] for grey, with -1...1 as black to white.
  ///
  /// What lies outside is clamped. Throws `ImageError.shape` for another shape, `.notFinite` for NaN, and what
  /// reading the tensor back throws.
  public init(_ decoded: Tensor) throws {
    let shape = decoded.shape
    guard shape.rank == 4, shape[0] == 1, shape[1] > 0, shape[2] > 0, [1, 3].contains(shape[3]) else {
      throw ImageError.shape("\(shape)")
    }
    let values = try decoded.floats()
    guard values.allSatisfy({ !$0.isNaN }) else { throw ImageError.notFinite }
    let bytes = values.map { value in
      UInt8((min(max(value, -1), 1) * 127.5 + 127.5).rounded(.toNearestOrEven))
    }
    let rgb = shape[3] == 3 ? bytes : bytes.flatMap { [$0, $0, $0] }
    self.init(unchecked: rgb, width: shape[2], height: shape[1])
  }

  /// As an autoencoder's encoder reads it: float32 [1, H, W, 3] in -1...1.
  public func tensor(on device: Device) throws -> Tensor {
    try Tensor(pixels.map { Float($0) / 255 * 2 - 1 }, [1, height, width, 3], on: device)
  }
}

/// What can be wrong with a picture or its file.
public enum ImageError: Error, Sendable, Equatable, CustomStringConvertible {
  case missingFile(path: String)
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  /// Not a PNG file, or a damaged one.
  case malformed(path: String, reason: String)
  /// A file asks for more than `ImageLimits` allow; the text names the limit.
  case limit(String)
  /// The description of what cannot be a picture.
  case shape(String)
  case notFinite

  /// One line that names the file.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .missingFile(let path): "\(path): no such file"
    case .unreadable(let path, let reason): "\(path): cannot be read: \(reason)"
    case .unwritable(let path, let reason): "\(path): cannot be written: \(reason)"
    case .malformed(let path, let reason): "\(path): \(reason)"
    case .limit(let text): text
    case .shape(let shape): "\(shape) is no picture; [1, H, W, 3] or [1, H, W, 1] is"
    case .notFinite: "the picture holds NaN"
    }
  }
}
