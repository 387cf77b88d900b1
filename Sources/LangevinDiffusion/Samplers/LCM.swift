import LangevinTensor

/// Multistep consistency sampling: arXiv:2310.04378, algorithm 3; diffusers' LCMScheduler. Each step jumps to the clean
/// latent and adds the next level's noise to it.
public struct LCMSampler: Sampler {
  /// How fast the boundary condition's weights let go of x (arXiv:2303.01469, appendix C, with 0.5 for the data's
  /// deviation).
  public var timestepScaling: Double
  /// How guesses are limited.
  public var limit: Limit?

  /// Consistency sampling.
  public init(timestepScaling: Double = 10, limit: Limit? = nil) {
    (self.timestepScaling, self.limit) = (timestepScaling, limit)
  }

  /// One call of the denoiser, and fresh noise.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    let time = Double(step.from.timestep) * timestepScaling
    let spread = time * time + 0.25
    let (skip, out) = (0.25 / spread, time / spread.squareRoot())
    var terms = [(step.to.alpha * skip, x), (step.to.alpha * out, denoised)]
    if step.to.sigma > 0 { terms.append((step.to.sigma, try step.noise(like: x))) }
    return try step.combination(terms)
  }
}
