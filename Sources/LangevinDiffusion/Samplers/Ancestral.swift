import Foundation
import LangevinTensor

/// DDPM: ancestral sampling of the training's Markov chain. arXiv:2006.11239, algorithm 2.
///
/// Throws `DiffusionError.noLearnedVariance` where the variance is to come from a network that has not learned it.
public struct DDPMSampler: Sampler {
  /// The variance of the noise that a step adds.
  public var variance: NoiseSchedule.Variance
  /// How guesses are limited.
  public var limit: Limit?

  /// DDPM with this variance.
  public init(variance: NoiseSchedule.Variance = .small, limit: Limit? = nil) {
    (self.variance, self.limit) = (variance, limit)
  }

  /// A step of the chain.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try step.ancestral(x, eta: 1, variance: variance)
  }
}

/// DDIM: arXiv:2010.02502, eq. 12.
///
/// Where guesses are limited, the noise that remains is what the network predicted, as in diffusers; for noise that
/// agrees with the limited latent, wrap the denoiser in `Limited`.
/// A step throws `DiffusionError.eta` where eta is outside 0...1.
public struct DDIMSampler: Sampler {
  /// The share of fresh noise: 0 is deterministic, 1 is DDPM (eq. 16).
  public var eta: Double
  /// How guesses are limited.
  public var limit: Limit?

  /// DDIM with this share of fresh noise.
  public init(eta: Double = 0, limit: Limit? = nil) { (self.eta, self.limit) = (eta, limit) }

  /// Eq. 12.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    guard eta >= 0, eta <= 1 else { throw DiffusionError.eta(eta) }
    return try step.ancestral(x, eta: eta, limitsNoise: false)
  }
}

/// Euler's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn.
///
/// In variance-preserving coordinates its step is DDIM's with eta 0; what differs is the schedule. Along a flow it
/// is Euler's step of rectified flow (arXiv:2209.03003, section 2.1).
public struct EulerSampler: Sampler {
  /// Euler's method.
  public init() {}

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try step.ancestral(x, eta: 0)
  }
}

/// Euler's method down to less noise than wanted, and fresh noise up to it; k-diffusion's `euler_ancestral`.
///
/// In variance-preserving coordinates its step is DDIM's with eta 1; what differs is the schedule.
public struct EulerAncestralSampler: Sampler {
  /// Euler's method with fresh noise.
  public init() {}

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try step.ancestral(x, eta: 1)
  }
}

extension SamplerStep {
  /// `x' = alpha' x0 + sqrt(sigma'^2 - s^2) (x - alpha x0) / sigma + s noise`, where s is eta times the
  /// posterior's standard deviation: arXiv:2010.02502, eq. 12 and 16.
  ///
  /// `variance` `.small` is the posterior's (beta tilde), `.large` the chain's own (beta), `.learnedRange` between
  /// them, as the network says for each element (`Guess.varianceMix`; arXiv:2102.09672, eq. 15). Without `limitsNoise`
  /// only x0 is limited, not the noise that is taken for what remains.
  mutating func ancestral(
    _ x: Tensor, eta: Double, variance: NoiseSchedule.Variance = .small, limitsNoise: Bool = true
  ) throws -> Tensor {
    let guess = try guess(x, limited: limitsNoise)
    let ratio = from.alpha * to.sigma / (to.alpha * from.sigma)
    let posterior = eta * to.sigma * max(0, 1 - ratio * ratio).squareRoot()
    let direction = max(0, to.sigma * to.sigma - posterior * posterior).squareRoot() / from.sigma

    var terms = [(direction, x)]
    if !limitsNoise, let limit {
      terms += [(-direction * from.alpha, guess.denoised), (to.alpha, try limit(guess.denoised))]
    } else {
      terms.append((to.alpha - direction * from.alpha, guess.denoised))
    }
    // Of beta, the chain's own variance.
    let kept = from.alpha / to.alpha
    let beta = max(0, 1 - kept * kept)
    // The reference adds nothing after timestep 0.
    let isEnd = from.timestep == 0
    switch variance {
    case .small where posterior > 0: terms.append((posterior, try noise(like: x)))
    case .large where !isEnd: terms.append((beta.squareRoot(), try noise(like: x)))
    case .learnedRange where !isEnd:
      guard let mix = guess.varianceMix else { throw DiffusionError.noLearnedVariance }
      let fresh = try noise(like: x)
      // The root of beta^v betaTilde^(1 - v); the reference keeps betaTilde above 1e-20.
      let (least, most) = (log(max(posterior * posterior, 1e-20)), log(beta))
      terms.append(
        (
          1,
          try stage("update") {
            let spread = try mix.affine(scale: Float((most - least) / 4), offset: Float((most + least) / 4))
            return try spread.map(.exp) * fresh
          }
        ))
    case .small, .large, .learnedRange: break
    }
    return try combination(terms)
  }
}
