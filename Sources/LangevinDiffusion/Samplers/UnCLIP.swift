import LangevinTensor

/// unCLIP's sampler (arXiv:2204.06125): DDPM whose steps have the beta of the timesteps that they skip.
public struct UnCLIPSampler: ConfiguredSampler {
  /// For unCLIP's models alone.
  public static let description = SamplerDescription(
    "unclip", title: "unCLIP", purpose: "for unCLIP's prior, decoder and super-resolution",
    isStochastic: true,
    spacings: ["timesteps"], fewestSteps: 2,
    classes: [SchedulerClass("UnCLIPScheduler", defaults: ["beta_schedule": .string("squaredcos_cap_v2")])],
    implemented: DDPMSampler.Variance.implemented)

  private var chain: DDPMSampler

  /// unCLIP's sampler with this variance.
  public init(variance: DDPMSampler.Variance = .small, limit: Limit? = nil) {
    chain = DDPMSampler(variance: variance, limit: limit)
  }

  /// Of a file: by default guesses are clipped at 1.
  public init(_ file: SchedulerFile) throws {
    self.init(
      variance: try DDPMSampler.Variance(file), limit: try Limit(file, clips: true, thresholds: false))
  }

  /// How guesses are limited.
  public var limit: Limit? { chain.limit }

  /// Evenly from the last training timestep to the first, both included.
  ///
  /// Throws `DiffusionError.stepCount` for one step alone, whose stride is not defined.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    if request.hasTimesteps { return try request.chain() }
    let count = request.steps
    guard count > 1 else {
      throw DiffusionError.stepCount(requested: count, reason: "unclip needs at least 2")
    }
    let stride = Double(request.noise.trainTimesteps - 1) / Double(count - 1)
    let times = (0..<count).reversed().map { Int((Double($0) * stride).rounded(.toNearestOrEven)) }
    return try request.chain(times, toClean: true)
  }

  /// DDPM's step.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    try chain.step(x, &step)
  }
}
