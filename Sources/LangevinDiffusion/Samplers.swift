import Foundation
import LangevinTensor

/// Called after each step with the number of steps done, how many there are and the latent so far; sampling
/// stops with what it throws.
public typealias Progress = (_ step: Int, _ count: Int, _ latent: Tensor) throws -> Void

// Every sampler below is a function over a schedule and keeps what it remembers in local variables. Latents
// are float32 [N, ..., C]; coefficients are computed in double precision; a step is one pass over the latent.
// Each throws what the denoiser, the noise, the device or `progress` throws.

/// DDPM: ancestral sampling of the training's Markov chain. arXiv:2006.11239, algorithm 2.
///
/// `variance` `.small` is the posterior's (beta tilde), `.large` the chain's own (beta).
public func ddpm(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule,
  variance: NoiseSchedule.Variance = .small,
  noise: inout NoiseSource, progress: Progress? = nil
) throws -> Tensor {
  try ancestral(
    denoiser, from: x, along: schedule, eta: 1, variance: variance, noise: &noise, progress: progress)
}

/// DDIM: arXiv:2010.02502, eq. 12; `eta` 0 is deterministic, 1 is DDPM (eq. 16).
///
/// With `clip`, the denoised latent is kept within -clip...clip, but the noise that remains is what the network
/// predicted, as in diffusers; for noise that agrees with the clipped latent, wrap the denoiser in `Clipped`.
/// Throws `DiffusionError.eta` where eta is outside 0...1.
public func ddim(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, eta: Double = 0, clip: Double? = nil,
  noise: inout NoiseSource, progress: Progress? = nil
) throws -> Tensor {
  guard eta >= 0, eta <= 1 else { throw DiffusionError.eta(eta) }
  return try ancestral(
    denoiser, from: x, along: schedule, eta: eta, clip: clip, noise: &noise, progress: progress)
}

/// Euler's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn.
///
/// In variance-preserving coordinates its step is DDIM's with eta 0; what differs is the schedule.
public func euler(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, noise: inout NoiseSource,
  progress: Progress? = nil
) throws -> Tensor {
  try ancestral(denoiser, from: x, along: schedule, eta: 0, noise: &noise, progress: progress)
}

/// Euler's method down to less noise than wanted, and fresh noise up to it; k-diffusion's `euler_ancestral`.
///
/// In variance-preserving coordinates its step is DDIM's with eta 1; what differs is the schedule.
public func eulerAncestral(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, noise: inout NoiseSource,
  progress: Progress? = nil
) throws -> Tensor {
  try ancestral(denoiser, from: x, along: schedule, eta: 1, noise: &noise, progress: progress)
}

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
      // lambda of the paper; minus infinity from pure noise, infinity at no noise.
      let lambda = -log(from.noiseToSignal)
      let h = -log(to.noiseToSignal) - lambda
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

/// `x' = alpha' x0 + sqrt(sigma'^2 - s^2) (x - alpha x0) / sigma + s noise`, where s is eta times the
/// posterior's standard deviation: arXiv:2010.02502, eq. 12 and 16.
private func ancestral(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, eta: Double,
  variance: NoiseSchedule.Variance = .small, clip: Double? = nil, noise: inout NoiseSource,
  progress: Progress?
) throws -> Tensor {
  var x = x
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: step.from) }
      let (from, to) = (step.from, step.to)
      let ratio = from.alpha * to.sigma / (to.alpha * from.sigma)
      let posterior = eta * to.sigma * max(0, 1 - ratio * ratio).squareRoot()
      let direction = max(0, to.sigma * to.sigma - posterior * posterior).squareRoot() / from.sigma

      var terms = [(Float(direction), x)]
      if let clip {
        terms.append((Float(-direction * from.alpha), denoised))
        terms.append((Float(to.alpha), try denoised.clamped(Float(-clip), Float(clip))))
      } else {
        terms.append((Float(to.alpha - direction * from.alpha), denoised))
      }
      let spread: Double
      switch variance {
      case .small: spread = posterior
      case .large:
        // beta of the step; the reference adds nothing after timestep 0.
        let kept = from.alpha / to.alpha
        spread = from.timestep > 0 ? max(0, 1 - kept * kept).squareRoot() : 0
      }
      x = try stage("update") {
        if spread > 0 {
          let fresh = try noise.normal(x.shape, for: .step(schedule.skipped + index))
          terms.append((Float(spread), fresh))
        }
        return try Tensor.combination(terms)
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}
