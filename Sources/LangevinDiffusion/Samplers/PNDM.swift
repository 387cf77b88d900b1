import LangevinTensor

/// PNDM: classical integration with noise as the slope and DDIM's transfer as the step: arXiv:2202.09778,
/// algorithms 1 and 2; diffusers' PNDMScheduler.
///
/// Where steps have a middle, the first three are of the Runge-Kutta kind with four calls each (PRK); else
/// the first is of the improved Euler kind with two (PLMS as Stable Diffusion ships it). Those that follow
/// are Adams-Bashforth's, of as many slopes as there are, at most four. (For v prediction diffusers combines
/// the outputs as they are and takes the noise from the combination; here it is the noises that are combined,
/// as in the paper.)
public struct PNDMSampler: ConfiguredSampler {
  /// Its order is that of arXiv:2202.09778, section 3.4, whatever its slopes'.
  public static let description = SamplerDescription(
    "pndm", title: "PLMS", purpose: "Stable Diffusion 1's first scheduler: remembers up to four steps",
    order: 2,
    spacings: NoiseSchedule.Spacing.allCases.map(\.rawValue), fewestSteps: 4,
    classes: [SchedulerClass("PNDMScheduler")])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings(.leading)
  /// Begins with multistep steps (PLMS) rather than Runge-Kutta's.
  public var skipsRungeKutta = false
  /// Whether the last step arrives at no noise rather than at timestep 0's.
  public var setAlphaToOne = false
  /// Earlier slopes, the newest first.
  private var slopes: [Tensor] = []

  /// Pseudo numerical methods.
  public init() {}

  /// With the settings of a model's scheduler_config.json.
  public init(_ file: SchedulerFile) throws {
    timesteps = try TimestepSettings(file, default: .leading)
    skipsRungeKutta = try file.bool("skip_prk_steps") ?? false
    setAlphaToOne = try file.bool("set_alpha_to_one") ?? false
  }

  /// From timestep to timestep. (Diffusers' steps back by a fixed stride, which is the same for leading
  /// spacing.)
  public func levels(_ request: LevelRequest) throws -> Schedule {
    // Its second stage would take the noise for the signal.
    if request.noise.rescaleBetasZeroSNR {
      throw DiffusionError.unsupportedSetting(field: "rescale_betas_zero_snr", sampler: "pndm")
    }
    if !skipsRungeKutta && request.steps < 4 {
      throw DiffusionError.stepCount(
        requested: request.steps, reason: "pndm needs at least 4 where skip_prk_steps is false")
    }
    return try request.chain(timesteps, toClean: setAlphaToOne, halfway: !skipsRungeKutta)
  }

  /// One call of the denoiser; two or four at the beginning.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to) = (step.from, step.to)
    let first = try step.slope(x, at: from)
    slopes = Array(([first] + slopes).prefix(4))
    if let middle = step.middle, slopes.count < 4 {
      let second = try step.slope(step.transfer(x, [(1, first)], to: middle), at: middle)
      let third = try step.slope(step.transfer(x, [(1, second)], to: middle), at: middle)
      let fourth = try step.slope(step.transfer(x, [(1, third)], to: to), at: to)
      return try step.transfer(x, [(1 / 6, first), (1 / 3, second), (1 / 3, third), (1 / 6, fourth)], to: to)
    }
    if step.index == 0, !step.isLast {
      let end = try step.slope(step.transfer(x, [(1, first)], to: to), at: to)
      return try step.transfer(x, [(0.5, first), (0.5, end)], to: to)
    }
    return try step.transfer(x, Array(zip(Self.linear[slopes.count - 1], slopes)), to: to)
  }

  private static let linear: [[Double]] = [
    [1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24],
  ]
}

extension SamplerStep {
  /// The noise that the denoiser sees in x.
  fileprivate mutating func slope(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    let denoised = try denoised(x, at: level)
    return try combination([(1 / level.sigma, x), (-level.alpha / level.sigma, denoised)])
  }

  /// Eq. 11: x at `level`, given the noise in x at the step's beginning as a weighted sum.
  fileprivate func transfer(_ x: Tensor, _ noises: [(Double, Tensor)], to level: NoiseLevel) throws -> Tensor
  {
    let carry = level.alpha / from.alpha
    let factor = level.sigma - carry * from.sigma
    return try combination([(carry, x)] + noises.map { (factor * $0, $1) })
  }
}
