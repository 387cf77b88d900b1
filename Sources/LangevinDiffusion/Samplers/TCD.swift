import LangevinTensor

/// Strategic stochastic sampling of trajectory consistency models: arXiv:2402.19159, algorithm 4; diffusers'
/// TCDScheduler. A step goes down to timestep (1 - eta) t, where t is the step's end, and with fresh noise up
/// again.
public struct TCDSampler: ConfiguredSampler, EtaSampler {
  /// For trajectory consistency models.
  public static let description = SamplerDescription(
    "tcd", title: "TCD",
    purpose: "for trajectory consistency models: 1 to 50 steps, with --eta (their gamma) 0.3 in few",
    spacings: ["timesteps"],
    classes: [
      SchedulerClass(
        "TCDScheduler",
        defaults: SchedulerClass.latentBetas.merging(["beta_schedule": .string("scaled_linear")]) { $1 })
    ])

  /// How many steps the distillation's schedule had.
  public var originalSteps = 50
  /// The paper's gamma: 0 is deterministic, 1 goes by way of the clean latent as consistency sampling does.
  public var eta: Double

  /// With this share of fresh noise.
  public init(eta: Double = 0) { self.eta = eta }

  /// Of a file. The reference's step reads neither `clip_sample` nor `thresholding`.
  public init(_ file: SchedulerFile) throws {
    self.init()
    originalSteps = try file.int("original_inference_steps") ?? 50
    try requireDistillation(originalSteps)
  }

  /// Among the timesteps of the distillation. The last step arrives at timestep 0's noise. A step's middle is
  /// where it goes down to.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    guard eta >= 0, eta <= 1 else { throw DiffusionError.eta(eta) }
    var schedule =
      request.hasTimesteps
      ? try request.chain(toClean: false)
      : try request.chain(
        request.distilledTimes(of: originalSteps, Self.description.name), toClean: false)
    guard eta > 0 else { return schedule }
    let alphas = try request.noise.alphasCumprod()
    for index in schedule.steps.indices {
      // In float32, as the reference rounds it.
      let time = Int((Float(1 - eta) * schedule.steps[index].to.timestep).rounded(.down))
      schedule.steps[index].middle = NoiseLevel(timestep: Float(time), alphaCumprod: alphas[time])
    }
    return schedule
  }

  /// One call of the denoiser, and with eta fresh noise but for the last step.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    guard let low = step.middle, !step.isLast else {
      return try step.euler(x, denoised, to: step.middle ?? step.to)
    }
    let (carry, kept) = (low.sigma / step.from.sigma, step.to.alpha / low.alpha)
    return try step.combination([
      (kept * carry, x), (kept * (low.alpha - carry * step.from.alpha), denoised),
      (max(0, 1 - kept * kept).squareRoot(), step.noise(like: x)),
    ])
  }
}
