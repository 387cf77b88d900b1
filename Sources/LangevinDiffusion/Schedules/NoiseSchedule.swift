import Foundation

/// The noise that a model was trained on: its betas, or that it is a flow, and what its network says of it.
///
/// How it is sampled are the samplers' settings; `SchedulerFile` reads both from scheduler_config.json.
public struct NoiseSchedule: Sendable, Hashable {
  /// How the betas grow from `betaStart` to `betaEnd`.
  public enum BetaSchedule: String, Sendable, CaseIterable {
    case linear
    /// Linear in the square root; latent diffusion's.
    case scaledLinear = "scaled_linear"
    /// The cosine schedule; arXiv:2102.09672, eq. 17.
    case squaredCosine = "squaredcos_cap_v2"
  }

  /// The last sigma that a flow's sampler visits, before all of them are shifted.
  public enum FlowEnd: Sendable, Hashable {
    /// The training's least, 1 / `trainTimesteps`, shifted once already: diffusers' schedulers.
    case shiftedTraining
    /// The training's least.
    case training
    /// 1 / the number of steps: what diffusers' pipelines of FLUX ask of a scheduler.
    case lastStep
  }

  /// How many timesteps the training had, 1...1000000.
  public var trainTimesteps = 1000
  /// The variance that the first training timestep adds.
  public var betaStart = 0.0001
  /// The variance that the last training timestep adds.
  public var betaEnd = 0.02
  /// How it grows between them.
  public var betaSchedule = BetaSchedule.linear
  /// Overrides the three fields above; one beta a training timestep.
  public var trainedBetas: [Double]?
  /// Whether betas are rescaled so that the last timestep has no signal; arXiv:2305.08891, algorithm 1.
  public var rescaleBetasZeroSNR = false
  /// What the network's output means.
  public var prediction = Prediction.epsilon
  /// How signal and noise add up.
  public var path = Schedule.Path.variancePreserving
  /// Of a flow's sigmas: s becomes shift s / (1 + (shift - 1) s). `shift` or `flow_shift`; arXiv:2403.03206,
  /// eq. 23.
  public var flowShift = 1.0
  /// Where a flow's sigmas end before `flowShift`; its samplers in one stage, and Heun's, go by it.
  public var flowEnd = FlowEnd.shiftedTraining

  /// A schedule with diffusers' defaults.
  public init() {}

  /// The noise that a scheduler_config.json describes. Throws `DiffusionError`.
  public init(json: Data) throws { self = try SchedulerFile(json: json).noise }

  /// Of a file's fields, with diffusers' defaults.
  init(_ file: SchedulerFile) throws {
    trainTimesteps = try file.int("num_train_timesteps") ?? trainTimesteps
    betaStart = try file.double("beta_start") ?? betaStart
    betaEnd = try file.double("beta_end") ?? betaEnd
    betaSchedule = try file.choice("beta_schedule") ?? betaSchedule
    trainedBetas = try file.doubles("trained_betas")
    rescaleBetasZeroSNR = try file.bool("rescale_betas_zero_snr") ?? false
    prediction = try file.choice("prediction_type") ?? prediction
    if try file.bool("use_flow_sigmas") == true { path = .flow }
    flowShift = try file.double("shift") ?? file.double("flow_shift") ?? flowShift
    try check()
  }

  /// Throws `DiffusionError.configuration`, which names the field and its range. Numbers come from files that
  /// anybody may have written, and a sampler that is handed nonsense would trap, hang or draw a black
  /// picture.
  func check() throws {
    try require(
      (1...1_000_000).contains(trainTimesteps), "num_train_timesteps", trainTimesteps, "within 1 and 1000000")
    for (field, beta) in [("beta_start", betaStart), ("beta_end", betaEnd)] {
      try require((0...1).contains(beta), field, beta, "within 0 and 1")
    }
    try requirePositive("shift", flowShift)
  }

  // MARK: Noise

  /// The product of (1 - beta) up to each training timestep, rounded to float32 where diffusers does.
  ///
  /// Rounding matters: 1 - alpha is small at early timesteps, and float32's error in alpha is up to 1e-4 of
  /// it.
  /// `clampingTerminal` replaces a zero at the end by 2^-24, as diffusers' samplers in sigma do.
  ///
  /// Throws `DiffusionError.configuration` where betas are not within (0, 1].
  public func alphasCumprod(clampingTerminal: Bool = false) throws -> [Float] {
    var product = 1.0
    var result = try betas().map { beta in
      product *= Double(1 - beta)
      return Float(product)
    }
    if clampingTerminal && rescaleBetasZeroSNR { result[result.count - 1] = 0x1p-24 }
    return result
  }

  private func betas() throws -> [Float] {
    try check()
    var betas: [Float]
    if let trainedBetas {
      guard trainedBetas.count == trainTimesteps else {
        throw DiffusionError.configuration(
          field: "trained_betas", reason: "\(trainedBetas.count) values for \(trainTimesteps) timesteps")
      }
      betas = trainedBetas.map { Float($0) }
    } else {
      switch betaSchedule {
      case .linear: betas = linspace32(betaStart, betaEnd, trainTimesteps)
      case .scaledLinear:
        betas = linspace32(betaStart.squareRoot(), betaEnd.squareRoot(), trainTimesteps).map { $0 * $0 }
      case .squaredCosine:
        func alphaBar(_ t: Double) -> Double {
          let cosine = cos((t + 0.008) / 1.008 * .pi / 2)
          return cosine * cosine
        }
        let count = Double(trainTimesteps)
        betas = (0..<trainTimesteps).map { i in
          Float(min(1 - alphaBar(Double(i + 1) / count) / alphaBar(Double(i) / count), 0.999))
        }
      }
    }
    guard betas.allSatisfy({ $0 > 0 && $0 <= 1 }) else {
      throw DiffusionError.configuration(field: "betas", reason: "not all are within (0, 1]")
    }
    return rescaleBetasZeroSNR ? rescaledToZeroTerminalSNR(betas) : betas
  }

  /// Shifts and scales sqrt(alphaBar) so that it ends at 0 and begins where it did: arXiv:2305.08891,
  /// algorithm 1.
  private func rescaledToZeroTerminalSNR(_ betas: [Float]) -> [Float] {
    var product = 1.0
    let roots = betas.map { beta in
      product *= Double(1 - beta)
      return Float(product).squareRoot()
    }
    let (first, last) = (roots[0], roots[roots.count - 1])
    let bars = roots.map { root in
      let scaled = (root - last) * (first / (first - last))
      return scaled * scaled
    }
    return bars.indices.map { 1 - ($0 == 0 ? bars[0] : bars[$0] / bars[$0 - 1]) }
  }
}

/// Evenly spaced float32 numbers, built from both ends as torch.linspace does.
private func linspace32(_ start: Double, _ end: Double, _ count: Int) -> [Float] {
  let (a, b) = (Float(start), Float(end))
  guard count > 1 else { return [a] }
  let step = (b - a) / Float(count - 1)
  return (0..<count).map { $0 < count / 2 ? a + step * Float($0) : b - step * Float(count - 1 - $0) }
}
