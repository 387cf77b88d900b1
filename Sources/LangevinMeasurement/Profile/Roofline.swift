import Foundation
import LangevinTensor

/// The roofline (doi:10.1145/1498765.1498785): what each operation reaches against its arithmetic intensity, under
/// the two ceilings of the device, as a self-contained SVG picture.
public struct Roofline: Sendable {
  private let title: String
  private let subtitle: String
  private let ceilings: Ceilings
  /// Those with arithmetic, the longest first.
  private let points: [Profile.Row]
  /// Those without: a logarithmic axis has no place for them.
  private let moves: [Profile.Row]
  private let axes: Axes

  /// Below this share an operation is drawn without its name.
  private static let namedShare = 0.002
  private static let plot = Box(x: 84, y: 66, width: 660, height: 520)
  private static let size = (width: 1010.0, height: 660.0)
  private static let fontSize = 12.0

  /// A picture of a profile's operations; `subtitle` says of what run.
  public init(_ profile: Profile, subtitle: String = "") {
    title = "Roofline of \(profile.device)"
    self.subtitle = subtitle
    ceilings = profile.ceilings
    points = profile.operations.filter { $0.work.flops > 0 && $0.seconds > 0 && $0.work.bytes > 0 }
    moves = profile.operations.filter { $0.work.flops == 0 && $0.seconds > 0 }
    let ridge = profile.ceilings.flops / profile.ceilings.bandwidth
    var intensities = points.map { $0.work.intensity }
    intensities += [ridge / 8, ridge * 4]
    var speeds = points.map { $0.flopsPerSecond }
    speeds += [profile.ceilings.flops * 1.3, profile.ceilings.bandwidth / 8]
    axes = Axes(x: intensities, y: speeds, in: Roofline.plot)
  }

