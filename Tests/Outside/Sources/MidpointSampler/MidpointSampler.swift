import LangevinDiffusion
import LangevinTensor

/// The midpoint method on the probability flow; k-diffusion's `sample_dpm_2` without churn.
public struct MidpointSampler: Sampler {
  public static let description = SamplerDescription(
    "midpoint", title: "DPM2", aliases: ["k_dpm_2"],
    purpose: "looks ahead to the middle of each step", order: 2, callsPerStep: 2)

  public init() {}

  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.sigmaLevels(halfway: true)
  }

  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to) = (step.from, step.to)
    let denoised = try step.denoised(x)
    guard let middle = step.middle, to.sigma > 0 else { return try step.euler(x, denoised, to: to) }
    let between = try step.euler(x, denoised, to: middle)
    let corrected = try step.denoised(between, at: middle)
    // In sigma / alpha, the whole step's length along the slope in the middle.
    let share = (to.noiseToSignal - from.noiseToSignal) / middle.noiseToSignal
    return try step.combination([
      (to.alpha / from.alpha, x), (to.alpha / middle.alpha * share, between), (-to.alpha * share, corrected),
    ])
  }
}
