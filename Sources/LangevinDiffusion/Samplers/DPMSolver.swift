import Foundation
import LangevinTensor

/// DPM-Solver++(2M): arXiv:2211.01095, algorithm 2.
///
/// The first step, and a step to no noise at all, are of first order.
public struct DPMpp2MSampler: ConfiguredSampler {
  /// The usual choice.
  public static let description = SamplerDescription(
    "dpmpp-2m", title: "DPM++ 2M", aliases: ["k_dpmpp_2m"],
    purpose: "the usual choice for latent diffusion: 15 to 30 steps, repeatable", order: 2,
    followsFlows: true,
    classes: [SchedulerClass("DPMSolverMultistepScheduler")], implemented: ["use_lu_lambdas": [.bool(false)]])

  /// Levels, and which last steps are of first order, too.
  public var settings: DPMSettings
  /// How guesses are limited.
  public var limit: Limit?
  private var memory = DPMMemory()

  /// With diffusers' default levels and no limit, unless others are given.
  public init(_ settings: DPMSettings = DPMSettings(), limit: Limit? = nil) {
    (self.settings, self.limit) = (settings, limit)
  }

  /// With the settings of a model's scheduler_config.json. The sampler's name stands for its
  /// `algorithm_type`.
  public init(_ file: SchedulerFile) throws {
    self.init(try DPMSettings(file), limit: try Limit(file, clips: nil, thresholds: true))
  }

  /// Those of diffusers' DPMSolverMultistepScheduler.
  public func levels(_ request: LevelRequest) throws -> Schedule { try settings.levels(request) }

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    let (from, to) = (step.from, step.to)
    let carry = to.sigma / from.sigma
    let gain = to.alpha - carry * from.alpha
    return try step.combination(
      [(carry, x)] + memory.terms(denoised, gain, from, to, isFirstOrder: settings.isFirstOrder(step)))
  }
}

/// `DPMpp2MSampler` with Karras' sigmas, whatever the file says of them.
public struct DPMpp2MKarrasSampler: ConfiguredSampler {
  /// A name of its own for what A1111 had under one.
  public static let description = SamplerDescription(
    "dpmpp-2m-karras", title: "DPM++ 2M Karras", aliases: ["k_dpmpp_2m_karras"],
    purpose: "dpmpp-2m with more of its steps where there is little noise", order: 2,
    spacings: [NoiseSchedule.SigmaSpacing.karras.rawValue],
    implemented: DPMpp2MSampler.description.implemented)

  private var solver: DPMpp2MSampler

  /// With diffusers' default levels and no limit, unless others are given.
  public init(_ settings: DPMSettings = DPMSettings(), limit: Limit? = nil) {
    solver = DPMpp2MSampler(settings, limit: limit)
    solver.settings.sigmas.spacing = .karras
  }

  /// With the settings of a model's scheduler_config.json.
  public init(_ file: SchedulerFile) throws {
    let solver = try DPMpp2MSampler(file)
    self.init(solver.settings, limit: solver.limit)
  }

  /// How guesses are limited.
  public var limit: Limit? { solver.limit }

  /// Karras' sigmas.
  public func levels(_ request: LevelRequest) throws -> Schedule { try solver.levels(request) }

  /// DPM-Solver++'s step.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try solver.step(x, &step)
  }
}

/// DPM-Solver++(2M) as a stochastic differential equation: arXiv:2211.01095, section 5 and appendix B.2;
/// diffusers' `sde-dpmsolver++` with its midpoint solver.
///
/// The first step, and a step to no noise at all, are of first order.
public struct DPMpp2MSDESampler: ConfiguredSampler {
  /// The name, and which diffusers classes stand for it.
  public static let description = SamplerDescription(
    "dpmpp-2m-sde", title: "DPM++ 2M SDE", aliases: ["k_dpmpp_2m_sde"],
    purpose: "dpmpp-2m with fresh noise in every step: more detail, some more steps", isStochastic: true,
    order: 2, followsFlows: true,
    classes: [
      SchedulerClass(
        "DPMSolverMultistepScheduler", where: ("algorithm_type", .string("sde-dpmsolver++")))
    ], implemented: DPMpp2MSampler.description.implemented)

