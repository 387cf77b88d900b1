import Foundation

/// A point of the plane.
struct Vector: Hashable, Codable, Sendable {
  var x, y: Double

  static func + (a: Vector, b: Vector) -> Vector { Vector(x: a.x + b.x, y: a.y + b.y) }
  static func - (a: Vector, b: Vector) -> Vector { Vector(x: a.x - b.x, y: a.y - b.y) }
  static func * (a: Vector, s: Double) -> Vector { Vector(x: a.x * s, y: a.y * s) }
  func dot(_ other: Vector) -> Double { x * other.x + y * other.y }
  var squaredLength: Double { dot(self) }
  var length: Double { squaredLength.squareRoot() }
}

/// A finite data set in the plane: what a model would be trained on.
struct PointSet: Sendable {
  let points: [Vector]
  /// Which of the spirals a point belongs to.
  let labels: [Int]
  /// Where along its spiral it lies, 0 at the inner end and 1 at the outer.
  let places: [Double]

  /// Equally likely spirals around one centre, turned against each other, moved and scaled to mean 0 and a mean
  /// squared length of 2, as standard normal numbers have; `count` points each, evenly spaced along the curve.
  static func spirals(_ spirals: Int, count: Int) -> PointSet {
    // r = a + b angle; so finely stepped that the nearest step stands for the place along the curve.
    let (start, turns, steps) = (0.25 * Double.pi, 1.75 * 2 * Double.pi, 20_000)
    let curve = (0...steps).map { step in
      let angle = start + turns * Double(step) / Double(steps)
      return Vector(x: angle * cos(angle), y: angle * sin(angle))
    }
    var lengths = [0.0]
    for (a, b) in zip(curve, curve.dropFirst()) {
      lengths.append(lengths[lengths.count - 1] + (b - a).length)
    }
    let whole = lengths[steps]
    var next = 0
    let arm = (0..<count).map { index in
      let place = (Double(index) + 0.5) / Double(count)
      while lengths[next] < place * whole { next += 1 }
      return (place: place, point: curve[next])
    }
    var set = (points: [Vector](), labels: [Int](), places: [Double]())
    for label in 0..<spirals {
      let turn = 2 * Double.pi * Double(label) / Double(spirals)
      for (place, point) in arm {
        set.points.append(
          Vector(x: cos(turn) * point.x - sin(turn) * point.y, y: sin(turn) * point.x + cos(turn) * point.y))
        set.labels.append(label)
        set.places.append(place)
      }
    }
    let mean = Distances.mean(set.points)
    let scale = 2.0.squareRoot() / Distances.spread(set.points)
    return PointSet(
      points: set.points.map { ($0 - mean) * scale }, labels: set.labels, places: set.places)
  }

  /// The points with this label.
  func labelled(_ label: Int) -> [Vector] { zip(points, labels).filter { $1 == label }.map(\.0) }

  /// The number of the nearest point, and how far it is.
  func nearest(to position: Vector) -> (index: Int, distance: Double) {
    var best = (index: 0, squared: Double.infinity)
    for index in points.indices {
      let squared = (points[index] - position).squaredLength
      if squared < best.squared { best = (index, squared) }
    }
    return (best.index, best.squared.squareRoot())
  }
}
