import Foundation

/// How far samples are from data.
enum Distances {
  /// The mean of some points.
  static func mean(_ points: [Vector]) -> Vector {
    points.reduce(Vector(x: 0, y: 0), +) * (1 / Double(max(points.count, 1)))
  }

  /// The root of the mean squared distance to the centre.
  static func spread(_ points: [Vector]) -> Double { spread(points, around: mean(points)) }

  /// The root of the mean squared distance to a point.
  static func spread(_ points: [Vector], around center: Vector) -> Double {
    (points.reduce(0) { $0 + ($1 - center).squaredLength } / Double(max(points.count, 1))).squareRoot()
  }

  /// The sliced 2-Wasserstein distance (doi:10.1007/s10851-014-0506-3, eq. 4) over fixed, evenly spaced directions,
  /// along each of which it is exact: the difference of the two quantile functions.
  static func slicedWasserstein(_ a: [Vector], _ b: [Vector], directions: Int = 32) -> Double {
    var sum = 0.0
    for index in 0..<directions {
      let angle = Double.pi * (Double(index) + 0.5) / Double(directions)
      let direction = Vector(x: cos(angle), y: sin(angle))
      sum += squaredWasserstein(a.map(direction.dot).sorted(), b.map(direction.dot).sorted())
    }
    return (sum / Double(directions)).squareRoot()
  }

  /// Of two sorted lists, each of whose numbers is equally likely.
  static func squaredWasserstein(_ a: [Double], _ b: [Double]) -> Double {
    // Both quantile functions are steps: between two ends of steps neither changes.
    var (i, j, from, sum) = (0, 0, 0.0, 0.0)
    while i < a.count, j < b.count {
      let (endA, endB) = (Double(i + 1) / Double(a.count), Double(j + 1) / Double(b.count))
      let to = min(endA, endB)
      sum += (to - from) * (a[i] - b[j]) * (a[i] - b[j])
      // In whole numbers, which see that two ends are one.
      let (left, right) = ((i + 1) * b.count, (j + 1) * a.count)
      if left <= right { i += 1 }
      if right <= left { j += 1 }
      from = to
    }
    return sum
  }

  /// The mean distance from a sample to the nearest data point.
  static func toNearest(_ samples: [Vector], in data: PointSet) -> Double {
    samples.reduce(0) { $0 + data.nearest(to: $1).distance } / Double(max(samples.count, 1))
  }

  /// Of `pieces` equal pieces of a curve, how many the places (0...1) are spread over, as a share: the exponential
  /// of their entropy. 1 where every piece has as many, 1 / pieces where one has all.
  static func evenness(_ places: [Double], pieces: Int = 24) -> Double {
    guard !places.isEmpty else { return 0 }
    var counts = [Int](repeating: 0, count: pieces)
    for place in places { counts[min(pieces - 1, max(0, Int(place * Double(pieces))))] += 1 }
    let entropy = counts.filter { $0 > 0 }.reduce(0.0) {
      let share = Double($1) / Double(places.count)
      return $0 - share * log(share)
    }
    return exp(entropy) / Double(pieces)
  }
}
