import LangevinTensor

/// Euler's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn.
///
/// In variance-preserving coordinates its step is DDIM's with eta 0; what differs is the schedule. Along a
/// flow it is Euler's step of rectified flow (arXiv:2209.03003, section 2.1).
public struct EulerSampler: ConfiguredSampler {
  /// The plainest way.
  public static let description = SamplerDescription(
    "euler", title: "Euler", aliases: ["k_euler"],
    purpose: "the plainest way along the flow; for flow matching the usual one", followsFlows: true,
    classes: [
      SchedulerClass("EulerDiscreteScheduler"),
      SchedulerClass("FlowMatchEulerDiscreteScheduler", defaults: SchedulerClass.flow),
    ], implemented: ["interpolation_type": [.string("linear")], "timestep_type": [.string("discrete")]])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()

  /// Euler's method.
  public init() {}

  /// With the settings of a model's scheduler_config.json.
  public init(_ file: SchedulerFile) throws {
    (timesteps, sigmas) = (try TimestepSettings(file), try SigmaSettings(file))
  }

  /// Those of diffusers' EulerDiscreteScheduler or FlowMatchEulerDiscreteScheduler.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.noise.path == .flow ? request.flowLevels(sigmas) : request.sigmaLevels(timesteps, sigmas)
  }

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try step.ancestral(x, eta: 0)
  }
}

/// Euler's method down to less noise than wanted, and fresh noise up to it; k-diffusion's `euler_ancestral`.
///
/// In variance-preserving coordinates its step is DDIM's with eta 1; what differs is the schedule.
public struct EulerAncestralSampler: ConfiguredSampler {
  /// Varied.
  public static let description = SamplerDescription(
    "euler-a", title: "Euler a", aliases: ["k_euler_a", "euler_ancestral", "k_euler_ancestral"],
    purpose: "Euler with fresh noise in every step: varied, and never settles", isStochastic: true,
    classes: [SchedulerClass("EulerAncestralDiscreteScheduler")])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()

  /// Euler's method with fresh noise.
  public init() {}

  /// Of a file, whose layout of sigmas its class does not read.
  public init(_ file: SchedulerFile) throws {
    timesteps = try TimestepSettings(file)
    sigmas = try SigmaSettings(file, readsFinal: false, readsSpacing: false)
  }

  /// Those of Euler's method.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.sigmaLevels(timesteps, sigmas)
  }

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try step.ancestral(x, eta: 1)
  }
}
