import LangevinTensor

/// Multistep consistency sampling: arXiv:2310.04378, algorithm 3; diffusers' LCMScheduler. Each step jumps to the clean
/// latent and adds the next level's noise to it.
///
/// `timestepScaling` is how fast the boundary condition's weights let go of x (arXiv:2303.01469, appendix C, with 0.5 for
/// the data's deviation).
public func lcm(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, timestepScaling: Double = 10,
  noise: inout NoiseSource, progress: Progress? = nil
) throws -> Tensor {
  var x = x
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: step.from) }
      let time = Double(step.from.timestep) * timestepScaling
      let spread = time * time + 0.25
      let (skip, out) = (0.25 / spread, time / spread.squareRoot())
      var terms = [(Float(step.to.alpha * skip), x), (Float(step.to.alpha * out), denoised)]
      x = try stage("update") {
        if step.to.sigma > 0 {
          let fresh = try noise.normal(x.shape, for: .step(schedule.skipped + index))
          terms.append((Float(step.to.sigma), fresh))
        }
        return try Tensor.combination(terms)
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}
