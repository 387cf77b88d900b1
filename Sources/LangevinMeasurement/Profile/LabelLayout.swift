import Foundation

/// A place in a picture; y grows downward.
struct Point {
  var x, y: Double
  /// For a list of points.
  var text: String { "\(SVG.number(x)),\(SVG.number(y))" }
}

/// A straight line that labels keep away from.
struct Segment {
  var a, b: Point

  /// Points on it, at most three pixels apart.
  var samples: [Point] {
    let count = max(1, Int(hypot(b.x - a.x, b.y - a.y) / 3))
    return (0...count).map { step in
      let t = Double(step) / Double(count)
      return Point(x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t)
    }
  }
}

/// A rectangle along the axes.
struct Box {
  var x, y, width, height: Double
  var maxX: Double { x + width }
  var maxY: Double { y + height }

  init(x: Double, y: Double, width: Double, height: Double) {
    (self.x, self.y, self.width, self.height) = (x, y, width, height)
  }

  /// The square about a circle.
  init(around center: Point, radius: Double) {
    self.init(x: center.x - radius, y: center.y - radius, width: 2 * radius, height: 2 * radius)
  }

  func overlaps(_ other: Box) -> Bool {
    x < other.maxX && other.x < maxX && y < other.maxY && other.y < maxY
  }

  func contains(_ point: Point) -> Bool {
    point.x >= x && point.x <= maxX && point.y >= y && point.y <= maxY
  }

  func contains(_ other: Box) -> Bool {
    other.x >= x && other.maxX <= maxX && other.y >= y && other.maxY <= maxY
  }
}

/// Finds room for labels beside their points: none lies over another, over a point or over a line.
struct LabelLayout {
  /// Beside the circle first, then above and below it, then between.
  private static let angles = [16, 8, 4, 2, 1].flatMap { step in
    stride(from: 0, to: 32, by: step).map { Double($0) * .pi / 16 }
  }

  let bounds: Box
  private var labels: [Box]
  private var circles: [Box] = []
  private var segments: [Segment]

  init(bounds: Box, taken: [Box], segments: [Segment]) {
    self.bounds = bounds
    self.labels = taken
    self.segments = segments
  }

  /// Keeps labels off a circle.
  mutating func reserve(_ center: Point, radius: Double) {
    circles.append(Box(around: center, radius: radius))
  }

  /// The nearest free place around a circle, and the line that leads there where it is not beside the circle; nil
  /// where there is none.
  ///
  /// The line crosses other circles, and then labels too, only where there is no way past them.
  mutating func place(width: Double, height: Double, around center: Point, radius: Double) -> (
    box: Box, leader: Segment?
  )? {
    for obstacles in [labels + circles.filter { !$0.contains(center) }, labels, []] {
      for distance in [3.0, 14] + stride(from: 24, through: 320, by: 8) {
        for angle in LabelLayout.angles {
          let reach = radius + distance
          let anchor = Point(x: center.x + cos(angle) * reach, y: center.y - sin(angle) * reach)
          // The label's nearest side or corner lies at the anchor.
          let box = Box(
            x: anchor.x - width * (1 - cos(angle)) / 2, y: anchor.y - height * (1 + sin(angle)) / 2,
            width: width, height: height)
          let edge = Point(x: center.x + cos(angle) * radius, y: center.y - sin(angle) * radius)
          let leader = distance > 14 ? Segment(a: edge, b: anchor) : nil
          guard isFree(box) else { continue }
          if let leader,
            leader.samples.contains(where: { point in obstacles.contains { $0.contains(point) } })
          {
            continue
          }
          labels.append(box)
          if let leader { segments.append(leader) }
          return (box, leader)
        }
      }
    }
    return nil
  }

  private func isFree(_ box: Box) -> Bool {
    let wide = Box(x: box.x - 2, y: box.y - 1, width: box.width + 4, height: box.height + 2)
    return bounds.contains(wide) && !labels.contains { $0.overlaps(wide) }
      && !circles.contains { $0.overlaps(wide) }
      && !segments.contains { $0.samples.contains { wide.contains($0) } }
  }
}

/// Pieces of SVG text.
enum SVG {
  /// Up to two decimals.
  static func number(_ value: Double) -> String {
    let text = String(format: "%.2f", value)
    guard text.contains(".") else { return text }
    var end = text[...]
    while end.last == "0" { end = end.dropLast() }
    return String(end.last == "." ? end.dropLast() : end)
  }

  static func text(_ text: String, _ x: Double, _ y: Double, _ style: String = "") -> String {
    "<text x=\"\(number(x))\" y=\"\(number(y))\" \(style)>\(escaped(text))</text>"
  }

  /// About, in 12 pixels of the widest usual sans-serif.
  static func width(_ text: String) -> Double {
    text.reduce(0) { width, character in
      switch character {
      case "m", "w", "M", "W", "%": width + 11
      case "i", "j", "l", " ", ".", ",", ":", "/", "(", ")": width + 4.2
      case "f", "r", "t": width + 5
      case _ where character.isUppercase: width + 8.6
      default: width + 7.5
      }
    }
  }

  private static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
      .replacingOccurrences(of: ">", with: "&gt;")
  }
}
