import Foundation

/// How each family of diffusers' schedulers turns a number of steps into noise levels.
extension NoiseSchedule {
  /// The chain of DDPM and DDIM: training timesteps only.
  ///
  /// `fixedStride`: each step goes back by `num_train_timesteps / count` (DDIM) rather than to the next
  /// timestep of the list (DDPM).
  func chain(count: Int, fixedStride: Bool) throws -> Schedule {
    let alphas = try alphasCumprod()
    let times = try timesteps(count: count, spacing: timestepSpacing ?? .leading, rounded: true).map {
      Int($0)
    }
    let end = fixedStride && !setAlphaToOne ? alphas[0] : 1
    let steps = times.indices.map { index in
      let t = times[index]
      let previous = fixedStride ? t - trainTimesteps / count : index + 1 < count ? times[index + 1] : -1
      return Schedule.Step(
        from: NoiseLevel(timestep: Float(t), alphaCumprod: alphas[t]),
        to: NoiseLevel(
          timestep: Float(max(previous, 0)), alphaCumprod: previous >= 0 ? alphas[previous] : end))
    }
    return try checked(Schedule(steps: steps), count)
  }

  /// The levels of Euler and Euler ancestral, which may lie between training timesteps.
  func eulerLevels(count: Int, karras: Bool) throws -> Schedule {
    let spacing = timestepSpacing ?? .linspace
    let training = try trainingSigmas()
    var times = try timesteps(count: count, spacing: spacing, rounded: false).map { Float($0) }
    var sigmas = times.map { interpolated(training, at: Double($0)) }
    if karras {
      sigmas = karrasSigmas(from: sigmas[0], to: sigmas[sigmas.count - 1], count: count)
      let logarithms = training.map { Double(log($0)) }
      times = sigmas.map { Float(timestep(of: $0, in: logarithms)) }
    }
    var schedule = levels(times, sigmas, last: finalSigma == .zero ? 0 : Double(training[0]))
    // Diffusers' Euler keeps x / alpha: it starts from noise * s or noise * sqrt(1 + s^2), and what it ends
    // with where some noise is left is not scaled back.
    if spacing != .leading, let first = schedule.steps.first { schedule.initialScale = first.from.sigma }
    if finalSigma == .minimum {
      schedule.steps[count - 1].to = NoiseLevel(timestep: 0, alpha: 1, sigma: Double(training[0]))
    }
    return try checked(schedule, count)
  }

  /// The levels of DPM++ multistep: one interval more than steps, so that none falls on timestep 0.
  func multistepLevels(count: Int, karras: Bool) throws -> Schedule {
    let training = try trainingSigmas()
    let logarithms = training.map { Double(log($0)) }
    var times: [Float]
    let sigmas: [Double]
    if karras {
      guard count > 0 else {
        throw DiffusionError.stepCount(requested: count, reason: "at least 1 is needed")
      }
      sigmas = karrasSigmas(from: Double(training[training.count - 1]), to: Double(training[0]), count: count)
      // Diffusers casts to whole timesteps, having rounded except for this one schedule of betas.
      times = sigmas.map {
        let t = timestep(of: $0, in: logarithms)
        return Float(betaSchedule == .squaredCosine ? t.rounded(.down) : t.rounded(.toNearestOrEven))
      }
    } else {
      let clipped = try alphasCumprod(clampingTerminal: true)
        .count { Double(log($0.squareRoot()) - log((1 - $0).squareRoot())) < lambdaMinClipped }
      times = try timesteps(
        count: count, spacing: timestepSpacing ?? .linspace, rounded: true, spare: 1,
        last: trainTimesteps - clipped
      ).map { Float($0) }
      sigmas = times.map { interpolated(training, at: Double($0)) }
    }
    return try checked(levels(times, sigmas, last: finalSigma == .zero ? 0 : Double(training[0])), count)
  }

  // MARK: Timesteps

