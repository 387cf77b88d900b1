import Foundation

/// A colour that differs from the others for every kind of sight (doi:10.1038/nmeth.1618).
enum Color: String {
  case blue = "#0072b2"
  case vermilion = "#d55e00"
  case green = "#009e73"
  case purple = "#aa4499"
  case grey = "#8a8a8a"
  case faint = "#c4c4c4"
  case ink = "#222222"
}

/// An SVG picture that is put together from parts.
struct Drawing {
  let width, height: Double
  private var elements: [String] = []

  init(width: Double, height: Double) { (self.width, self.height) = (width, height) }

  mutating func add(_ panel: Panel) { elements += panel.elements }
  mutating func add(_ element: String) { elements.append(element) }

  mutating func text(_ text: String, x: Double, y: Double, _ style: String = "") {
    elements.append(Drawing.text(text, x, y, style))
  }

  /// Samples of colours with their names, in a row that begins at x.
  mutating func legend(_ entries: [(name: String, color: Color, dashes: Bool)], x: Double, y: Double) {
    var x = x
    for entry in entries {
      let dashes = entry.dashes ? " stroke-dasharray=\"6 4\"" : ""
      elements.append(
        "<path d=\"M\(Drawing.number(x)) \(Drawing.number(y - 4))h26\" stroke=\"\(entry.color.rawValue)\" "
          + "stroke-width=\"3\"\(dashes)/>")
      elements.append(Drawing.text(entry.name, x + 32, y))
      x += 32 + 7.4 * Double(entry.name.count) + 26
    }
  }

  var svg: String {
    let (w, h) = (Drawing.number(width), Drawing.number(height))
    return
      ([
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(w)\" height=\"\(h)\" viewBox=\"0 0 \(w) \(h)\" "
          + "font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"13\">",
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
      ] + elements + ["</svg>"]).joined(separator: "\n")
  }

  static func text(_ text: String, _ x: Double, _ y: Double, _ style: String = "") -> String {
    "<text x=\"\(number(x))\" y=\"\(number(y))\" fill=\"\(Color.ink.rawValue)\" \(style)>\(escaped(text))</text>"
  }

  /// One decimal: a tenth of a pixel.
  static func number(_ value: Double) -> String {
    let text = String(format: "%.1f", value)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
      .replacingOccurrences(of: ">", with: "&gt;")
  }
}

/// An axis of a panel.
struct Axis {
  var range: ClosedRange<Double>
  var isLogarithmic = false
  var ticks: [Double]
  var title = ""

  /// 0...1 within the range.
  func place(_ value: Double) -> Double {
    let (low, high) = (range.lowerBound, range.upperBound)
    if isLogarithmic { return log(max(value, low) / low) / log(high / low) }
    return (value - low) / (high - low)
  }

  static func label(_ value: Double) -> String { String(format: "%g", value) }

  /// The plane in which the data lie.
  static let plane = Axis(range: -2.9...2.9, ticks: [-2, 0, 2])
}

/// A rectangle with axes in which data are drawn.
struct Panel {
  let x, y, width, height: Double
  let horizontal, vertical: Axis
  private var marks: [String] = []
  private let title: String
  private let labelsX, labelsY: Bool

  /// x and y are those of the rectangle within the axes.
  init(
    _ title: String, x: Double, y: Double, width: Double, height: Double, horizontal: Axis = .plane,
    vertical: Axis = .plane, labelsX: Bool = true, labelsY: Bool = true
  ) {
    (self.title, self.x, self.y, self.width, self.height) = (title, x, y, width, height)
    (self.horizontal, self.vertical, self.labelsX, self.labelsY) = (horizontal, vertical, labelsX, labelsY)
  }

  private func place(_ point: Vector) -> Vector {
    Vector(
      x: x + width * horizontal.place(point.x), y: y + height * (1 - vertical.place(point.y)))
  }

  private func text(_ point: Vector) -> String {
    let place = place(point)
    return "\(Drawing.number(place.x)) \(Drawing.number(place.y))"
  }

  private func contains(_ point: Vector) -> Bool {
    (0...1).contains(horizontal.place(point.x)) && (0...1).contains(vertical.place(point.y))
  }

