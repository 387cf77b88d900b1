import Langevin

/// Pictures as DEC's terminals draw them: six rows at a time, one colour after the other.
enum Sixel {
  /// Levels of red, green and blue: 216 colours, which every terminal that is still used has.
  private static let levels = 6

  /// Draws a picture from the cursor on.
  static func text(_ picture: Picture) -> String {
    let (width, height) = (picture.width, picture.height)
    let colors = dithered(picture)
    // Pixels are square; what is not drawn keeps its background.
    var text = "\u{1B}P0;1;0q\"1;1;\(width);\(height)"
    for color in Set(colors).sorted() {
      let parts = [color / (levels * levels), color / levels % levels, color % levels]
      text += "#\(color);2;" + parts.map { String($0 * 100 / (levels - 1)) }.joined(separator: ";")
    }
    for top in stride(from: 0, to: height, by: 6) {
      let rows = top..<min(top + 6, height)
      let used = Set(colors[rows.lowerBound * width..<rows.upperBound * width]).sorted()
      let lines = used.map { color in
        let masks = (0..<width).map { x in
          rows.reduce(UInt8(0)) { mask, y in
            colors[y * width + x] == color ? mask | 1 << UInt8(y - top) : mask
          }
        }
        return "#\(color)" + runs(masks)
      }
      // $ goes back to the left, - to the next six rows.
      text += lines.joined(separator: "$") + "-"
    }
    return text + "\u{1B}\\"
  }

  /// `!12~` is twelve times ~.
  private static func runs(_ masks: [UInt8]) -> String {
    var (text, first) = ("", 0)
    while first < masks.count {
      let end = masks[first...].firstIndex { $0 != masks[first] } ?? masks.count
      let character = String(Unicode.Scalar(masks[first] + 63))
      text +=
        end - first > 3 ? "!\(end - first)\(character)" : String(repeating: character, count: end - first)
      first = end
    }
    return text
  }

  /// The number of each pixel's colour; what is lost is given to the pixels to the right and below (Floyd and Steinberg,
  /// 1976).
  private static func dithered(_ picture: Picture) -> [Int] {
    let (width, height) = (picture.width, picture.height)
    var values = picture.pixels.map { Float($0) / 255 * Float(levels - 1) }
    var colors = [Int](repeating: 0, count: width * height)
    for y in 0..<height {
      for x in 0..<width {
        for channel in 0..<3 {
          let place = (y * width + x) * 3 + channel
          let level = min(max(values[place].rounded(), 0), Float(levels - 1))
          colors[y * width + x] = colors[y * width + x] * levels + Int(level)
          let error = values[place] - level
          if x + 1 < width { values[place + 3] += error * 7 / 16 }
          guard y + 1 < height else { continue }
          let below = place + width * 3
          if x > 0 { values[below - 3] += error * 3 / 16 }
          values[below] += error * 5 / 16
          if x + 1 < width { values[below + 3] += error / 16 }
        }
      }
    }
    return colors
  }
}
