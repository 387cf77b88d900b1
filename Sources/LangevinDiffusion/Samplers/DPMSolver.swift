import Foundation
import LangevinTensor

/// DPM-Solver++(2M): arXiv:2211.01095, algorithm 2.
///
/// The first step, and a step to no noise at all, are of first order.
public struct DPMpp2MSampler: Sampler {
  /// Which last steps are of first order, too.
  public var ending: DPMEnding
  /// How guesses are limited.
  public var limit: Limit?
  private var memory = DPMMemory()

  /// The second-order solver.
  public init(ending: DPMEnding = DPMEnding(), limit: Limit? = nil) {
    (self.ending, self.limit) = (ending, limit)
  }

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    let (from, to) = (step.from, step.to)
    let carry = to.sigma / from.sigma
    let gain = to.alpha - carry * from.alpha
    return try step.combination(
      [(carry, x)] + memory.terms(denoised, gain, from, to, isFirstOrder: ending.isFirstOrder(step)))
  }
}

/// DPM-Solver++(2M) as a stochastic differential equation: arXiv:2211.01095, section 5 and appendix B.2; diffusers'
/// `sde-dpmsolver++` with its midpoint solver.
///
/// The first step, and a step to no noise at all, are of first order.
public struct DPMpp2MSDESampler: Sampler {
  /// Which last steps are of first order, too.
  public var ending: DPMEnding
  /// How guesses are limited.
  public var limit: Limit?
  private var memory = DPMMemory()

  /// The second-order solver.
  public init(ending: DPMEnding = DPMEnding(), limit: Limit? = nil) {
    (self.ending, self.limit) = (ending, limit)
  }

  /// One call of the denoiser, and fresh noise.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    let (from, to) = (step.from, step.to)
    let h = to.logSNR - from.logSNR
    let gain = -to.alpha * expm1(-2 * h)
    let spread = to.sigma * (-expm1(-2 * h)).squareRoot()
    var terms = [(to.sigma / from.sigma * exp(-h), x)]
    terms += memory.terms(denoised, gain, from, to, isFirstOrder: ending.isFirstOrder(step))
    if spread > 0 { terms.append((spread, try step.noise(like: x))) }
    return try step.combination(terms)
  }
}

/// Where DPM-Solver++ ends with a step of first order.
public struct DPMEnding: Sendable, Hashable {
  /// Where there are fewer than 15 steps.
  public var lowerOrderFinal: Bool
  /// In any case.
  public var eulerAtFinal: Bool

  /// As diffusers does by default: with fewer than 15 steps.
  public init(lowerOrderFinal: Bool = true, eulerAtFinal: Bool = false) {
    (self.lowerOrderFinal, self.eulerAtFinal) = (lowerOrderFinal, eulerAtFinal)
  }

  func isFirstOrder(_ step: SamplerStep) -> Bool {
    step.isLast && (eulerAtFinal || lowerOrderFinal && step.schedule.fullCount < 15)
  }
}

/// What both second-order solvers remember: the last guess and where it was made.
private struct DPMMemory {
  private var previous: (denoised: Tensor, logSNR: Double)?

  /// Of what multiplies the denoised latent, the guess's share and the last one's.
  mutating func terms(
    _ denoised: Tensor, _ gain: Double, _ from: NoiseLevel, _ to: NoiseLevel, isFirstOrder: Bool
  ) -> [(Double, Tensor)] {
    // Minus infinity from pure noise; h is infinite to no noise.
    let lambda = from.logSNR
    let h = to.logSNR - lambda
    defer { previous = lambda.isFinite ? (denoised, lambda) : nil }
    guard let previous, h.isFinite, !isFirstOrder else { return [(gain, denoised)] }
    let weight = h / (2 * (lambda - previous.logSNR))
    return [(gain * (1 + weight), denoised), (-gain * weight, previous.denoised)]
  }
}

/// DPM-Solver++ as a stochastic differential equation in two stages a step, of which the first ends at
/// `SamplerStep.middle`: k-diffusion's `sample_dpmpp_sde` with eta 1 and r 1/2, diffusers' DPMSolverSDEScheduler.
/// A step without a middle, and one to no noise, is Euler's.
///
/// The two stages' noises are increments of one Brownian motion over sigma / alpha, as the reference draws them from a
/// tree of its own (torchsde), whose numbers are not repeated here: the same process from another source.
public struct DPMppSDESampler: Sampler {
  /// The two-stage solver.
  public init() {}

  /// Two calls of the denoiser, and fresh noise in both stages.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to) = (step.from, step.to)
    let denoised = try step.denoised(x)
    guard let middle = step.middle, to.sigma > 0 else { return try step.euler(x, denoised, to: to) }
    let half = ancestral(from, middle)
    let first = try step.noise(like: x, halfway: true)
    let between = try step.combination([(half.x, x), (half.denoised, denoised), (half.noise, first)])
    let corrected = try step.denoised(between, at: middle)
    let second = try step.noise(like: x)
    let whole = ancestral(from, to)
    // Over the whole step the motion is what it was over the first half and what is new since.
    let (s, m, end) = (from.noiseToSignal, middle.noiseToSignal, to.noiseToSignal)
    let (old, new) = (((s - m) / (s - end)).squareRoot(), ((m - end) / (s - end)).squareRoot())
    return try step.combination([
      (whole.x, x), (whole.denoised, corrected), (whole.noise * old, first), (whole.noise * new, second),
    ])
  }

  /// Down to less noise than wanted, x and the denoised latent's factors, and the fresh noise's up to it.
  private func ancestral(_ from: NoiseLevel, _ to: NoiseLevel) -> (
    x: Double, denoised: Double, noise: Double
  ) {
    let (s, wanted) = (from.noiseToSignal, to.noiseToSignal)
    let up = min(wanted, wanted * max(0, 1 - wanted / s * (wanted / s)).squareRoot())
    let down = max(0, wanted * wanted - up * up).squareRoot()
    return (to.alpha * down / from.sigma, to.alpha * (1 - down / s), to.alpha * up)
  }
}
