import Foundation

/// Schedules of samplers whose levels may lie between training timesteps.
extension NoiseSchedule {
  /// The levels of Euler, Heun, LMS and DPM++ SDE. `halfway`: each step but the last has its middle, at the
  /// geometric mean of its ends' sigmas.
  func sigmaLevels(count: Int, halfway: Bool = false) throws -> Schedule {
    let training = try trainingSigmas()
    let logarithms = training.map { Double(log($0)) }
    var times: [Float] = []
    var sigmas: [Double]
    if let given = try givenSigmas() {
      sigmas = given.map { Double(Float($0)) }
    } else {
      times = try timesteps(count: count, default: .linspace, rounded: false).map { Float($0) }
      sigmas = times.map { interpolated(training, at: Double($0)) }
      if let sigmaSpacing {
        sigmas = try self.sigmas(sigmaSpacing, from: sigmas[0], to: sigmas[sigmas.count - 1], count: count)
        times = []
      }
    }
    if times.isEmpty { times = sigmas.map { Float(timestep(of: $0, in: logarithms)) } }
    var schedule = levels(times, sigmas, last: finalSigma == .zero ? 0 : Double(training[0]))
    if halfway {
      for index in sigmas.indices.dropLast() {
        let middle = (sigmas[index] * sigmas[index + 1]).squareRoot()
        schedule.steps[index].middle = NoiseLevel(
          timestep: Float(timestep(of: middle, in: logarithms)), noiseToSignal: middle)
      }
    }
    // Diffusers' Euler keeps x / alpha: it starts from noise * s or noise * sqrt(1 + s^2), and what it ends
    // with where some noise is left is not scaled back.
    if (timestepSpacing ?? .linspace) != .leading, let first = schedule.steps.first {
      schedule.initialScale = first.from.sigma
    }
    if finalSigma == .minimum {
      schedule.steps[schedule.steps.count - 1].to = NoiseLevel(
        timestep: 0, alpha: 1, sigma: Double(training[0]))
    }
    return try checked(schedule, count)
  }

  /// Which of diffusers' multistep solvers; they differ in how they lay out levels.
  enum Multistep { case dpm, uniPC }

  /// The levels of DPM++ multistep and UniPC: one interval more than steps, so that none falls on timestep 0. The
  /// network is told whole timesteps.
  func multistepLevels(count: Int, _ solver: Multistep) throws -> Schedule {
    let training = try trainingSigmas()
    let logarithms = training.map { Double(log($0)) }
    var times: [Float]
    let sigmas: [Double]
    let given = try givenSigmas()
    if given != nil || sigmaSpacing != nil {
      sigmas =
        try given
        ?? self.sigmas(
          sigmaSpacing ?? .karras, from: Double(training[training.count - 1]), to: Double(training[0]),
          count: count)
      // Diffusers casts to whole timesteps, having rounded only Karras' and not for this one schedule of betas.
      let isRounded = given != nil || sigmaSpacing == .karras
      let rule: FloatingPointRoundingRule =
        isRounded && !(solver == .dpm && betaSchedule == .squaredCosine) ? .toNearestOrEven : .down
      times = sigmas.map { Float(timestep(of: $0, in: logarithms).rounded(rule)) }
    } else {
      let clipped =
        solver == .uniPC
        ? 0
        : try alphasCumprod(clampingTerminal: true)
          .count { Double(log($0.squareRoot()) - log((1 - $0).squareRoot())) < lambdaMinClipped }
      times = try timesteps(
        count: count, default: .linspace, rounded: true, spare: 1, last: trainTimesteps - clipped
      ).map { Float($0) }
      sigmas = times.map { interpolated(training, at: Double($0)) }
    }
    return try checked(levels(times, sigmas, last: finalSigma == .zero ? 0 : Double(training[0])), count)
  }

  private func levels(_ times: [Float], _ sigmas: [Double], last: Double) -> Schedule {
    let chain = zip(times, sigmas).map { NoiseLevel(timestep: $0, noiseToSignal: Double(Float($1))) }
    return Schedule(levels: chain + [NoiseLevel(timestep: 0, noiseToSignal: Double(Float(last)))])
  }

  // MARK: Flows