  /// The drawing as SVG text.
  public var svg: String {
    let size = Roofline.size
    var lines = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(Int(size.width))\" height=\"\(Int(size.height))\" "
        + "viewBox=\"0 0 \(Int(size.width)) \(Int(size.height))\" "
        + "font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"12\">",
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
      SVG.text(title, Roofline.plot.x, 28, "font-size=\"18\" font-weight=\"bold\""),
      SVG.text(subtitle, Roofline.plot.x, 48, "fill=\"#555\""),
    ]
    lines += axes.lines
    let (roof, taken, segments) = roofLines
    lines += roof
    lines += pointLines(taken, segments)
    lines += legendLines
    return (lines + ["</svg>", ""]).joined(separator: "\n")
  }

  // MARK: The roof

  /// The two ceilings with their names, the space that the names take, and the lines.
  private var roofLines: ([String], [Box], [Segment]) {
    let ridge = ceilings.flops / ceilings.bandwidth
    let corner = axes.place(ridge, ceilings.flops)
    let right = Point(x: Roofline.plot.maxX, y: corner.y)
    // The diagonal begins where it enters the plot: at the left or at the bottom.
    let start = axes.place(max(axes.lowX, axes.lowY / ceilings.bandwidth), 0)
    let low = Point(x: start.x, y: axes.place(1, ceilings.bandwidth * axes.valueX(start.x)).y)
    var taken: [Box] = []
    let flops = "arithmetic: \(Units.flops(ceilings.flops))"
    let width = SVG.width(flops)
    let label = Box(x: right.x - width - 8, y: corner.y - 22, width: width, height: 17)
    taken.append(label)
    let bandwidth = "memory: \(Units.rate(ceilings.bandwidth))"
    let angle = atan2(corner.y - low.y, corner.x - low.x)
    func at(_ distance: Double, _ offset: Double) -> Point {
      Point(
        x: low.x + cos(angle) * distance + sin(angle) * offset,
        y: low.y + sin(angle) * distance - cos(angle) * offset)
    }
    /// What the name covers when it begins so far up the diagonal, on its upper side.
    func covered(_ along: Double) -> [Box] {
      (0...12).map { step in
        let center = at(along + SVG.width(bandwidth) * Double(step) / 12, 12)
        return Box(x: center.x - 8, y: center.y - 8, width: 16, height: 16)
      }
    }
    let room = hypot(corner.x - low.x, corner.y - low.y) - SVG.width(bandwidth) - 20
    let starts = stride(from: 0.3, through: 1.0, by: 0.05).map { max(10, room * $0) } + [10]
    let circles = self.circles.map { Box(around: $0.center, radius: $0.radius + 2) }
    let along =
      starts.first { start in
        !covered(start).contains { box in circles.contains { $0.overlaps(box) } }
      } ?? starts[0]
    let base = at(along, 7)
    taken += covered(along)
    let style = "fill=\"none\" stroke=\"#222\" stroke-width=\"2\""
    let degrees = SVG.number(angle * 180 / .pi)
    let lines = [
      "<polyline points=\"\(low.text) \(corner.text) \(right.text)\" \(style)/>",
      SVG.text(flops, label.x, corner.y - 8, "fill=\"#222\""),
      SVG.text(
        bandwidth, base.x, base.y,
        "fill=\"#222\" transform=\"rotate(\(degrees) \(SVG.number(base.x)) \(SVG.number(base.y)))\""),
    ]
    return (lines, taken, [Segment(a: low, b: corner), Segment(a: corner, b: right)])
  }

  // MARK: The operations

  /// The points in the picture.
  private var circles: [(row: Profile.Row, center: Point, radius: Double)] {
    points.map { row in
      (row, axes.place(row.work.intensity, row.flopsPerSecond), Roofline.radius(row.share))
    }
  }

  private func pointLines(_ reserved: [Box], _ roof: [Segment]) -> [String] {
    var layout = LabelLayout(bounds: Roofline.plot, taken: reserved, segments: roof)
    let circles = circles
    for circle in circles { layout.reserve(circle.center, radius: circle.radius) }
    var lines = circles.map { circle in
      let color = Roofline.color(circle.row.family)
      return "<circle cx=\"\(SVG.number(circle.center.x))\" cy=\"\(SVG.number(circle.center.y))\" "
        + "r=\"\(SVG.number(circle.radius))\" fill=\"\(color)\" fill-opacity=\"0.55\" stroke=\"\(color)\"/>"
    }
    var names: [String] = []
    for circle in circles where circle.row.share >= Roofline.namedShare {
      let text = circle.row.name
      let place = layout.place(
        width: SVG.width(text), height: 15, around: circle.center, radius: circle.radius)
      guard let place else { continue }
      if let leader = place.leader {
        lines.append(
          "<polyline points=\"\(leader.a.text) \(leader.b.text)\" stroke=\"#888\" stroke-width=\"0.8\"/>")
      }
      names.append(
        SVG.text(
          text, place.box.x + place.box.width / 2, place.box.y + 12, "fill=\"#111\" text-anchor=\"middle\""))
    }
    return lines + names
  }

  /// Area in proportion to the share of time.
  private static func radius(_ share: Double) -> Double { 3 + 26 * share.squareRoot() }

  private static func color(_ family: OperationFamily?) -> String {
    switch family {
    case .products: "#1f77b4"
    case .attention: "#d62728"
    case .norms: "#2ca02c"
    case .elements: "#9467bd"
    case .movement, nil: "#7f7f7f"
    }
  }

  // MARK: The legend

  private var legendLines: [String] {
    let x = Roofline.plot.maxX + 24
    var y = Roofline.plot.y + 10
    var lines: [String] = []
    func heading(_ text: String) {
      lines.append(SVG.text(text, x, y, "font-weight=\"bold\""))
      y += 20
    }
    heading("kind of operation")
    let used = OperationFamily.allCases.filter { family in points.contains { $0.family == family } }
    for family in used {
      let color = Roofline.color(family)
      lines.append(
        "<circle cx=\"\(x + 8)\" cy=\"\(y - 4)\" r=\"6\" fill=\"\(color)\" fill-opacity=\"0.55\" stroke=\"\(color)\"/>"
      )
      lines.append(SVG.text(family.rawValue, x + 24, y))
      y += 19
    }
    y += 14
    heading("share of the time")
    for share in [0.5, 0.1, 0.01] {
      let radius = Roofline.radius(share)
      y += max(radius - 8, 0)
      lines.append(
        "<circle cx=\"\(x + 24)\" cy=\"\(SVG.number(y - 4))\" r=\"\(SVG.number(radius))\" fill=\"#ddd\" stroke=\"#777\"/>"
      )
      lines.append(SVG.text("\(Int(share * 100)) %", x + 56, y))
      y += max(radius - 8, 0) + 22
    }
    lines.append(SVG.text("no name: under \(SVG.number(Roofline.namedShare * 100)) %", x, y, "fill=\"#555\""))
    y += 32
    guard !moves.isEmpty else { return lines }
    heading("without arithmetic")
    for row in moves.prefix(8) {
      lines.append(SVG.text(row.name, x, y))
      let figures = "\(Units.percent(row.share)), \(Units.number(row.bytesPerSecond * 1e-9)) GB/s"
      y += 15
      lines.append(SVG.text(figures, x + 12, y, "fill=\"#555\" font-size=\"11\""))
      y += 18
    }
    return lines
  }
}

