import LangevinTensor

/// PNDM: classical integration with noise as the slope and DDIM's transfer as the step: arXiv:2202.09778, algorithms
/// 1 and 2; diffusers' PNDMScheduler.
///
/// Where steps have a middle, the first three are of the Runge-Kutta kind with four calls each (PRK); else the first is
/// of the improved Euler kind with two (PLMS as Stable Diffusion ships it). Those that follow are Adams-Bashforth's, of
/// as many slopes as there are, at most four. (For v prediction diffusers combines the outputs as they are and takes the
/// noise from the combination; here it is the noises that are combined, as in the paper.)
public func pndm(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, progress: Progress? = nil
) throws -> Tensor {
  func slope(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    let denoised = try stage("denoise") { try denoiser.denoised(x, at: level) }
    return try Tensor.combination([
      (Float(1 / level.sigma), x), (Float(-level.alpha / level.sigma), denoised),
    ])
  }
  /// Eq. 11: x at `to`, given the noise in x at `from` as a weighted sum.
  func transfer(_ x: Tensor, _ noises: [(Double, Tensor)], _ from: NoiseLevel, _ to: NoiseLevel) throws
    -> Tensor
  {
    let carry = to.alpha / from.alpha
    let factor = to.sigma - carry * from.sigma
    return try stage("update") {
      try Tensor.combination([(Float(carry), x)] + noises.map { (Float(factor * $0), $1) })
    }
  }

  let linear: [[Double]] = [
    [1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24],
  ]
  var x = x
  /// Earlier slopes, the newest first.
  var slopes: [Tensor] = []
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let (from, to) = (step.from, step.to)
      let first = try slope(x, at: from)
      slopes = Array(([first] + slopes).prefix(4))
      if let middle = step.middle, slopes.count < 4 {
        let second = try slope(transfer(x, [(1, first)], from, middle), at: middle)
        let third = try slope(transfer(x, [(1, second)], from, middle), at: middle)
        let fourth = try slope(transfer(x, [(1, third)], from, to), at: to)
        x = try transfer(x, [(1 / 6, first), (1 / 3, second), (1 / 3, third), (1 / 6, fourth)], from, to)
      } else if index == 0, schedule.steps.count > 1 {
        let end = try slope(transfer(x, [(1, first)], from, to), at: to)
        x = try transfer(x, [(0.5, first), (0.5, end)], from, to)
      } else {
        x = try transfer(x, Array(zip(linear[slopes.count - 1], slopes)), from, to)
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}
