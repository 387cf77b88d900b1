import Foundation
import LangevinTensor

/// DPM-Solver++(2M): arXiv:2211.01095, algorithm 2.
///
/// The first step, and a step to no noise at all, are of first order; so is the last with `firstOrderLast`.
public func dpmpp2M(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, firstOrderLast: Bool = false,
  progress: Progress? = nil
) throws -> Tensor {
  var x = x
  var previous: (denoised: Tensor, logSNR: Double)?
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: step.from) }
      let (from, to) = (step.from, step.to)
      let carry = to.sigma / from.sigma
      let gain = to.alpha - carry * from.alpha
      // Minus infinity from pure noise, infinity at no noise.
      let lambda = from.logSNR
      let h = to.logSNR - lambda
      let last = index == schedule.steps.count - 1
      var terms = [(Float(carry), x), (Float(gain), denoised)]
      if let previous, h.isFinite, !(last && firstOrderLast) {
        let weight = h / (2 * (lambda - previous.logSNR))
        terms = [
          (Float(carry), x), (Float(gain * (1 + weight)), denoised),
          (Float(-gain * weight), previous.denoised),
        ]
      }
      x = try stage("update") { try Tensor.combination(terms) }
      previous = lambda.isFinite ? (denoised, lambda) : nil
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}

/// DPM-Solver++(2M) as a stochastic differential equation: arXiv:2211.01095, section 5 and appendix B.2; diffusers'
/// `sde-dpmsolver++` with its midpoint solver.
///
/// The first step, and a step to no noise at all, are of first order; so is the last with `firstOrderLast`.
public func dpmpp2MSDE(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, firstOrderLast: Bool = false,
  noise: inout NoiseSource, progress: Progress? = nil
) throws -> Tensor {
  var x = x
  var previous: (denoised: Tensor, logSNR: Double)?
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: step.from) }
      let (from, to) = (step.from, step.to)
      let h = to.logSNR - from.logSNR
      let decay = exp(-h)
      let gain = -to.alpha * expm1(-2 * h)
      let spread = to.sigma * (-expm1(-2 * h)).squareRoot()
      let last = index == schedule.steps.count - 1
      var terms = [(Float(to.sigma / from.sigma * decay), x)]
      if let previous, h.isFinite, !(last && firstOrderLast) {
        let weight = h / (2 * (from.logSNR - previous.logSNR))
        terms += [(Float(gain * (1 + weight)), denoised), (Float(-gain * weight), previous.denoised)]
      } else {
        terms.append((Float(gain), denoised))
      }
      x = try stage("update") {
        if spread > 0 {
          let fresh = try noise.normal(x.shape, for: .step(schedule.skipped + index))
          terms.append((Float(spread), fresh))
        }
        return try Tensor.combination(terms)
      }
      previous = from.logSNR.isFinite ? (denoised, from.logSNR) : nil
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}

/// DPM-Solver++ as a stochastic differential equation in two stages a step, of which the first ends at
/// `Schedule.Step.middle`: k-diffusion's `sample_dpmpp_sde` with eta 1 and r 1/2, diffusers' DPMSolverSDEScheduler.
/// A step without a middle, and one to no noise, is Euler's.
///
/// The two stages' noises are increments of one Brownian motion over sigma / alpha, as the reference draws them from a
/// tree of its own (torchsde), whose numbers are not repeated here: the same process from another source.
public func dpmppSDE(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, noise: inout NoiseSource,
  progress: Progress? = nil
) throws -> Tensor {
  /// Down to less noise than wanted, x and the denoised latent's factors, and the fresh noise's up to it.
  func ancestral(_ from: NoiseLevel, _ to: NoiseLevel) -> (x: Double, denoised: Double, noise: Double) {
    let (s, wanted) = (from.noiseToSignal, to.noiseToSignal)
    let up = min(wanted, wanted * max(0, 1 - wanted / s * (wanted / s)).squareRoot())
    let down = max(0, wanted * wanted - up * up).squareRoot()
    return (to.alpha * down / from.sigma, to.alpha * (1 - down / s), to.alpha * up)
  }
  var x = x
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let (from, to) = (step.from, step.to)
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: from) }
      if let middle = step.middle, to.sigma > 0 {
        let number = schedule.skipped + index
        let (start, half) = (x, ancestral(from, middle))
        let first = try noise.normal(x.shape, for: .middle(number))
        let between = try stage("update") {
          try Tensor.combination([
            (Float(half.x), start), (Float(half.denoised), denoised), (Float(half.noise), first),
          ])
        }
        let corrected = try stage("denoise") { try denoiser.denoised(between, at: middle) }
        let second = try noise.normal(x.shape, for: .step(number))
        let whole = ancestral(from, to)
        // Over the whole step the motion is what it was over the first half and what is new since.
        let (s, m, end) = (from.noiseToSignal, middle.noiseToSignal, to.noiseToSignal)
        let (old, new) = (((s - m) / (s - end)).squareRoot(), ((m - end) / (s - end)).squareRoot())
        x = try stage("update") {
          try Tensor.combination([
            (Float(whole.x), start), (Float(whole.denoised), corrected), (Float(whole.noise * old), first),
            (Float(whole.noise * new), second),
          ])
        }
      } else {
        let carry = to.sigma / from.sigma
        x = try stage("update") {
          try Tensor.combination([(Float(carry), x), (Float(to.alpha - carry * from.alpha), denoised)])
        }
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}