  /// Dots, as one path of lines without length.
  mutating func dots(_ points: [Vector], _ color: Color, radius: Double = 1.6, opacity: Double = 0.7) {
    let path = points.filter(contains).map { "M\(text($0))h0" }.joined()
    marks.append(
      "<path d=\"\(path)\" stroke=\"\(color.rawValue)\" stroke-width=\"\(Drawing.number(2 * radius))\" "
        + "stroke-linecap=\"round\" stroke-opacity=\"\(opacity)\"/>")
  }

  mutating func line(
    _ points: [Vector], _ color: Color, width: Double = 1.5, dashes: Bool = false, opacity: Double = 1
  ) {
    guard points.count > 1 else { return }
    let path = "M" + points.map(text).joined(separator: "L")
    marks.append(
      "<path d=\"\(path)\" fill=\"none\" stroke=\"\(color.rawValue)\" stroke-width=\"\(Drawing.number(width))\" "
        + "stroke-linejoin=\"round\" stroke-opacity=\"\(opacity)\""
        + (dashes ? " stroke-dasharray=\"6 4\"/>" : "/>"))
  }

  /// A line with its points marked.
  mutating func series(_ series: Series, _ color: Color, dashes: Bool = false) {
    let points = zip(series.x, series.y).map { Vector(x: $0, y: $1) }
    line(points, color, width: 2, dashes: dashes)
    if !dashes { dots(points, color, radius: 3.5, opacity: 1) }
  }

  /// An arrow of `length` pixels.
  mutating func arrow(at point: Vector, along direction: Vector, length: Double, _ color: Color) {
    guard direction.length > 0, length > 1 else { return }
    let start = place(point)
    // Down is positive in the picture.
    let unit = Vector(x: direction.x, y: -direction.y) * (1 / direction.length)
    let end = start + unit * length
    let side = Vector(x: -unit.y, y: unit.x)
    func at(_ v: Vector) -> String { "\(Drawing.number(v.x)) \(Drawing.number(v.y))" }
    let head = min(4, length * 0.5)
    let (left, right) = (end - unit * head + side * (head * 0.6), end - unit * head - side * (head * 0.6))
    marks.append(
      "<path d=\"M\(at(start))L\(at(end))M\(at(left))L\(at(end))L\(at(right))\" fill=\"none\" "
        + "stroke=\"\(color.rawValue)\" stroke-width=\"1\"/>")
  }

  /// Clipped to the rectangle, with axes, ticks and titles around it.
  var elements: [String] {
    func n(_ value: Double) -> String { Drawing.number(value) }
    let box = "x=\"\(n(x))\" y=\"\(n(y))\" width=\"\(n(width))\" height=\"\(n(height))\""
    var result: [String] = []
    for tick in horizontal.ticks {
      let place = x + width * horizontal.place(tick)
      result.append("<path d=\"M\(n(place)) \(n(y))v\(n(height))\" stroke=\"#e8e8e8\"/>")
      if labelsX {
        result.append(
          Drawing.text(Axis.label(tick), place, y + height + 17, "text-anchor=\"middle\" font-size=\"12\""))
      }
    }
    for tick in vertical.ticks {
      let place = y + height * (1 - vertical.place(tick))
      result.append("<path d=\"M\(n(x)) \(n(place))h\(n(width))\" stroke=\"#e8e8e8\"/>")
      if labelsY {
        result.append(
          Drawing.text(Axis.label(tick), x - 7, place + 4, "text-anchor=\"end\" font-size=\"12\""))
      }
    }
    // A picture within the picture clips, without a name that another figure of the page could have too.
    result.append("<svg \(box) viewBox=\"\(n(x)) \(n(y)) \(n(width)) \(n(height))\">")
    result += marks
    result.append("</svg><rect \(box) fill=\"none\" stroke=\"#555\"/>")
    result.append(Drawing.text(title, x + width / 2, y - 9, "text-anchor=\"middle\""))
    if !horizontal.title.isEmpty {
      result.append(Drawing.text(horizontal.title, x + width / 2, y + height + 37, "text-anchor=\"middle\""))
    }
    if !vertical.title.isEmpty {
      let (place, middle) = (x - 58, y + height / 2)
      result.append(
        Drawing.text(
          vertical.title, place, middle,
          "text-anchor=\"middle\" transform=\"rotate(-90 \(n(place)) \(n(middle)))\""))
    }
    return result
  }
}
