import LangevinTensor

/// DPM-Solver++ as a stochastic differential equation in two stages a step, of which the first ends at
/// `SamplerStep.middle`: k-diffusion's `sample_dpmpp_sde` with eta 1 and r 1/2, DPMSolverSDEScheduler of
/// diffusers. A step without a middle, and one to no noise, is Euler's.
///
/// The two stages' noises are increments of one Brownian motion over sigma / alpha, as the reference draws
/// them from a tree of its own (torchsde), whose numbers are not repeated here: the same process from another
/// source.
public struct DPMppSDESampler: ConfiguredSampler {
  /// Much detail in few steps.
  public static let description = SamplerDescription(
    "dpmpp-sde", title: "DPM++ SDE", aliases: ["k_dpmpp_sde"],
    purpose: "two stages a step, with fresh noise in both: much detail in few steps", isStochastic: true,
    order: 2, callsPerStep: 2,
    classes: [SchedulerClass("DPMSolverSDEScheduler", defaults: SchedulerClass.latentBetas)])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()

  /// The two-stage solver.
  public init() {}

  /// With the settings of a model's scheduler_config.json.
  public init(_ file: SchedulerFile) throws {
    (timesteps, sigmas) = (try TimestepSettings(file), try SigmaSettings(file, readsFinal: false))
  }

  /// Those of diffusers' DPMSolverSDEScheduler: each step but the last has its middle.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.sigmaLevels(timesteps, sigmas, halfway: true)
  }

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
