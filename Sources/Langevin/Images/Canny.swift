/// When a pixel is an edge of `Picture.edges`: thresholds of the gradient `|dx| + |dy|` by Sobel's 3x3
/// operator, which is at most 2040.
public struct CannyThresholds: Sendable, Hashable {
  /// Above it a pixel is an edge where it touches one.
  public var low: Int
  /// Above it a pixel is an edge.
  public var high: Int

  /// Those that ControlNets for edges were trained with.
  public static let standard = CannyThresholds(low: 100, high: 200)

  /// The lesser of the two is the low one.
  public init(low: Int, high: Int) { (self.low, self.high) = (min(low, high), max(low, high)) }
}

extension Picture {
  /// White edges one pixel wide on black, by Canny's method (doi:10.1109/TPAMI.1986.4767851): bit-equal to
  /// OpenCV's `Canny(picture, low, high)` of an RGB picture, without smoothing.
  public func edges(_ thresholds: CannyThresholds = .standard) -> Picture {
    let gradient = Gradient(of: self)
    var marks = gradient.maxima(thresholds)
    // From every sure edge along the pixels that are edges if they touch one.
    var open = marks.indices.filter { marks[$0] == .edge }
    while let place = open.popLast() {
      let (x, y) = (place % width, place / width)
      for row in max(0, y - 1)...min(height - 1, y + 1) {
        for column in max(0, x - 1)...min(width - 1, x + 1) {
          let neighbour = row * width + column
          guard marks[neighbour] == .candidate else { continue }
          marks[neighbour] = .edge
          open.append(neighbour)
        }
      }
    }
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    for place in marks.indices where marks[place] == .edge {
      for channel in 0..<3 { pixels[3 * place + channel] = 255 }
    }
    return Picture(unchecked: pixels, width: width, height: height)
  }
}

/// Sobel's gradient of each pixel, in the channel where it is steepest.
private struct Gradient {
  enum Mark { case none, candidate, edge }

  let width: Int
  let height: Int
  private var dx: [Int32]
  private var dy: [Int32]
  private var magnitude: [Int32]

  init(of picture: Picture) {
    let (width, height) = (picture.width, picture.height)
    (self.width, self.height) = (width, height)
    let zeros = [Int32](repeating: 0, count: width * height)
    (dx, dy, magnitude) = (zeros, zeros, zeros)
    // Beyond its border the picture repeats its border.
    picture.pixels.withUnsafeBufferPointer { pixels in
      for y in 0..<height {
        let (above, here, below) = (max(0, y - 1) * width, y * width, min(height - 1, y + 1) * width)
        for x in 0..<width {
          let (left, right) = (max(0, x - 1), min(width - 1, x + 1))
          for channel in 0..<3 {
            func at(_ row: Int, _ column: Int) -> Int32 { Int32(pixels[3 * (row + column) + channel]) }
            let (nw, ne, sw, se) = (at(above, left), at(above, right), at(below, left), at(below, right))
            let across = ne - nw + 2 * (at(here, right) - at(here, left)) + se - sw
            let down = sw - nw + 2 * (at(below, x) - at(above, x)) + se - ne
            let size = abs(across) + abs(down)
            // The first of equal channels.
            guard channel == 0 || size > magnitude[here + x] else { continue }
            (dx[here + x], dy[here + x], magnitude[here + x]) = (across, down, size)
          }
        }
      }
    }
  }

  /// Where the gradient is largest along its own direction, which is rounded to one of four.
  func maxima(_ thresholds: CannyThresholds) -> [Mark] {
    var marks = [Mark](repeating: .none, count: width * height)
    for y in 0..<height {
      for x in 0..<width {
        let place = y * width + x
        let size = magnitude[place]
        guard size > thresholds.low, isMaximum(x, y, size) else { continue }
        marks[place] = size > thresholds.high ? .edge : .candidate
      }
    }
    return marks
  }

  /// Outside of the picture the gradient is zero.
  private func size(_ x: Int, _ y: Int) -> Int32 {
    0..<width ~= x && 0..<height ~= y ? magnitude[y * width + x] : 0
  }

  /// Of two equal neighbours along an axis the first is the maximum; along a diagonal there is none.
  private func isMaximum(_ x: Int, _ y: Int, _ size: Int32) -> Bool {
    let place = y * width + x
    let (across, down) = (Int(abs(dx[place])), Int(abs(dy[place])) << 15)
    // The tangents of 22.5 and 67.5 degrees with 15 bits after the point: the second is the first plus 2.
    let shallow = across * 13_573
    let steep = shallow + (across << 16)
    if down < shallow { return size > self.size(x - 1, y) && size >= self.size(x + 1, y) }
    if down > steep { return size > self.size(x, y - 1) && size >= self.size(x, y + 1) }
    let side = (dx[place] ^ dy[place]) < 0 ? -1 : 1
    return size > self.size(x - side, y - 1) && size > self.size(x + side, y + 1)
  }
}
