/// Schedules of samplers that visit training timesteps only.
extension LevelRequest {
  /// The chain of DDPM, DDIM and PNDM.
  ///
  /// `fixedStride`: each step goes back by `num_train_timesteps / steps` (DDIM) rather than to the next
  /// timestep of the list. `toClean`: the last arrives at no noise rather than at timestep 0's. `halfway`:
  /// each but the last has its middle, half a stride above its end.
  public func chain(
    _ timesteps: TimestepSettings = TimestepSettings(.leading), fixedStride: Bool = false,
    toClean: Bool = true,
    halfway: Bool = false
  ) throws -> Schedule {
    let times = try self.timesteps(resolved(timesteps).timesteps, rounded: true).map { Int($0) }
    guard fixedStride else {
      return try chain(times, toClean: toClean, middle: halfway ? trainTimesteps / count / 2 : nil)
    }
    let alphas = try noise.alphasCumprod()
    return Schedule(
      steps: times.map { t in
        let previous = t - trainTimesteps / count
        let alpha = previous >= 0 ? alphas[previous] : toClean ? 1 : alphas[0]
        return Schedule.Step(
          from: NoiseLevel(timestep: Float(t), alphaCumprod: alphas[t]),
          to: NoiseLevel(timestep: Float(max(previous, 0)), alphaCumprod: alpha))
      })
  }

  /// From each of these timesteps to the next, and from the last to no noise or to timestep 0's. `middle` is
  /// where a step but the last has its middle, above its end.
  func chain(_ times: [Int], toClean: Bool, middle: Int? = nil) throws -> Schedule {
    let alphas = try noise.alphasCumprod()
    func level(_ t: Int) -> NoiseLevel { NoiseLevel(timestep: Float(t), alphaCumprod: alphas[t]) }
    let end = NoiseLevel(timestep: 0, alphaCumprod: toClean ? 1 : alphas[0])
    return Schedule(
      steps: times.indices.map { index in
        let next = index + 1 < times.count ? times[index + 1] : nil
        return Schedule.Step(
          from: level(times[index]),
          middle: next.flatMap { next in middle.map { level(min(next + $0, times[index])) } },
          to: next.map(level) ?? end)
      })
  }
}
