import LangevinTensor

/// The samplers by the names that the tool knows them by.
public enum Sampler: String, Sendable, CaseIterable {
  case ddpm
  case ddim
  case euler
  case eulerAncestral = "euler-a"
  case dpmpp2M = "dpmpp-2m"
  case dpmpp2MKarras = "dpmpp-2m-karras"

  /// The levels that diffusers' scheduler of this kind, built from the same file, goes through in `steps` steps.
  ///
  /// `use_karras_sigmas` of the file is honoured by `euler` and `dpmpp-2m` and forced by `dpmpp-2m-karras`;
  /// `algorithm_type`, `solver_type` and `solver_order` are what a sampler's name says, not what the file says.
  /// Throws `DiffusionError.unsupportedSetting`, `.configuration` or `.stepCount`.
  public func schedule(_ config: NoiseSchedule, steps: Int) throws -> Schedule {
    if let field = config.unsupported.intersection(settingsRead).min() {
      throw DiffusionError.unsupportedSetting(field: field, sampler: rawValue)
    }
    switch self {
    case .ddpm: return try config.chain(count: steps, fixedStride: false)
    case .ddim: return try config.chain(count: steps, fixedStride: true)
    case .euler: return try config.eulerLevels(count: steps, karras: config.useKarrasSigmas)
    case .eulerAncestral:
      var config = config
      config.finalSigma = .zero
      return try config.eulerLevels(count: steps, karras: false)
    case .dpmpp2M: return try config.multistepLevels(count: steps, karras: config.useKarrasSigmas)
    case .dpmpp2MKarras: return try config.multistepLevels(count: steps, karras: true)
    }
  }

  /// Runs the sampler: x float32 [N, ..., C], as `Schedule.initial` or `addingNoise` gives it, to a clean
  /// latent of the same shape.
  ///
  /// `eta` is DDIM's and has no effect on the others. `config` says what else the reference would do on the
  /// way: clip, DDPM's variance, the order of the last step.
  public func sample(
    _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, config: NoiseSchedule,
    eta: Double = 0,
    noise: inout NoiseSource, progress: Progress? = nil
  ) throws -> Tensor {
    let clip = config.clipSample ?? true ? config.clipSampleRange : nil
    switch self {
    case .ddpm:
      if let clip {
        return try LangevinDiffusion.ddpm(
          Clipped(denoiser, limit: Float(clip)), from: x, along: schedule, variance: config.variance,
          noise: &noise, progress: progress)
      }
      return try LangevinDiffusion.ddpm(
        denoiser, from: x, along: schedule, variance: config.variance, noise: &noise, progress: progress)
    case .ddim:
      return try LangevinDiffusion.ddim(
        denoiser, from: x, along: schedule, eta: eta, clip: clip, noise: &noise, progress: progress)
    case .euler:
      return try LangevinDiffusion.euler(
        denoiser, from: x, along: schedule, noise: &noise, progress: progress)
    case .eulerAncestral:
      return try LangevinDiffusion.eulerAncestral(
        denoiser, from: x, along: schedule, noise: &noise, progress: progress)
    case .dpmpp2M, .dpmpp2MKarras:
      return try LangevinDiffusion.dpmpp2M(
        denoiser, from: x, along: schedule,
        firstOrderLast: config.eulerAtFinal || config.lowerOrderFinal && schedule.fullCount < 15,
        progress: progress)
    }
  }

  /// Which of the settings that nothing here implements the reference's class would read.
  private var settingsRead: Set<String> {
    switch self {
    case .ddpm: ["thresholding", "variance_type"]
    case .ddim: ["thresholding"]
    case .euler: ["interpolation_type", "timestep_type", "use_exponential_sigmas", "use_beta_sigmas"]
    case .eulerAncestral: []
    case .dpmpp2M, .dpmpp2MKarras:
      [
        "thresholding", "variance_type", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
        "use_flow_sigmas",
      ]
    }
  }
}