  /// Levels, and which last steps are of first order, too.
  public var settings: DPMSettings
  /// How guesses are limited.
  public var limit: Limit?
  private var memory = DPMMemory()

  /// With diffusers' default levels and no limit, unless others are given.
  public init(_ settings: DPMSettings = DPMSettings(), limit: Limit? = nil) {
    (self.settings, self.limit) = (settings, limit)
  }

  /// With the settings of a model's scheduler_config.json. The sampler's name stands for its
  /// `algorithm_type`.
  public init(_ file: SchedulerFile) throws {
    self.init(try DPMSettings(file), limit: try Limit(file, clips: nil, thresholds: true))
  }

  /// Those of diffusers' DPMSolverMultistepScheduler.
  public func levels(_ request: LevelRequest) throws -> Schedule { try settings.levels(request) }

  /// One call of the denoiser, and fresh noise.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    let (from, to) = (step.from, step.to)
    let h = to.logSNR - from.logSNR
    let gain = -to.alpha * expm1(-2 * h)
    let spread = to.sigma * (-expm1(-2 * h)).squareRoot()
    var terms = [(to.sigma / from.sigma * exp(-h), x)]
    terms += memory.terms(denoised, gain, from, to, isFirstOrder: settings.isFirstOrder(step))
    if spread > 0 { terms.append((spread, try step.noise(like: x))) }
    return try step.combination(terms)
  }
}

/// What the second-order solvers have in common.
public struct DPMSettings: Sendable, Hashable {
  /// Which timesteps are visited.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()
  /// Timesteps whose log(alpha / sigma) is less are left out.
  public var lambdaMin = -Double.infinity
  /// The last step is of first order where there are fewer than 15.
  public var lowerOrderFinal = true
  /// The last step is of first order in any case.
  public var eulerAtFinal = false

  /// Diffusers' defaults.
  public init() {}

  /// With the settings of a model's scheduler_config.json.
  public init(_ file: SchedulerFile) throws {
    (timesteps, sigmas) = (try TimestepSettings(file), try SigmaSettings(file))
    lambdaMin = try file.double("lambda_min_clipped") ?? lambdaMin
    lowerOrderFinal = try file.bool("lower_order_final") ?? true
    eulerAtFinal = try file.bool("euler_at_final") ?? false
    try check()
  }

  private func check() throws {
    // Below every logarithm it leaves nothing out; above 0 nothing of the way would be left.
    try require(lambdaMin <= 0, "lambda_min_clipped", lambdaMin, "at most 0")
  }

  func levels(_ request: LevelRequest) throws -> Schedule {
    try check()
    return try request.noise.path == .flow
      ? request.multistepFlowLevels(.dpm, sigmas)
      : request.multistepLevels(.dpm, timesteps, sigmas, lambdaMin: lambdaMin)
  }

  func isFirstOrder(_ step: SamplerStep) -> Bool {
    step.isLast && (eulerAtFinal || lowerOrderFinal && step.schedule.fullCount < 15)
  }
}

/// What both second-order solvers remember: the last guess and where it was made.
private struct DPMMemory {
  private var previous: (denoised: Tensor, logSNR: Double)?

  /// Of what multiplies the denoised latent, the guess's share and the last one's.
  mutating func terms(
    _ denoised: Tensor, _ gain: Double, _ from: NoiseLevel, _ to: NoiseLevel, isFirstOrder: Bool
  ) -> [(Double, Tensor)] {
    // Minus infinity from pure noise; h is infinite to no noise.
    let lambda = from.logSNR
    let h = to.logSNR - lambda
    defer { previous = lambda.isFinite ? (denoised, lambda) : nil }
    guard let previous, h.isFinite, !isFirstOrder else { return [(gain, denoised)] }
    let weight = h / (2 * (lambda - previous.logSNR))
    return [(gain * (1 + weight), denoised), (-gain * weight, previous.denoised)]
  }
}