/// The drawing's two logarithmic axes.
private struct Axes {
  let lowX, highX, lowY, highY: Double
  let plot: Box

  /// Wide enough for these values with a little room.
  init(x: [Double], y: [Double], in plot: Box) {
    self.plot = plot
    func range(_ values: [Double]) -> (Double, Double) {
      let usable = values.filter { $0 > 0 && $0.isFinite }
      return ((usable.min() ?? 1) / 1.8, (usable.max() ?? 10) * 1.8)
    }
    (lowX, highX) = range(x)
    (lowY, highY) = range(y)
  }

  func place(_ x: Double, _ y: Double) -> Point {
    Point(
      x: plot.x + plot.width * log(max(x, lowX) / lowX) / log(highX / lowX),
      y: plot.maxY - plot.height * log(max(y, lowY) / lowY) / log(highY / lowY))
  }

  /// The value at a place on the horizontal axis.
  func valueX(_ x: Double) -> Double { lowX * pow(highX / lowX, (x - plot.x) / plot.width) }

  /// Grid, ticks and titles.
  var lines: [String] {
    var lines: [String] = []
    for tick in ticks(lowX, highX) {
      let x = SVG.number(place(tick.value, lowY).x)
      lines.append(
        "<line x1=\"\(x)\" y1=\"\(plot.y)\" x2=\"\(x)\" y2=\"\(plot.maxY)\" stroke=\"\(tick.isMajor ? "#ccc" : "#eee")\"/>"
      )
      if tick.isNamed {
        lines.append(
          SVG.text(
            SVG.number(tick.value), place(tick.value, lowY).x, plot.maxY + 18, "text-anchor=\"middle\""))
      }
    }
    for tick in ticks(lowY, highY) {
      let y = place(lowX, tick.value).y
      lines.append(
        "<line x1=\"\(plot.x)\" y1=\"\(SVG.number(y))\" x2=\"\(plot.maxX)\" y2=\"\(SVG.number(y))\" "
          + "stroke=\"\(tick.isMajor ? "#ccc" : "#eee")\"/>")
      if tick.isNamed {
        lines.append(SVG.text(SVG.number(tick.value * 1e-9), plot.x - 8, y + 4, "text-anchor=\"end\""))
      }
    }
    let middle = SVG.number(plot.y + plot.height / 2)
    return lines + [
      "<rect x=\"\(plot.x)\" y=\"\(plot.y)\" width=\"\(plot.width)\" height=\"\(plot.height)\" fill=\"none\" stroke=\"#444\"/>",
      SVG.text(
        "arithmetic intensity, FLOP/B (log)", plot.x + plot.width / 2, plot.maxY + 44,
        "text-anchor=\"middle\""),
      SVG.text(
        "GFLOP/s (log)", 24, plot.y + plot.height / 2,
        "text-anchor=\"middle\" transform=\"rotate(-90 24 \(middle))\""),
    ]
  }

  private struct Tick {
    var value: Double
    var isMajor: Bool
    var isNamed: Bool
  }

  /// 1 to 9 times each power of ten; named are the powers, on short axes also 2 and 5.
  private func ticks(_ low: Double, _ high: Double) -> [Tick] {
    let decades = log10(high / low)
    let exponents = Int(log10(low).rounded(.down))...Int(log10(high).rounded(.up))
    var ticks: [Tick] = []
    for exponent in exponents {
      for digit in 1...9 {
        let value = Double(digit) * pow(10, Double(exponent))
        guard value >= low, value <= high else { continue }
        let isBetween = decades < 3 && (digit == 2 || digit == 5)
        ticks.append(Tick(value: value, isMajor: digit == 1, isNamed: digit == 1 || isBetween))
      }
    }
    return ticks
  }
}
