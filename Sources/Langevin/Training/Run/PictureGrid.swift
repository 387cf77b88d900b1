extension Picture {
  /// Pictures of one size in rows of so many, with a margin of white pixels between and around them. What the last row
  /// lacks stays white.
  ///
  /// Throws `ImageError.shape` for no pictures, for sizes that differ and for a grid without columns.
  public static func grid(_ pictures: [Picture], columns: Int, margin: Int = 2) throws -> Picture {
    guard let first = pictures.first, columns > 0, margin >= 0 else {
      throw ImageError.shape("a grid of \(pictures.count) pictures in \(columns) columns")
    }
    let (width, height) = (first.width, first.height)
    if let other = pictures.first(where: { ($0.width, $0.height) != (width, height) }) {
      throw ImageError.shape("a grid of \(width)x\(height) and \(other.width)x\(other.height)")
    }
    let columns = min(columns, pictures.count)
    let rows = (pictures.count + columns - 1) / columns
    let total = (width: margin + columns * (width + margin), height: margin + rows * (height + margin))
    var pixels = [UInt8](repeating: 255, count: total.width * total.height * 3)
    for (index, picture) in pictures.enumerated() {
      let left = margin + index % columns * (width + margin)
      let top = margin + index / columns * (height + margin)
      for row in 0..<height {
        let start = ((top + row) * total.width + left) * 3
        pixels.replaceSubrange(
          start..<start + width * 3, with: picture.pixels[row * width * 3..<(row + 1) * width * 3])
      }
    }
    return Picture(unchecked: pixels, width: total.width, height: total.height)
  }
}
