import LangevinTensor

/// Heun's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn. Along a flow it is the same in the
/// flow's own time. A step to no noise is Euler's. So is a step from noise alone (zero terminal SNR), where the mean
/// of the slopes would multiply the second guess by hundreds.
public struct HeunSampler: Sampler {
  /// How guesses are limited.
  public var limit: Limit?

  /// Heun's method.
  public init(limit: Limit? = nil) { self.limit = limit }

  /// Two calls of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to, path) = (step.from, step.to, step.schedule.path)
    let denoised = try step.denoised(x)
    let euler = try step.euler(x, denoised, to: to)
    let isFromNoiseAlone = path == .variancePreserving && from.alpha < 1e-3
    guard to.sigma > 0 && !isFromNoiseAlone else { return euler }
    let again = try step.denoised(euler, at: to)
    // The mean of the two slopes; each is (x - unit * denoised) / sigma.
    let carry = to.sigma / from.sigma
    let gain = to.alpha - carry * from.alpha
    let (first, second) = (path.unit(from), path.unit(to))
    let half = second * (from.sigma / first - to.sigma / second) / 2
    return try step.combination([
      (carry, x), (half * (first / from.sigma - gain / to.sigma), denoised),
      (half * second / to.sigma, again),
    ])
  }
}

/// The linear multistep method of up to fourth order on the probability flow: Adams-Bashforth over uneven steps;
/// k-diffusion's `sample_lms`, diffusers' LMSDiscreteScheduler.
///
/// The order grows from 1 with the number of slopes known. (Diffusers', begun in the middle of a schedule, takes the
/// weights of slopes that it does not have.)
public struct LMSSampler: Sampler {
  /// Earlier slopes with their times, the newest first.
  private var slopes: [(time: Double, slope: Tensor)] = []

  /// The linear multistep method.
  public init() {}

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to) = (step.from, step.to)
    let denoised = try step.denoised(x)
    let (unit, next) = (step.schedule.path.unit(from), step.schedule.path.unit(to))
    let slope = try step.combination([(1 / from.sigma, x), (-unit / from.sigma, denoised)])
    slopes = Array(([(from.sigma / unit, slope)] + slopes).prefix(4))
    let weights = adamsBashforth(slopes.map(\.time), to: to.sigma / next)
    // Euler's step, and how the older slopes differ from the newest.
    let carry = to.sigma / from.sigma
    let older = weights.dropFirst().reduce(0, +)
    return try step.combination(
      [(carry, x), (to.alpha - carry * from.alpha, denoised), (-next * older, slope)]
        + zip(weights, slopes).dropFirst().map { (next * $0, $1.slope) })
  }
}

/// The integrals, from the first of `times` to `end`, of the polynomials that are 1 at one of the times and 0 at the
/// others. They are cubic at most, for which Gauss' two points are exact.
private func adamsBashforth(_ times: [Double], to end: Double) -> [Double] {
  let (middle, half) = ((times[0] + end) / 2, (end - times[0]) / 2)
  let points = [middle - half / 3.0.squareRoot(), middle + half / 3.0.squareRoot()]
  return times.indices.map { own in
    let values = points.map { point in
      times.indices.filter { $0 != own }.reduce(1.0) { product, other in
        product * (point - times[other]) / (times[own] - times[other])
      }
    }
    return half * values.reduce(0, +)
  }
}
