import LangevinTensor

/// The samplers by the names that the tool knows them by.
///
/// A pipeline goes
/// ```swift
/// let config = try NoiseSchedule(json: file)
/// let choice = config.sampler ?? .ddim
/// let schedule = try choice.schedule(config, steps: 50)
/// var noise = NoiseSource(.philox, seeds: seeds, on: device)
/// let start = try schedule.initial(noise: noise.normal(shape, for: .initial))
/// let denoiser = NetworkDenoiser(config.prediction) { x, timestep in … }
/// let latent = try choice.make(config).sample(denoiser, from: start, along: schedule, noise: &noise)
/// ```
/// For WAN 2.1 the file says UniPC with a flow's sigmas, so that `sampler` is `.uniPC`, `prediction` `.flow` and each
/// timestep what the reference gives the network; `config.flowShift` is 3 at 480p and 5 at 720p.
///
/// For unCLIP the prior's, the decoder's and the super-resolution's file each say `.unCLIP`. The prior's latent is [N,
/// 768]; it predicts the sample and is clipped at 5. The other two networks return [N, H, W, 2C], the noise and the
/// variance's mix; `ClassifierFreeGuidance` guides the first and takes the second from the prompt's half.
public enum SamplerChoice: String, Sendable, CaseIterable {
  case ddpm
  case ddim
  case euler
  case eulerAncestral = "euler-a"
  case heun
  case lms
  case dpmpp2M = "dpmpp-2m"
  case dpmpp2MKarras = "dpmpp-2m-karras"
  case dpmpp2MSDE = "dpmpp-2m-sde"
  case dpmppSDE = "dpmpp-sde"
  case uniPC = "unipc"
  case pndm
  case lcm
  case unCLIP = "unclip"

  /// The levels that diffusers' scheduler of this kind, built from the same file, goes through in `steps` steps; of
  /// a flow, those of FlowMatchEulerDiscreteScheduler and FlowMatchHeunDiscreteScheduler where the sampler is `euler`
  /// or `heun`.
  ///
  /// `config.levels`, where set, comes before what the file says of spacing. `use_karras_sigmas` of the file is
  /// forced by `dpmpp-2m-karras`; `algorithm_type` is what a sampler's name says, not what the file says. Diffusers'
  /// PNDM steps back by a fixed stride; here it steps to the next timestep, which is the same for leading spacing.
  /// Throws `DiffusionError.unsupportedSetting`, `.unsupportedLevels`, `.flowModel`, `.configuration` or `.stepCount`.
  public func schedule(_ config: NoiseSchedule, steps: Int) throws -> Schedule {
    try config.checkRanges()
    let config = resolved(config)
    try check(config, steps)
    let isFlow = config.path == .flow
    var isGiven = false
    if case .theseTimesteps = config.levels { isGiven = true }
    switch self {
    case .ddpm: return try config.chain(count: steps, fixedStride: false, toClean: true)
    case .ddim:
      return try config.chain(count: steps, fixedStride: !isGiven, toClean: config.setAlphaToOne ?? true)
    case .pndm:
      return try config.chain(
        count: steps, fixedStride: false, toClean: config.setAlphaToOne ?? false,
        halfway: !config.skipPRKSteps)
    case .lcm: return try config.lcmChain(count: steps)
    case .unCLIP: return try config.unCLIPChain(count: steps)
    case .euler, .heun:
      return try isFlow ? config.flowLevels(count: steps) : config.sigmaLevels(count: steps)
    case .eulerAncestral, .lms: return try config.sigmaLevels(count: steps)
    case .dpmppSDE: return try config.sigmaLevels(count: steps, halfway: true)
    case .dpmpp2M, .dpmpp2MKarras, .dpmpp2MSDE:
      return try isFlow
        ? config.multistepFlowLevels(count: steps, .dpm) : config.multistepLevels(count: steps, .dpm)
    case .uniPC:
      return try isFlow
        ? config.multistepFlowLevels(count: steps, .uniPC) : config.multistepLevels(count: steps, .uniPC)
    }
  }

  /// The sampler with a file's settings. `eta` is DDIM's and has no effect on the others.
  ///
  /// Throws `DiffusionError.configuration`.
  public func make(_ config: NoiseSchedule, eta: Double = 0) throws -> any Sampler {
    try config.checkRanges()
    let limit = limit(config)
    let ending = DPMEnding(lowerOrderFinal: config.lowerOrderFinal, eulerAtFinal: config.eulerAtFinal)
    switch self {
    case .ddpm, .unCLIP: return DDPMSampler(variance: config.variance, limit: limit)
    case .ddim: return DDIMSampler(eta: eta, limit: limit)
    case .euler: return EulerSampler()
    case .eulerAncestral: return EulerAncestralSampler()
    case .heun: return HeunSampler(limit: limit)
    case .lms: return LMSSampler()
    case .dpmpp2M, .dpmpp2MKarras: return DPMpp2MSampler(ending: ending, limit: limit)
    case .dpmpp2MSDE: return DPMpp2MSDESampler(ending: ending, limit: limit)
    case .dpmppSDE: return DPMppSDESampler()
    case .uniPC:
      return UniPCSampler(
        order: config.solverOrder, solver: config.solverType, predictX0: config.predictX0,
        lowerOrderFinal: config.lowerOrderFinal, uncorrected: config.disableCorrector, limit: limit)
    case .pndm: return PNDMSampler()
    case .lcm: return LCMSampler(timestepScaling: config.timestepScaling, limit: limit)
    }
  }

