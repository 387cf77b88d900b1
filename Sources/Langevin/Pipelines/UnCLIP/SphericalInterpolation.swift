import Foundation

/// The vector at `position`, 0 for a to 1 for b, of the arc between two vectors: DALL-E 2's interpolations,
/// arXiv:2204.06125, section 3.2. Of vectors of different lengths, the length changes along the way too.
///
/// Where they point the same way or opposite ways there is no such arc, and the straight line is taken.
func sphericalInterpolation(_ a: [Float], _ b: [Float], at position: Double) -> [Float] {
  precondition(a.count == b.count)
  func dot(_ x: [Float], _ y: [Float]) -> Double { zip(x, y).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
  let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
  let angle = acos(min(max(cosine, -1), 1))
  var (left, right) = (1 - position, position)
  if sin(angle) > 1e-6 {
    (left, right) = (sin(left * angle) / sin(angle), sin(right * angle) / sin(angle))
  }
  return zip(a, b).map { Float(left * Double($0) + right * Double($1)) }
}
