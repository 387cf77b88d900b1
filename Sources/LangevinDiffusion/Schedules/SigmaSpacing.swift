import Foundation

extension NoiseSchedule.SigmaSpacing {
  /// `count` sigmas, the first `high`, the last `low`.
  func sigmas(from high: Double, to low: Double, count: Int) -> [Double] {
    switch self {
    case .karras:
      let rho = 7.0
      let (first, last) = (pow(high, 1 / rho), pow(low, 1 / rho))
      return linspace(0, 1, count).map { pow(first + $0 * (last - first), rho) }
    case .exponential:
      return linspace(log(high), log(low), count).map { exp($0) }
    case .beta:
      return linspace(0, 1, count).map { low + betaQuantile(1 - $0, 0.6) * (high - low) }
    }
  }
}

/// Evenly spaced, in numpy.linspace's arithmetic.
func linspace(_ start: Double, _ end: Double, _ count: Int) -> [Double] {
  guard count > 1 else { return [start] }
  let step = (end - start) / Double(count - 1)
  return (0..<count).map { $0 == count - 1 ? end : Double($0) * step + start }
}

/// Where the beta distribution with both parameters `a` has accumulated `probability`.
private func betaQuantile(_ probability: Double, _ a: Double) -> Double {
  // It is symmetric, and the series below is for its lower half.
  if probability > 0.5 { return 1 - betaQuantile(1 - probability, a) }
  let target = probability * 2 * lowerBeta(0.5, a)
  var (low, high) = (0.0, 0.5)
  while true {
    let middle = (low + high) / 2
    if middle <= low || middle >= high { return middle }
    if lowerBeta(middle, a) < target { low = middle } else { high = middle }
  }
}

/// The integral of (t (1 - t))^(a - 1) over 0...x for x up to 1/2: x^a times the sum over n of
/// (1 - a)(2 - a)...(n - a) / n! x^n / (a + n). Abramowitz and Stegun, 6.6.8 and 15.1.1.
private func lowerBeta(_ x: Double, _ a: Double) -> Double {
  var (sum, term, n) = (0.0, 1.0, 0.0)
  while term > 1e-18 {
    sum += term / (a + n)
    n += 1
    term *= (n - a) / n * x
  }
  return pow(x, a) * sum
}
