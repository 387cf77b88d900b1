import Foundation
import LangevinTensor

/// Called after each step with the number of steps done, how many there are and the latent so far; sampling
/// stops with what it throws.
public typealias Progress = (_ step: Int, _ count: Int, _ latent: Tensor) throws -> Void

// Every sampler of this folder is a function over a schedule and keeps what it remembers in local variables. Latents
// are float32 [N, ..., C]; coefficients are computed in double precision; a step is one pass over the latent.
// Each throws what the denoiser, the noise, the device or `progress` throws.

/// DDPM: ancestral sampling of the training's Markov chain. arXiv:2006.11239, algorithm 2.
///
/// `variance` `.small` is the posterior's (beta tilde), `.large` the chain's own (beta), `.learnedRange` between
/// them, as the network says for each element (`Guess.varianceMix`; arXiv:2102.09672, eq. 15). With the last and
/// unCLIP's schedule this is also unCLIP's sampler (arXiv:2204.06125), a step's beta being that of the timesteps
/// which it skips.
///
/// Throws `DiffusionError.noLearnedVariance`.
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
/// With `limit`, the denoised latent is limited, but the noise that remains is what the network predicted, as in
/// diffusers; for noise that agrees with the limited latent, wrap the denoiser in `Limited`.
/// Throws `DiffusionError.eta` where eta is outside 0...1.
public func ddim(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, eta: Double = 0,
  limit: Limit? = nil, noise: inout NoiseSource, progress: Progress? = nil
) throws -> Tensor {
  guard eta >= 0, eta <= 1 else { throw DiffusionError.eta(eta) }
  return try ancestral(
    denoiser, from: x, along: schedule, eta: eta, limit: limit, noise: &noise, progress: progress)
}

/// Euler's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn.
///
/// In variance-preserving coordinates its step is DDIM's with eta 0; what differs is the schedule. Along a flow it
/// is Euler's step of rectified flow (arXiv:2209.03003, section 2.1).
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

/// `x' = alpha' x0 + sqrt(sigma'^2 - s^2) (x - alpha x0) / sigma + s noise`, where s is eta times the
/// posterior's standard deviation: arXiv:2010.02502, eq. 12 and 16.
private func ancestral(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, eta: Double,
  variance: NoiseSchedule.Variance = .small, limit: Limit? = nil, noise: inout NoiseSource,
  progress: Progress?
) throws -> Tensor {
  var x = x
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let guess = try stage("denoise") { try denoiser.guess(x, at: step.from) }
      let (from, to) = (step.from, step.to)
      let ratio = from.alpha * to.sigma / (to.alpha * from.sigma)
      let posterior = eta * to.sigma * max(0, 1 - ratio * ratio).squareRoot()
      let direction = max(0, to.sigma * to.sigma - posterior * posterior).squareRoot() / from.sigma

      var terms = [(Float(direction), x)]
      if let limit {
        terms.append((Float(-direction * from.alpha), guess.denoised))
        terms.append((Float(to.alpha), try limit(guess.denoised)))
      } else {
        terms.append((Float(to.alpha - direction * from.alpha), guess.denoised))
      }
      // Of beta, the chain's own variance.
      let kept = from.alpha / to.alpha
      let beta = max(0, 1 - kept * kept)
      // The reference adds nothing after timestep 0.
      let isLast = from.timestep == 0
      x = try stage("update") {
        switch variance {
        case .small where posterior > 0:
          let fresh = try noise.normal(x.shape, for: .step(schedule.skipped + index))
          terms.append((Float(posterior), fresh))
        case .large where !isLast:
          let fresh = try noise.normal(x.shape, for: .step(schedule.skipped + index))
          terms.append((Float(beta.squareRoot()), fresh))
        case .learnedRange where !isLast:
          guard let mix = guess.varianceMix else { throw DiffusionError.noLearnedVariance }
          let fresh = try noise.normal(x.shape, for: .step(schedule.skipped + index))
          // The root of beta^v betaTilde^(1 - v); the reference keeps betaTilde above 1e-20.
          let (least, most) = (log(max(posterior * posterior, 1e-20)), log(beta))
          let spread = try mix.affine(scale: Float((most - least) / 4), offset: Float((most + least) / 4))
            .map(.exp)
          terms.append((1, try spread * fresh))
        case .small, .large, .learnedRange: break
        }
        return try Tensor.combination(terms)
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}
