import Foundation

/// Schedules of flows.
extension LevelRequest {
  /// The sigmas of FlowMatchEulerDiscreteScheduler and FlowMatchHeunDiscreteScheduler: evenly from 1 to the
  /// `flowEnd`, by default the training's least, which is shifted already, and then all of them shifted. The network is told sigma
  /// times `num_train_timesteps`.
  public func flowLevels(_ settings: SigmaSettings = SigmaSettings()) throws -> Schedule {
    var sigmas: [Double]
    if let given = try givenFlowSigmas() {
      sigmas = given
    } else {
      try checkFlow()
      let total = Double(trainTimesteps)
      let least: Float
      switch noise.flowEnd {
      case .shiftedTraining: least = shifted(1 / Float(trainTimesteps))
      case .training: least = 1 / Float(trainTimesteps)
      case .lastStep: least = 1 / Float(count)
      }
      sigmas = linspace(total, Double(least) * total, count).map { shifted($0 / total) }
      if let spacing = try resolved(TimestepSettings(), settings).sigmas.spacing {
        sigmas = try self.sigmas(spacing, settings, from: sigmas[0], to: sigmas[count - 1])
      }
    }
    return flow(sigmas) { Float($0) * Float(trainTimesteps) }
  }

  /// The sigmas of UniPC and DPM++ multistep for a flow. The network is told the whole part of sigma times
  /// `num_train_timesteps`.
  ///
  /// UniPC (WAN 2.1): linspace(1, 1 / T, count + 1) without its last, shifted, and where the first is 1, 1e-6
  /// less, since there is no signal at 1 whose logarithm could be taken. DPM++: 1 - that list from its other
  /// end, shifted.
  func multistepFlowLevels(_ solver: Multistep, _ settings: SigmaSettings) throws -> Schedule {
    guard settings.final == .zero else {
      throw DiffusionError.configuration(
        field: "final_sigmas_type", reason: "sigma_min is not defined for a flow")
    }
    var sigmas: [Double]
    if let given = try givenFlowSigmas() {
      sigmas = given
    } else {
      try checkFlow()
      let even = linspace(1, 1 / Double(trainTimesteps), count + 1)
      switch (solver, try resolved(TimestepSettings(), settings).sigmas.spacing) {
      case (.uniPC, nil): sigmas = even.dropLast().map { shifted($0) }
      case (.dpm, nil): sigmas = even.dropFirst().reversed().map { shifted(1 - $0) }
      case (.uniPC, .karras):
        // Of the betas' sigma / alpha, each then as a flow has it.
        let training = try trainingSigmas()
        sigmas = try self.sigmas(
          .karras, settings, from: Double(training[training.count - 1]), to: Double(training[0])
        ).map { $0 / ($0 + 1) }
      case (_, let spacing?):
        throw DiffusionError.unsupportedSetting(
          field: "use_\(spacing.rawValue)_sigmas", sampler: "multistep samplers of a flow")
      }
    }
    if let first = sigmas.first, abs(first - 1) < 1e-6 { sigmas[0] = first - 1e-6 }
    return flow(sigmas) { Float(($0 * Double(trainTimesteps)).rounded(.down)) }
  }

  private func givenFlowSigmas() throws -> [Double]? {
    if hasTimesteps {
      return try timesteps(TimestepSettings(), rounded: true).map { $0 / Double(trainTimesteps) }
    }
    return try givenSigmas()
  }

  private func checkFlow() throws {
    guard (1...trainTimesteps).contains(count) else {
      throw DiffusionError.stepCount(requested: count, reason: "1 to \(trainTimesteps) are possible")
    }
  }

  private func flow(_ sigmas: [Double], timestep: (Double) -> Float) -> Schedule {
    var times = sigmas.map(timestep)
    if case .theseTimesteps(let given) = choice { times = given.map { Float($0) } }
    let chain = zip(times, sigmas).map { NoiseLevel(timestep: $0, flowSigma: Double(Float($1))) }
    let end = NoiseLevel(timestep: 0, flowSigma: 0)
    return Schedule(levels: chain + [end], path: .flow)
  }

  private func shifted(_ sigma: Double) -> Double {
    noise.flowShift * sigma / (1 + (noise.flowShift - 1) * sigma)
  }
  private func shifted(_ sigma: Float) -> Float {
    Float(noise.flowShift) * sigma / (1 + Float(noise.flowShift - 1) * sigma)
  }
}
