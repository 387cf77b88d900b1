import Foundation
import Langevin
import LangevinTensor

extension Drawing {
  /// Small pictures [N, 16, 16, 3] in rows, each drawn as large as the figure has room for.
  mutating func pictures(_ x: Tensor, title: String, x left: Double, y top: Double, columns: Int = 8) throws {
    let (count, side) = (x.shape[0], 30.0)
    text(title, x: left, y: top - 10)
    let each = ShapePictures.size * ShapePictures.size * 3
    let values = try x.floats()
    for index in 0..<count {
      let bytes = values[index * each..<(index + 1) * each].map { value in
        UInt8((min(max(value.isNaN ? 0 : value, -1), 1) * 127.5 + 127.5).rounded())
      }
      image(
        Bitmap(width: ShapePictures.size, height: ShapePictures.size, pixels: bytes),
        x: left + Double(index % columns) * (side + 4), y: top + Double(index / columns) * (side + 4),
        side: side)
    }
  }

  private mutating func image(_ bitmap: Bitmap, x: Double, y: Double, side: Double) {
    add(
      "<image x=\"\(Drawing.number(x))\" y=\"\(Drawing.number(y))\" width=\"\(Drawing.number(side))\" "
        + "height=\"\(Drawing.number(side))\" style=\"image-rendering: pixelated\" "
        + "href=\"data:image/bmp;base64,\(Data(bitmap.file).base64EncodedString())\"/>")
  }
}

/// A BMP file, which every browser shows and which needs no compression for a few pixels.
private struct Bitmap {
  let width, height: Int
  /// RGB, rows from the top; the width is a multiple of 4.
  let pixels: [UInt8]

  var file: [UInt8] {
    func number(_ value: Int, _ bytes: Int) -> [UInt8] {
      (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let size = pixels.count
    let header = Array("BM".utf8) + number(54 + size, 4) + number(0, 4) + number(54, 4)
    let info =
      number(40, 4) + number(width, 4) + number(height, 4) + number(1, 2) + number(24, 2) + number(0, 4)
      + number(size, 4) + number(2835, 4) + number(2835, 4) + number(0, 8)
    let rows = (0..<height).reversed().flatMap { y in
      (0..<width).flatMap { x -> [UInt8] in
        let place = (y * width + x) * 3
        return [pixels[place + 2], pixels[place + 1], pixels[place]]
      }
    }
    return header + info + rows
  }
}

extension Panel {
  /// One bar for each number, of its colour, side by side.
  mutating func bars(_ values: [Double], _ colors: [Color]) {
    for (index, (value, color)) in zip(values, colors).enumerated() {
      let place = Double(index) + 1
      let floor = vertical.range.lowerBound
      line(
        [Vector(x: place, y: floor), Vector(x: place, y: max(value, floor))], color, width: 40)
    }
  }
}
