import Foundation
import LangevinTensor

/// How noisy a latent is: `x = alpha * x0 + sigma * noise`.
///
/// For diffusion models alpha^2 + sigma^2 = 1 (variance preserving), whichever sampler runs; for flows
/// alpha + sigma = 1. Samplers that the literature writes for `x0 + s * noise` see s as `noiseToSignal`.
public struct NoiseLevel: Sendable, Hashable {
  /// What the network is told; may lie between the training's timesteps.
  public var timestep: Float
  /// The weight of the signal.
  public var alpha: Double
  /// The weight of the noise.
  public var sigma: Double

  /// A level of these weights.
  public init(timestep: Float, alpha: Double, sigma: Double) {
    self.timestep = timestep
    self.alpha = alpha
    self.sigma = sigma
  }

  /// The variance-preserving level at which sigma / alpha is `noiseToSignal`.
  public init(timestep: Float, noiseToSignal: Double) {
    let alpha = 1 / (1 + noiseToSignal * noiseToSignal).squareRoot()
    self.init(timestep: timestep, alpha: alpha, sigma: noiseToSignal * alpha)
  }

  /// The variance-preserving level with this alpha squared.
  public init(timestep: Float, alphaCumprod: Float) {
    self.init(
      timestep: timestep, alpha: Double(alphaCumprod).squareRoot(),
      sigma: (1 - Double(alphaCumprod)).squareRoot())
  }

  /// A flow's level: alpha is 1 - sigma. arXiv:2209.03003, eq. 1; arXiv:2210.02747, eq. 22.
  public init(timestep: Float, flowSigma: Double) {
    self.init(timestep: timestep, alpha: 1 - flowSigma, sigma: flowSigma)
  }

  /// sigma / alpha; infinite where there is no signal.
  public var noiseToSignal: Double { sigma / alpha }
  /// log(alpha / sigma), lambda of arXiv:2211.01095; infinite where there is no noise.
  public var logSNR: Double { -log(noiseToSignal) }
}

/// The levels that a sampler goes through.
public struct Schedule: Sendable, Hashable {
  /// How signal and noise add up along the way.
  public enum Path: Sendable, Hashable {
    /// alpha^2 + sigma^2 = 1.
    case variancePreserving
    /// alpha + sigma = 1: a straight line from the noise to the signal.
    case flow

    /// x / unit is linear in sigma / unit where the denoised latent does not change: the coordinates in which
    /// Euler's, Heun's and the linear multistep methods are stated.
    func unit(_ level: NoiseLevel) -> Double {
      switch self {
      case .variancePreserving: level.alpha
      case .flow: level.alpha + level.sigma
      }
    }
  }

  /// One call of the denoiser, or two for samplers in two stages. `to` need not be the next step's `from`:
  /// diffusers' DDIM steps back by a fixed number of timesteps from wherever it is.
  public struct Step: Sendable, Hashable {
    /// Where the denoiser is called.
    public var from: NoiseLevel
    /// Where the step ends.
    public var to: NoiseLevel
    /// Where samplers that stop half-way call the denoiser again; nil for the others.
    public var middle: NoiseLevel?

    /// A step between two levels.
    public init(from: NoiseLevel, middle: NoiseLevel? = nil, to: NoiseLevel) {
      self.from = from
      self.middle = middle
      self.to = to
    }
  }

  /// The standard deviation of the latent that sampling starts from.
  public var initialScale: Double
  /// The steps in the order in which they are taken, from the noisiest.
  public var steps: [Step]
  /// How many steps of the full schedule come before `steps`.
  public var skipped: Int
  /// How signal and noise add up.
  public var path: Path

  /// A schedule of these steps.
  public init(
    initialScale: Double = 1, steps: [Step], skipped: Int = 0, path: Path = .variancePreserving
  ) {
    self.initialScale = initialScale
    self.steps = steps
    self.skipped = skipped
    self.path = path
  }

  /// A schedule through these levels, each step beginning where the one before ended.
  public init(initialScale: Double = 1, levels: [NoiseLevel], path: Path = .variancePreserving) {
    let steps = zip(levels, levels.dropFirst()).map { Step(from: $0, to: $1) }
    self.init(initialScale: initialScale, steps: steps, path: path)
  }

  /// How many steps the full schedule has.
  public var fullCount: Int { skipped + steps.count }

  /// The last `int(count * strength)` steps, as diffusers' image-to-image pipelines take; its pipelines of flows round
  /// up.
  ///
  /// `strength` 1 is the whole schedule. Throws `DiffusionError.strength` where it is outside 0...1 or leaves
  /// no step.
  public func starting(at strength: Double, roundingUp: Bool = false) throws -> Schedule {
    guard strength >= 0, strength <= 1 else { throw DiffusionError.strength(strength, steps: steps.count) }
    let (count, share) = (Double(steps.count), Double(steps.count) * strength)
    let kept = roundingUp ? steps.count - Int(count - share) : Int(share)
    guard kept > 0 else { throw DiffusionError.strength(strength, steps: steps.count) }
    return Schedule(
      initialScale: initialScale, steps: Array(steps.suffix(kept)), skipped: skipped + steps.count - kept,
      path: path)
  }

  /// Every step must have noise to remove, and may not add any. Throws `DiffusionError.stepCount`.
  func check(requested count: Int) throws {
    for step in steps
    where !(step.from.sigma > 0 && step.from.noiseToSignal >= step.to.noiseToSignal && step.to.alpha > 0) {
      throw DiffusionError.stepCount(
        requested: count, reason: "the noise does not fall from timestep \(step.from.timestep)")
    }
    for (a, b) in zip(steps, steps.dropFirst()) where a.from.noiseToSignal <= b.from.noiseToSignal {
      throw DiffusionError.stepCount(
        requested: count, reason: "too many: two of them share timestep \(b.from.timestep)")
    }
  }

  /// The latent that sampling starts from, given standard normal noise of the latent's shape.
  public func initial(noise: Tensor) throws -> Tensor {
    initialScale == 1 ? noise : try Tensor.combination([(Float(initialScale), noise)])
  }

  /// A clean latent with the noise of the first level: where image-to-image starts.
  public func addingNoise(_ noise: Tensor, to clean: Tensor) throws -> Tensor {
    guard let level = steps.first?.from else { return clean }
    return try Tensor.combination([(Float(level.alpha), clean), (Float(level.sigma), noise)])
  }
}
