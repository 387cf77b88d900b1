import LangevinTensor

/// Heun's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn. Along a flow it is the same in the
/// flow's own time. A step to no noise is Euler's. So is a step from noise alone (zero terminal SNR), where the mean
/// of the slopes would multiply the second guess by hundreds.
public func heun(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, progress: Progress? = nil
) throws -> Tensor {
  var x = x
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let (from, to) = (step.from, step.to)
      let start = x
      let denoised = try stage("denoise") { try denoiser.denoised(start, at: from) }
      let carry = to.sigma / from.sigma
      let gain = to.alpha - carry * from.alpha
      let euler = try stage("update") {
        try Tensor.combination([(Float(carry), start), (Float(gain), denoised)])
      }
      let isFromNoiseAlone = schedule.path == .variancePreserving && from.alpha < 1e-3
      if to.sigma > 0 && !isFromNoiseAlone {
        let again = try stage("denoise") { try denoiser.denoised(euler, at: to) }
        // The mean of the two slopes; each is (x - unit * denoised) / sigma.
        let (first, second) = (schedule.path.unit(from), schedule.path.unit(to))
        let half = second * (from.sigma / first - to.sigma / second) / 2
        x = try stage("update") {
          try Tensor.combination([
            (Float(carry), start), (Float(half * (first / from.sigma - gain / to.sigma)), denoised),
            (Float(half * second / to.sigma), again),
          ])
        }
      } else {
        x = euler
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}

/// The linear multistep method of up to fourth order on the probability flow: Adams-Bashforth over uneven steps;
/// k-diffusion's `sample_lms`, diffusers' LMSDiscreteScheduler.
///
/// The order grows from 1 with the number of slopes known. (Diffusers', begun in the middle of a schedule, takes the
/// weights of slopes that it does not have.)
public func lms(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, progress: Progress? = nil
) throws -> Tensor {
  var x = x
  /// Earlier slopes with their times, the newest first.
  var slopes: [(time: Double, slope: Tensor)] = []
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let (from, to) = (step.from, step.to)
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: from) }
      let (unit, next) = (schedule.path.unit(from), schedule.path.unit(to))
      x = try stage("update") {
        let slope = try Tensor.combination([
          (Float(1 / from.sigma), x), (Float(-unit / from.sigma), denoised),
        ])
        slopes = Array(([(from.sigma / unit, slope)] + slopes).prefix(4))
        let weights = adamsBashforth(slopes.map(\.time), to: to.sigma / next)
        // Euler's step, and how the older slopes differ from the newest.
        let carry = to.sigma / from.sigma
        let older = weights.dropFirst().reduce(0, +)
        return try Tensor.combination(
          [
            (Float(carry), x), (Float(to.alpha - carry * from.alpha), denoised),
            (Float(-next * older), slope),
          ] + zip(weights, slopes).dropFirst().map { (Float(next * $0), $1.slope) })
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
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
