import Foundation

/// Schedules of samplers whose levels may lie between training timesteps.
extension LevelRequest {
  /// The levels of Euler, Heun, LMS and DPM++ SDE. `halfway`: each step but the last has its middle, at the
  /// geometric mean of its ends' sigmas.
  public func sigmaLevels(
    _ timesteps: TimestepSettings = TimestepSettings(), _ sigmas: SigmaSettings = SigmaSettings(),
    halfway: Bool = false
  ) throws -> Schedule {
    let (timestepSettings, settings) = try resolved(timesteps, sigmas)
    let training = try trainingSigmas()
    let logarithms = training.map { Double(log($0)) }
    var times: [Float] = []
    var sigmas: [Double]
    if let given = try givenSigmas() {
      sigmas = given.map { Double(Float($0)) }
    } else {
      times = try self.timesteps(timestepSettings, rounded: false).map { Float($0) }
      sigmas = times.map { interpolated(training, at: Double($0)) }
      if let spacing = settings.spacing {
        sigmas = try self.sigmas(spacing, settings, from: sigmas[0], to: sigmas[sigmas.count - 1])
        times = []
      }
    }
    if times.isEmpty { times = sigmas.map { Float(timestep(of: $0, in: logarithms)) } }
    var schedule = levels(times, sigmas, last: settings.final == .zero ? 0 : Double(training[0]))
    if halfway {
      for index in sigmas.indices.dropLast() {
        let middle = (sigmas[index] * sigmas[index + 1]).squareRoot()
        schedule.steps[index].middle = NoiseLevel(
          timestep: Float(timestep(of: middle, in: logarithms)), noiseToSignal: middle)
      }
    }
    // Diffusers' Euler keeps x / alpha: it starts from noise * s or noise * sqrt(1 + s^2), and what it ends
    // with where some noise is left is not scaled back.
    if timestepSettings.spacing != .leading, let first = schedule.steps.first {
      schedule.initialScale = first.from.sigma
    }
    if settings.final == .minimum {
      schedule.steps[schedule.steps.count - 1].to = NoiseLevel(
        timestep: 0, alpha: 1, sigma: Double(training[0]))
    }
    return schedule
  }

  /// Which of diffusers' multistep solvers; they differ in how they lay out levels.
  enum Multistep { case dpm, uniPC }

  /// The levels of DPM++ multistep and UniPC: one interval more than steps, so that none falls on timestep 0.
  /// The network is told whole timesteps.
  func multistepLevels(
    _ solver: Multistep, _ timesteps: TimestepSettings, _ sigmas: SigmaSettings,
    lambdaMin: Double = -.infinity
  ) throws -> Schedule {
    let (timestepSettings, settings) = try resolved(timesteps, sigmas)
    let training = try trainingSigmas()
    let logarithms = training.map { Double(log($0)) }
    var times: [Float]
    let sigmas: [Double]
    let given = try givenSigmas()
    if given != nil || settings.spacing != nil {
      sigmas =
        try given
        ?? self.sigmas(
          settings.spacing ?? .karras, settings, from: Double(training[training.count - 1]),
          to: Double(training[0]))
      // Diffusers casts to whole timesteps, having rounded only Karras' and not for this one schedule of
      // betas.
      let isRounded = given != nil || settings.spacing == .karras
      let rule: FloatingPointRoundingRule =
        isRounded && !(solver == .dpm && noise.betaSchedule == .squaredCosine) ? .toNearestOrEven : .down
      times = sigmas.map { Float(timestep(of: $0, in: logarithms).rounded(rule)) }
    } else {
      let clipped =
        lambdaMin == -.infinity
        ? 0
        : try noise.alphasCumprod(clampingTerminal: true)
          .count { Double(log($0.squareRoot()) - log((1 - $0).squareRoot())) < lambdaMin }
      times = try self.timesteps(
        timestepSettings, rounded: true, spare: 1, last: trainTimesteps - clipped
      ).map { Float($0) }
      sigmas = times.map { interpolated(training, at: Double($0)) }
    }
    return levels(times, sigmas, last: settings.final == .zero ? 0 : Double(training[0]))
  }

  private func levels(_ times: [Float], _ sigmas: [Double], last: Double) -> Schedule {
    let chain = zip(times, sigmas).map { NoiseLevel(timestep: $0, noiseToSignal: Double(Float($1))) }
    return Schedule(levels: chain + [NoiseLevel(timestep: 0, noiseToSignal: Double(Float(last)))])
  }
}
