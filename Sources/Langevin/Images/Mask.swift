import LangevinTensor

/// Which pixels of a picture are drawn anew; the others are kept.
public struct Mask: Sendable, Equatable {
  /// The mask's size in pixels.
  public let width, height: Int
  /// Rows from the top: true where the picture is drawn anew.
  public let isDrawn: [Bool]

  /// White is drawn anew, black is kept, and grey is what it is nearer to, by ITU-R BT.601's luma as Pillow rounds it.
  public init(_ picture: Picture) {
    (width, height) = (picture.width, picture.height)
    isDrawn = (0..<picture.width * picture.height).map { place in
      let rgb = picture.pixels[3 * place..<3 * place + 3].map(Int.init)
      let (red, green, blue) = (rgb[0], rgb[1], rgb[2])
      return (19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16 >= 128
    }
  }

  /// [1, height / scale, width / scale, 1] of the first pixel of each square, 1 where it is drawn anew: torch's nearest
  /// interpolation.
  func tensor(scale: Int, on device: Device) throws -> Tensor {
    let (rows, columns) = (height / scale, width / scale)
    let values = (0..<rows * columns).map { place -> Float in
      isDrawn[place / columns * scale * width + place % columns * scale] ? 1 : 0
    }
    return try Tensor(values, [1, rows, columns, 1], on: device)
  }
}

extension Picture {
  /// What a canvas has around a picture.
  enum Border {
    /// The picture's outermost pixels, again and again.
    case edges
    /// White pixels around the picture.
    case white
  }

  /// As an autoencoder's encoder reads it, with middle grey where the mask is white: float32 [1, H, W, 3] in -1...1.
  func tensor(hiding mask: Mask, on device: Device) throws -> Tensor {
    let values = pixels.enumerated().map { place, value in
      mask.isDrawn[place / 3] ? 0 : Float(value) / 255 * 2 - 1
    }
    return try Tensor(values, [1, height, width, 3], on: device)
  }

  /// In the middle of a canvas that is at least as large.
  func onCanvas(_ canvas: CanvasSize, border: Border) -> Picture {
    let (left, top) = ((canvas.width - width) / 2, (canvas.height - height) / 2)
    var result: [UInt8] = []
    result.reserveCapacity(canvas.width * canvas.height * 3)
    for y in 0..<canvas.height {
      for x in 0..<canvas.width {
        let (column, row) = (min(max(x - left, 0), width - 1), min(max(y - top, 0), height - 1))
        let isInside = column == x - left && row == y - top
        let place = 3 * (row * width + column)
        result += isInside || border == .edges ? Array(pixels[place..<place + 3]) : [255, 255, 255]
      }
    }
    return Picture(unchecked: result, width: canvas.width, height: canvas.height)
  }

  /// Black, of this picture's size.
  var black: Picture {
    Picture(unchecked: [UInt8](repeating: 0, count: pixels.count), width: width, height: height)
  }
}

/// The size of a canvas that a picture is put on, to be drawn beyond its edges.
public struct CanvasSize: Sendable, Hashable {
  /// The canvas's size in pixels.
  public var width, height: Int

  /// A canvas of so many pixels.
  public init(width: Int, height: Int) { (self.width, self.height) = (width, height) }
}
