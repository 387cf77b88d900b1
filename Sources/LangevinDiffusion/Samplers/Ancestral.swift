import Foundation
import LangevinJSON
import LangevinTensor

/// DDPM: ancestral sampling of the training's Markov chain. arXiv:2006.11239, algorithm 2.
///
/// Throws `DiffusionError.noLearnedVariance` where the variance is to come from a network that has not
/// learned it.
public struct DDPMSampler: ConfiguredSampler {
  /// The variance of the noise that a step adds: beta tilde or beta of arXiv:2006.11239, section 3.2.
  public enum Variance: String, Sendable, CaseIterable {
    case small = "fixed_small"
    case large = "fixed_large"
    /// Between the two, per element, as the network says: arXiv:2102.09672, eq. 15.
    case learnedRange = "learned_range"

    /// Reads `variance_type`. `fixed_small_log` is `fixed_small` by way of the logarithm.
    init(_ file: SchedulerFile) throws {
      self = try file.string("variance_type").flatMap(Variance.init(rawValue:)) ?? .small
    }

    static let implemented: [String: [StrictJSON]] = [
      "variance_type": ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"].map(
        StrictJSON.string)
    ]
  }

  /// The training's own chain.
  public static let description = SamplerDescription(
    "ddpm", title: "DDPM",
    purpose: "the training's own chain; needs many steps, and is what the others are held against",
    isStochastic: true, spacings: NoiseSchedule.Levels.ofTimesteps,
    classes: [SchedulerClass("DDPMScheduler")],
    implemented: Variance.implemented)

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings(.leading)
  /// The variance of the noise that a step adds.
  public var variance: Variance
  /// How guesses are limited.
  public var limit: Limit?

  /// DDPM with this variance.
  public init(variance: Variance = .small, limit: Limit? = nil) {
    (self.variance, self.limit) = (variance, limit)
  }

  /// Of a file: by default guesses are clipped at 1.
  public init(_ file: SchedulerFile) throws {
    timesteps = try TimestepSettings(file, default: .leading)
    variance = try Variance(file)
    limit = try Limit(file, clips: true, thresholds: true)
  }

  /// From timestep to timestep.
  public func levels(_ request: LevelRequest) throws -> Schedule { try request.chain(timesteps) }

  /// A step of the chain.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try step.ancestral(x, eta: 1, variance: variance)
  }
}

/// DDIM: arXiv:2010.02502, eq. 12.
///
/// Where guesses are limited, the noise that remains is what the network predicted, as in diffusers; for
/// noise that agrees with the limited latent, wrap the denoiser in `Limited`. A step throws
/// `DiffusionError.eta` where eta is outside 0...1.
public struct DDIMSampler: ConfiguredSampler, EtaSampler {
  /// Few steps of the same chain.
  public static let description = SamplerDescription(
    "ddim", title: "DDIM", purpose: "few steps, repeatable; with --eta between Euler and DDPM",
    spacings: NoiseSchedule.Levels.ofTimesteps, classes: [SchedulerClass("DDIMScheduler")])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings(.leading)
  /// Whether the last step arrives at no noise rather than at timestep 0's.
  public var setAlphaToOne = true
  /// The share of fresh noise: 0 is deterministic, 1 is DDPM (eq. 16).
  public var eta: Double
  /// How guesses are limited.
  public var limit: Limit?

  /// DDIM with this share of fresh noise.
  public init(eta: Double = 0, limit: Limit? = nil) { (self.eta, self.limit) = (eta, limit) }

  /// Of a file: by default guesses are clipped at 1.
  public init(_ file: SchedulerFile) throws {
    self.init(limit: try Limit(file, clips: true, thresholds: true))
    timesteps = try TimestepSettings(file, default: .leading)
    setAlphaToOne = try file.bool("set_alpha_to_one") ?? true
  }

  /// By a fixed stride from timesteps; from one to the next where the user gave them.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.chain(timesteps, fixedStride: !request.hasTimesteps, toClean: setAlphaToOne)
  }

  /// Eq. 12.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    guard eta >= 0, eta <= 1 else { throw DiffusionError.eta(eta) }
    return try step.ancestral(x, eta: eta, limitsNoise: false)
  }
}

extension SamplerStep {
  /// `x' = alpha' x0 + sqrt(sigma'^2 - s^2) (x - alpha x0) / sigma + s noise`, where s is eta times the
  /// posterior's standard deviation: arXiv:2010.02502, eq. 12 and 16.
  ///
  /// `variance` `.small` is the posterior's (beta tilde), `.large` the chain's own (beta), `.learnedRange` between
  /// them, as the network says for each element (`Guess.varianceMix`; arXiv:2102.09672, eq. 15). Without
  /// `limitsNoise` only x0 is limited, not the noise that is taken for what remains.
  mutating func ancestral(
    _ x: Tensor, eta: Double, variance: DDPMSampler.Variance = .small, limitsNoise: Bool = true
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