  /// The sigmas of FlowMatchEulerDiscreteScheduler and FlowMatchHeunDiscreteScheduler: evenly from 1 to the training's
  /// least, which is shifted already, and then all of them shifted. The network is told sigma times
  /// `num_train_timesteps`.
  func flowLevels(count: Int) throws -> Schedule {
    var sigmas: [Double]
    if let given = try givenFlowSigmas() {
      sigmas = given
    } else {
      try checkFlow(count)
      let total = Double(trainTimesteps)
      let (most, least) = (shifted(Float(1)), shifted(1 / Float(trainTimesteps)))
      sigmas = linspace(Double(most) * total, Double(least) * total, count).map { shifted($0 / total) }
      if let sigmaSpacing {
        sigmas = try self.sigmas(sigmaSpacing, from: sigmas[0], to: sigmas[count - 1], count: count)
      }
    }
    return try flow(sigmas) { Float($0) * Float(trainTimesteps) }
  }

  /// The sigmas of UniPC and DPM++ multistep for a flow. The network is told the whole part of sigma times
  /// `num_train_timesteps`.
  ///
  /// UniPC (WAN 2.1): linspace(1, 1 / T, count + 1) without its last, shifted, and where the first is 1, 1e-6 less,
  /// since there is no signal at 1 whose logarithm could be taken. DPM++: 1 - that list from its other end, shifted.
  func multistepFlowLevels(count: Int, _ solver: Multistep) throws -> Schedule {
    guard finalSigma == .zero else {
      throw DiffusionError.configuration(
        field: "final_sigmas_type", reason: "sigma_min is not defined for a flow")
    }
    var sigmas: [Double]
    if let given = try givenFlowSigmas() {
      sigmas = given
    } else {
      try checkFlow(count)
      let even = linspace(1, 1 / Double(trainTimesteps), count + 1)
      switch (solver, sigmaSpacing) {
      case (.uniPC, nil): sigmas = even.dropLast().map { shifted($0) }
      case (.dpm, nil): sigmas = even.dropFirst().reversed().map { shifted(1 - $0) }
      case (.uniPC, .karras):
        // Of the betas' sigma / alpha, each then as a flow has it.
        let training = try trainingSigmas()
        sigmas = try self.sigmas(
          .karras, from: Double(training[training.count - 1]), to: Double(training[0]), count: count
        ).map { $0 / ($0 + 1) }
      case (_, let spacing?):
        throw DiffusionError.unsupportedSetting(
          field: "use_\(spacing.rawValue)_sigmas", sampler: "multistep samplers of a flow")
      }
    }
    if let first = sigmas.first, abs(first - 1) < 1e-6 { sigmas[0] = first - 1e-6 }
    return try flow(sigmas) { Float(($0 * Double(trainTimesteps)).rounded(.down)) }
  }

  private func givenFlowSigmas() throws -> [Double]? {
    if case .theseTimesteps = levels {
      return try timesteps(count: 1, default: .linspace, rounded: true).map { $0 / Double(trainTimesteps) }
    }
    return try givenSigmas()
  }

  private func checkFlow(_ count: Int) throws {
    guard (1...1_000_000).contains(trainTimesteps) else {
      throw DiffusionError.configuration(
        field: "num_train_timesteps", reason: "\(trainTimesteps) is not within 1 and 1000000")
    }
    guard flowShift.isFinite, flowShift > 0 else {
      throw DiffusionError.configuration(field: "shift", reason: "\(flowShift) is not above 0")
    }
    guard (1...trainTimesteps).contains(count) else {
      throw DiffusionError.stepCount(requested: count, reason: "1 to \(trainTimesteps) are possible")
    }
  }

  private func flow(_ sigmas: [Double], timestep: (Double) -> Float) throws -> Schedule {
    var times = sigmas.map(timestep)
    if case .theseTimesteps(let given) = levels { times = given.map { Float($0) } }
    let chain = zip(times, sigmas).map { NoiseLevel(timestep: $0, flowSigma: Double(Float($1))) }
    let end = NoiseLevel(timestep: 0, flowSigma: 0)
    return try checked(Schedule(levels: chain + [end], path: .flow), sigmas.count)
  }

  private func shifted(_ sigma: Double) -> Double { flowShift * sigma / (1 + (flowShift - 1) * sigma) }
  private func shifted(_ sigma: Float) -> Float {
    Float(flowShift) * sigma / (1 + Float(flowShift - 1) * sigma)
  }
}
