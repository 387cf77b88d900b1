/// Schedules of samplers that visit training timesteps only.
extension NoiseSchedule {
  /// The chain of DDPM, DDIM and PNDM.
  ///
  /// `fixedStride`: each step goes back by `num_train_timesteps / count` (DDIM) rather than to the next
  /// timestep of the list. `toClean`: the last arrives at no noise rather than at timestep 0's. `halfway`: each but
  /// the last has its middle, half a stride above its end.
  func chain(count: Int, fixedStride: Bool, toClean: Bool, halfway: Bool = false) throws -> Schedule {
    let times = try timesteps(count: count, default: .leading, rounded: true).map { Int($0) }
    guard fixedStride else {
      return try chain(times, toClean: toClean, middle: halfway ? trainTimesteps / count / 2 : nil)
    }
    let alphas = try alphasCumprod()
    let steps = times.map { t in
      let previous = t - trainTimesteps / count
      let alpha = previous >= 0 ? alphas[previous] : toClean ? 1 : alphas[0]
      return Schedule.Step(
        from: NoiseLevel(timestep: Float(t), alphaCumprod: alphas[t]),
        to: NoiseLevel(timestep: Float(max(previous, 0)), alphaCumprod: alpha))
    }
    return try checked(Schedule(steps: steps), count)
  }

  /// The chain of unCLIP: evenly from the last training timestep to the first, both included. Every step's beta is
  /// that of the ratio of its ends' alphas.
  ///
  /// Throws `DiffusionError.stepCount` for one step alone, whose stride is not defined.
  func unCLIPChain(count: Int) throws -> Schedule {
    if case .theseTimesteps = levels {
      return try chain(count: count, fixedStride: false, toClean: true)
    }
    guard count > 1 else {
      throw DiffusionError.stepCount(requested: count, reason: "unclip needs at least 2")
    }
    let stride = Double(trainTimesteps - 1) / Double(count - 1)
    let times = (0..<count).reversed().map { Int((Double($0) * stride).rounded(.toNearestOrEven)) }
    return try chain(times, toClean: true)
  }

  /// The chain of LCM: among the timesteps of the distillation, arXiv:2310.04378, section 4.3. The last step arrives
  /// at no noise.
  func lcmChain(count: Int) throws -> Schedule {
    if case .theseTimesteps = levels {
      return try chain(count: count, fixedStride: false, toClean: true)
    }
    guard originalInferenceSteps >= 1, originalInferenceSteps <= trainTimesteps else {
      throw DiffusionError.configuration(
        field: "original_inference_steps",
        reason: "\(originalInferenceSteps) is not within 1 and \(trainTimesteps)")
    }
    guard (1...originalInferenceSteps).contains(count) else {
      throw DiffusionError.stepCount(
        requested: count,
        reason: "lcm takes 1 to the \(originalInferenceSteps) that its model was distilled from")
    }
    let skipped = trainTimesteps / originalInferenceSteps
    let stride = Double(originalInferenceSteps) / Double(count)
    let times = (0..<count).map { (originalInferenceSteps - Int(Double($0) * stride)) * skipped - 1 }
    return try chain(times, toClean: true)
  }

  /// From each of these timesteps to the next.
  private func chain(_ times: [Int], toClean: Bool, middle: Int? = nil) throws -> Schedule {
    let alphas = try alphasCumprod()
    func level(_ t: Int) -> NoiseLevel { NoiseLevel(timestep: Float(t), alphaCumprod: alphas[t]) }
    let end = NoiseLevel(timestep: 0, alphaCumprod: toClean ? 1 : alphas[0])
    let steps = times.indices.map { index in
      let next = index + 1 < times.count ? times[index + 1] : nil
      return Schedule.Step(
        from: level(times[index]),
        middle: next.flatMap { next in middle.map { level(min(next + $0, times[index])) } },
        to: next.map(level) ?? end)
    }
    return try checked(Schedule(steps: steps), times.count)
  }
}
