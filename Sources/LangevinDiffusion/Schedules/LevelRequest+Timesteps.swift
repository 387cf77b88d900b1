import Foundation

/// What diffusers' schedulers have in common on the way from a number of steps to noise levels.
extension LevelRequest {
  var count: Int { steps }
  var trainTimesteps: Int { noise.trainTimesteps }

  /// Descending timesteps: the user's, or by the settings. `spare` more are laid out, and dropped at the end,
  /// below `last`.
  func timesteps(_ settings: TimestepSettings, rounded: Bool, spare: Int = 0, last: Int? = nil) throws
    -> [Double]
  {
    if case .theseTimesteps(let times) = choice { return try given(times) }
    let last = last ?? trainTimesteps
    guard count > 0 else { throw DiffusionError.stepCount(requested: count, reason: "at least 1 is needed") }
    guard count <= trainTimesteps else {
      throw DiffusionError.stepCount(
        requested: count, reason: "the model was trained on \(trainTimesteps) timesteps and cannot take more")
    }
    let points = count + spare
    var times: [Double]
    switch settings.spacing {
    case .linspace:
      times = linspace(0, Double(last - 1), points).reversed()
      if rounded { times = times.map { $0.rounded(.toNearestOrEven) } }
      times.removeLast(spare)
    case .leading:
      times = (0..<points).reversed().map { Double($0 * (last / points)) }
      times.removeLast(spare)
      times = times.map { $0 + Double(settings.offset) }
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
        reason:
          "with steps_offset \(settings.offset) they leave the \(trainTimesteps) timesteps of the training")
    }
    return times
  }

  /// Timesteps that the user gave; that they fall is checked with the schedule.
  private func given(_ times: [Int]) throws -> [Double] {
    guard !times.isEmpty, times.allSatisfy({ (0..<trainTimesteps).contains($0) }) else {
      throw DiffusionError.stepCount(
        requested: times.count, reason: "timesteps must be within 0 and \(trainTimesteps - 1)")
    }
    return times.map(Double.init)
  }

  /// Sigmas that the user gave, without the zero at the end.
  func givenSigmas() throws -> [Double]? {
    guard case .theseSigmas(var sigmas) = choice else { return nil }
    if sigmas.last == 0 { sigmas.removeLast() }
    let most = noise.path == .flow ? 1.0 : .greatestFiniteMagnitude
    guard !sigmas.isEmpty, sigmas.allSatisfy({ $0 > 0 && $0 <= most }) else {
      throw DiffusionError.stepCount(
        requested: sigmas.count,
        reason: noise.path == .flow ? "a flow's sigmas are above 0 and at most 1" : "sigmas must be above 0")
    }
    return sigmas
  }

  // MARK: Sigmas

  /// sigma / alpha of each training timestep.
  func trainingSigmas() throws -> [Float] {
    try noise.alphasCumprod(clampingTerminal: true).map { ((1 - $0) / $0).squareRoot() }
  }

  /// A layout of sigmas between the settings' limits, or else these.
  func sigmas(
    _ spacing: NoiseSchedule.SigmaSpacing, _ settings: SigmaSettings, from high: Double, to low: Double
  ) throws -> [Double] {
    guard count > 0 else { throw DiffusionError.stepCount(requested: count, reason: "at least 1 is needed") }
    let (high, low) = (settings.maximum ?? high, settings.minimum ?? low)
    guard high.isFinite, low > 0, high >= low else {
      throw DiffusionError.configuration(
        field: "sigma_max", reason: "sigmas cannot fall from \(high) to \(low)")
    }
    return spacing.sigmas(from: high, to: low, count: count)
  }

  /// The training timestep at which the logarithm of sigma would be `log(sigma)`, between its neighbours by
  /// linear interpolation.
  func timestep(of sigma: Double, in logarithms: [Double]) -> Double {
    guard logarithms.count > 1 else { return 0 }
    let target = log(max(sigma, 1e-10))
    let low = min(logarithms.lastIndex { $0 <= target } ?? 0, logarithms.count - 2)
    let weight = (logarithms[low] - target) / (logarithms[low] - logarithms[low + 1])
    let clamped = min(max(weight, 0), 1)
    return (1 - clamped) * Double(low) + clamped * Double(low + 1)
  }

  func interpolated(_ values: [Float], at position: Double) -> Double {
    let low = min(Int(position), values.count - 1)
    guard low + 1 < values.count else { return Double(values[low]) }
    let (a, b) = (Double(values[low]), Double(values[low + 1]))
    return a + (b - a) * (position - Double(low))
  }
}
