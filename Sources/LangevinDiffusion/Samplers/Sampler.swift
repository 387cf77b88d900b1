import LangevinTensor

/// A way from noise to a clean latent, one step at a time.
///
/// A sampler is a value. Its public properties are settings; its private ones are what it remembers of
/// earlier steps. A run takes a copy, so that the sampler itself remembers nothing. The loop over steps,
/// spans for the profiler, progress, limits and cancellation are `Sampling`'s; a sampler has the step alone.
public protocol Sampler: Sendable {
  /// What it is called, and what it can do.
  static var description: SamplerDescription { get }
  /// How guesses are kept within the range that clean latents have; nil for no limit.
  var limit: Limit? { get }

  /// The levels that its steps go through. They are checked by `schedule`.
  ///
  /// Throws `DiffusionError` where the noise or the sampler's settings are not for it.
  func levels(_ request: LevelRequest) throws -> Schedule

  /// The latent at the end of a step; x is float32 [N, ..., C], at its beginning.
  ///
  /// Throws what the denoiser, the noise and the device throw.
  mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor
}

/// A sampler whose settings a model's scheduler_config.json gives.
public protocol ConfiguredSampler: Sampler {
  /// With what the file says, and the defaults of the reference's class where it says nothing.
  ///
  /// Throws `DiffusionError.configuration` for a field of the wrong type or with an impossible value.
  init(_ file: SchedulerFile) throws
}

/// A sampler that adds a share of fresh noise, which a request sets (`GenerationRequest.eta`).
public protocol EtaSampler: Sampler {
  /// The share, 0 for none.
  var eta: Double { get set }
}

extension Sampler {
  /// By default guesses are taken as they are.
  public var limit: Limit? { nil }

  /// By default those of Euler's method.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.noise.path == .flow ? request.flowLevels() : request.sigmaLevels()
  }

  /// The levels of `steps` steps over a model's noise: those that diffusers' scheduler of this kind and with
  /// these settings goes through. `choice`, where it is not nil, comes before the settings.
  ///
  /// Throws `DiffusionError.unsupportedLevels`, `.flowModel`, `.configuration` or `.stepCount`.
  public func schedule(_ noise: NoiseSchedule, steps: Int, choosing choice: NoiseSchedule.Levels? = nil)
    throws
    -> Schedule
  {
    try noise.check()
    try limit?.check()
    if noise.path == .flow && !Self.description.followsFlows {
      throw DiffusionError.flowModel(sampler: Self.description.name)
    }
    if noise.path != .flow && noise.prediction == .flow {
      throw DiffusionError.configuration(
        field: "prediction_type", reason: "flow_prediction needs use_flow_sigmas")
    }
    if let choice { try Self.description.check(choice, noise.path, steps: steps) }
    let schedule = try levels(LevelRequest(noise: noise, steps: steps, choice: choice))
    try schedule.check(requested: steps)
    return schedule
  }

  /// Runs all steps: x float32 [N, ..., C], as `Schedule.initial` or `addingNoise` gives it, to a clean
  /// latent of the same shape. `progress` is called after each step; sampling stops with what it throws. `adjust`
  /// changes what each step has made.
  ///
  /// Throws what the denoiser, the noise, the device and `progress` throw, and `CancellationError` in a task
  /// that was cancelled.
  public func sample(
    _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, noise: inout NoiseSource,
    progress: Progress? = nil, adjust: StepAdjustment? = nil
  ) throws -> Tensor {
    var sampling = Sampling(self, denoiser, from: x, along: schedule, noise: noise, adjust: adjust)
    defer { noise = sampling.noise }
    while try sampling.next(progress) != nil {}
    return sampling.latent
  }
}

/// What a sampler sees of one step.
public struct SamplerStep {
  /// All levels of the run.
  public let schedule: Schedule
  /// The step's number in the run, from 0.
  public internal(set) var index = 0
  /// How guesses are limited, unless they are asked for without.
  public let limit: Limit?
  let denoiser: any Denoiser
  var source: NoiseSource
  /// What the denoiser guessed last, before any limit.
  private(set) var lastGuess: Tensor?

  init(_ denoiser: any Denoiser, limit: Limit?, along schedule: Schedule, noise: NoiseSource) {
    (self.denoiser, self.limit, self.schedule, source) = (denoiser, limit, schedule, noise)
  }

  /// Where the step begins.
  public var from: NoiseLevel { schedule.steps[index].from }
  /// Where it ends.
  public var to: NoiseLevel { schedule.steps[index].to }
  /// Between the two, where the schedule has such a level.
  public var middle: NoiseLevel? { schedule.steps[index].middle }
  /// The step's number in the full schedule, from 0; it differs from `index` where the run begins later.
  public var number: Int { schedule.skipped + index }
  /// Whether the run ends with this step.
  public var isLast: Bool { index == schedule.steps.count - 1 }

  /// E[x0 | x], at the step's beginning or another level, within the limit. Calls the network.
  public mutating func denoised(_ x: Tensor, at level: NoiseLevel? = nil) throws -> Tensor {
    try guess(x, at: level).denoised
  }

  /// What the denoiser makes of x, at the step's beginning or another level. Calls the network.
  public mutating func guess(_ x: Tensor, at level: NoiseLevel? = nil, limited: Bool = true) throws -> Guess {
    let level = level ?? from
    return try stage("denoise") {
      var guess = try denoiser.guess(x, at: level)
      lastGuess = guess.denoised
      if limited, let limit { guess.denoised = try limit(guess.denoised) }
      return guess
    }
  }

  /// Standard normal noise of x's shape; `halfway` has its own, which is drawn first.
  public mutating func noise(like x: Tensor, halfway: Bool = false) throws -> Tensor {
    let use: NoiseUse = halfway ? .middle(number) : .step(number)
    return try stage("update") { try source.normal(x.shape, for: use) }
  }

  /// The weighted sum of tensors, in one pass; weights are rounded to float32 here.
  public func combination(_ terms: [(Double, Tensor)]) throws -> Tensor {
    try stage("update") { try Tensor.combination(terms.map { (Float($0), $1) }) }
  }

  /// x at `level`, from where it was at the step's beginning, along the straight line through the denoised
  /// latent: Euler's step, and DDIM's.
  public func euler(_ x: Tensor, _ denoised: Tensor, to level: NoiseLevel) throws -> Tensor {
    let carry = level.sigma / from.sigma
    return try combination([(carry, x), (level.alpha - carry * from.alpha, denoised)])
  }
}