  /// The file's settings with the user's choice of levels in their place, and with what a sampler's name says.
  private func resolved(_ config: NoiseSchedule) -> NoiseSchedule {
    var config = config
    switch config.levels {
    case .timesteps(let spacing): (config.timestepSpacing, config.sigmaSpacing) = (spacing, nil)
    case .sigmas(let spacing): config.sigmaSpacing = spacing
    case .theseSigmas, .theseTimesteps: config.sigmaSpacing = nil
    case nil: if self == .eulerAncestral { config.sigmaSpacing = nil }
    }
    switch self {
    case .heun, .lms, .eulerAncestral, .dpmppSDE: config.finalSigma = .zero
    case .dpmpp2MKarras: config.sigmaSpacing = .karras
    default: break
    }
    return config
  }

  /// What the reference's class does to a guess of pixels.
  private func limit(_ config: NoiseSchedule) -> Limit? {
    let clips: Bool
    let thresholds: Bool
    switch self {
    case .ddpm, .ddim: (clips, thresholds) = (config.clipSample ?? true, config.thresholding)
    case .unCLIP: (clips, thresholds) = (config.clipSample ?? true, false)
    case .lcm: (clips, thresholds) = (config.clipSample ?? false, config.thresholding)
    case .heun: (clips, thresholds) = (config.path != .flow && config.clipSample ?? false, false)
    case .dpmpp2M, .dpmpp2MKarras, .dpmpp2MSDE: (clips, thresholds) = (false, config.thresholding)
    case .uniPC: (clips, thresholds) = (false, config.thresholding && config.predictX0)
    case .euler, .eulerAncestral, .lms, .dpmppSDE, .pndm: (clips, thresholds) = (false, false)
    }
    if thresholds {
      return .dynamic(quantile: config.thresholdingRatio, maximum: config.sampleMaxValue)
    }
    return clips ? .clip(Float(config.clipSampleRange)) : nil
  }

  // MARK: What cannot be

  private func check(_ config: NoiseSchedule, _ steps: Int) throws {
    if let field = config.unsupported.intersection(settingsRead(config)).min() {
      throw DiffusionError.unsupportedSetting(field: field, sampler: rawValue)
    }
    if config.path == .flow && !followsFlows { throw DiffusionError.flowModel(sampler: rawValue) }
    if config.path != .flow && config.prediction == .flow {
      throw DiffusionError.configuration(
        field: "prediction_type", reason: "flow_prediction needs use_flow_sigmas")
    }
    switch self {
    case .pndm:
      // Its second stage would take the noise for the signal.
      if config.rescaleBetasZeroSNR {
        throw DiffusionError.unsupportedSetting(field: "rescale_betas_zero_snr", sampler: rawValue)
      }
      if !config.skipPRKSteps && steps < 4 {
        throw DiffusionError.stepCount(
          requested: steps, reason: "pndm needs at least 4 where skip_prk_steps is false")
      }
    case .uniPC:
      guard (1...3).contains(config.solverOrder) else {
        throw DiffusionError.configuration(field: "solver_order", reason: "it is not within 1 and 3")
      }
      if !config.predictX0 && (config.finalSigma == .zero || config.path == .flow) {
        throw DiffusionError.configuration(
          field: "predict_x0",
          reason:
            "false is not defined where no noise is left: it needs final_sigmas_type sigma_min and no flow")
      }
      if config.finalSigma == .minimum && config.sigmaSpacing != nil {
        throw DiffusionError.configuration(
          field: "final_sigmas_type", reason: "with sigmas spaced by rule the last step would go nowhere")
      }
    default: break
    }
    if let levels = config.levels { try check(levels, config, steps) }
  }

  private func check(_ levels: NoiseSchedule.Levels, _ config: NoiseSchedule, _ steps: Int) throws {
    func refuse(_ reason: String) -> DiffusionError {
      .unsupportedLevels(choice: levels.name, sampler: rawValue, reason: reason)
    }
    if let count = levels.count, count != steps {
      throw DiffusionError.stepCount(requested: steps, reason: "\(levels.name) are \(count)")
    }
    if case .timesteps = levels, config.path == .flow { throw refuse("a flow's sigmas are shifted instead") }
    guard takes(levels) else {
      throw refuse(spacings.isEmpty ? "it has its own" : "it takes \(spacings.joined(separator: ", "))")
    }
  }

  /// Which of the settings that nothing here implements the reference's class would read.
  private func settingsRead(_ config: NoiseSchedule) -> Set<String> {
    if config.path == .flow {
      return [
        "use_dynamic_shifting", "shift_terminal", "invert_sigmas", "stochastic_sampling", "solver_p",
      ]
    }
    switch self {
    case .ddpm, .unCLIP: return ["variance_type"]
    case .euler: return ["interpolation_type", "timestep_type"]
    case .dpmpp2M, .dpmpp2MKarras, .dpmpp2MSDE: return ["use_lu_lambdas"]
    case .uniPC: return ["solver_p"]
    case .ddim, .eulerAncestral, .heun, .lms, .dpmppSDE, .pndm, .lcm: return []
    }
  }
}