  /// Descending timesteps; `spare` more are laid out, and dropped at the end, below `last`.
  private func timesteps(
    count: Int, spacing: Spacing, rounded: Bool, spare: Int = 0, last: Int? = nil
  ) throws -> [Double] {
    let last = last ?? trainTimesteps
    guard count > 0 else { throw DiffusionError.stepCount(requested: count, reason: "at least 1 is needed") }
    guard count <= trainTimesteps else {
      throw DiffusionError.stepCount(
        requested: count, reason: "the model was trained on \(trainTimesteps) timesteps and cannot take more")
    }
    let points = count + spare
    var times: [Double]
    switch spacing {
    case .linspace:
      times = linspace(0, Double(last - 1), points).reversed()
      if rounded { times = times.map { $0.rounded(.toNearestOrEven) } }
      times.removeLast(spare)
    case .leading:
      times = (0..<points).reversed().map { Double($0 * (last / points)) }
      times.removeLast(spare)
      times = times.map { $0 + Double(stepsOffset) }
    case .trailing:
      // NumPy's arange: the stride is the difference of its first two values.
      let start = Double(last)
      let ratio = Double(trainTimesteps) / Double(count)
      let stride = (start - ratio) - start
      let kept = spare == 0 ? count : Int((start / ratio).rounded(.up))
      times = (0..<kept).map { (start + Double($0) * stride).rounded(.toNearestOrEven) - 1 }
    }
    guard let first = times.first, let least = times.last, first < Double(trainTimesteps), least >= 0 else {
      throw DiffusionError.stepCount(
        requested: count,
        reason: "with steps_offset \(stepsOffset) they leave the \(trainTimesteps) timesteps of the training")
    }
    return times
  }

  // MARK: Sigmas

  /// sigma / alpha of each training timestep.
  private func trainingSigmas() throws -> [Float] {
    try alphasCumprod(clampingTerminal: true).map { ((1 - $0) / $0).squareRoot() }
  }

  /// Evenly spaced in sigma^(1/7): arXiv:2206.00364, eq. 5.
  private func karrasSigmas(from first: Double, to last: Double, count: Int) -> [Double] {
    let rho = 7.0
    let high = pow(sigmaMax ?? first, 1 / rho)
    let low = pow(sigmaMin ?? last, 1 / rho)
    return linspace(0, 1, count).map { pow(high + $0 * (low - high), rho) }
  }

  /// The training timestep at which the logarithm of sigma would be `log(sigma)`, between its neighbours by
  /// linear interpolation.
  private func timestep(of sigma: Double, in logarithms: [Double]) -> Double {
    guard logarithms.count > 1 else { return 0 }
    let target = log(max(sigma, 1e-10))
    let low = min(logarithms.lastIndex { $0 <= target } ?? 0, logarithms.count - 2)
    let weight = (logarithms[low] - target) / (logarithms[low] - logarithms[low + 1])
    let clamped = min(max(weight, 0), 1)
    return (1 - clamped) * Double(low) + clamped * Double(low + 1)
  }

  private func interpolated(_ values: [Float], at position: Double) -> Double {
    let low = min(Int(position), values.count - 1)
    guard low + 1 < values.count else { return Double(values[low]) }
    let (a, b) = (Double(values[low]), Double(values[low + 1]))
    return a + (b - a) * (position - Double(low))
  }

  // MARK: Assembly

  private func levels(_ times: [Float], _ sigmas: [Double], last: Double) -> Schedule {
    let chain = zip(times, sigmas).map { NoiseLevel(timestep: $0, noiseToSignal: Double(Float($1))) }
    return Schedule(levels: chain + [NoiseLevel(timestep: 0, noiseToSignal: Double(Float(last)))])
  }

  /// Every step must have noise to remove, and may not add any.
  private func checked(_ schedule: Schedule, _ count: Int) throws -> Schedule {
    for step in schedule.steps
    where !(step.from.sigma > 0 && step.from.noiseToSignal >= step.to.noiseToSignal && step.to.alpha > 0) {
      throw DiffusionError.stepCount(
        requested: count, reason: "the noise does not fall from timestep \(step.from.timestep)")
    }
    for (a, b) in zip(schedule.steps, schedule.steps.dropFirst())
    where a.from.noiseToSignal <= b.from.noiseToSignal {
      throw DiffusionError.stepCount(
        requested: count, reason: "too many: two of them share timestep \(b.from.timestep)")
    }
    return schedule
  }
}

private func linspace(_ start: Double, _ end: Double, _ count: Int) -> [Double] {
  guard count > 1 else { return [start] }
  let step = (end - start) / Double(count - 1)
  return (0..<count).map { $0 == count - 1 ? end : Double($0) * step + start }
}
