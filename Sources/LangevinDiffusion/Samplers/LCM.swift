import LangevinTensor

/// Multistep consistency sampling: arXiv:2310.04378, algorithm 3; diffusers' LCMScheduler. Each step jumps to
/// the clean latent and adds the next level's noise to it.
public struct LCMSampler: ConfiguredSampler {
  /// For latent consistency models.
  public static let description = SamplerDescription(
    "lcm", title: "LCM",
    purpose: "for latent consistency models: 1 to 8 steps, without or with little guidance",
    isStochastic: true, spacings: ["timesteps"],
    classes: [
      SchedulerClass(
        "LCMScheduler",
        defaults: SchedulerClass.latentBetas.merging(["beta_schedule": .string("scaled_linear")]) { $1 })
    ])

  /// How many steps the distillation's schedule had.
  public var originalSteps = 50
  /// How fast the boundary condition's weights let go of x (arXiv:2303.01469, appendix C, with 0.5 for the
  /// data's deviation).
  public var timestepScaling: Double
  /// How guesses are limited.
  public var limit: Limit?

  /// Consistency sampling.
  public init(timestepScaling: Double = 10, limit: Limit? = nil) {
    (self.timestepScaling, self.limit) = (timestepScaling, limit)
  }

  /// Of a file: by default guesses are not clipped.
  public init(_ file: SchedulerFile) throws {
    self.init(
      timestepScaling: try file.double("timestep_scaling") ?? 10,
      limit: try Limit(file, clips: false, thresholds: true))
    originalSteps = try file.int("original_inference_steps") ?? 50
    try check()
  }

  private func check() throws {
    try requireDistillation(originalSteps)
    try requirePositive("timestep_scaling", timestepScaling)
  }

  /// Among the timesteps of the distillation, arXiv:2310.04378, section 4.3. The last step arrives at no
  /// noise.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try check()
    if request.hasTimesteps { return try request.chain() }
    return try request.chain(request.distilledTimes(of: originalSteps, Self.description.name), toClean: true)
  }

  /// One call of the denoiser, and fresh noise.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let denoised = try step.denoised(x)
    let time = Double(step.from.timestep) * timestepScaling
    let spread = time * time + 0.25
    let (skip, out) = (0.25 / spread, time / spread.squareRoot())
    var terms = [(step.to.alpha * skip, x), (step.to.alpha * out, denoised)]
    if step.to.sigma > 0 { terms.append((step.to.sigma, try step.noise(like: x))) }
    return try step.combination(terms)
  }
}

/// Throws `DiffusionError.configuration` where a distillation cannot have had so many steps.
func requireDistillation(_ steps: Int) throws {
  try require((1...1_000_000).contains(steps), "original_inference_steps", steps, "within 1 and 1000000")
}

extension LevelRequest {
  /// As many timesteps as there are steps, evenly among those of a consistency model's distillation:
  /// arXiv:2310.04378, section 4.3. Throws `DiffusionError.configuration` or `.stepCount`.
  func distilledTimes(of originalSteps: Int, _ sampler: String) throws -> [Int] {
    let trainTimesteps = noise.trainTimesteps
    try require(
      (1...trainTimesteps).contains(originalSteps), "original_inference_steps", originalSteps,
      "within 1 and \(trainTimesteps)")
    guard steps >= 1, steps <= originalSteps else {
      throw DiffusionError.stepCount(
        requested: steps,
        reason: "\(sampler) takes 1 to the \(originalSteps) that its model was distilled from")
    }
    let skipped = trainTimesteps / originalSteps
    let stride = Double(originalSteps) / Double(steps)
    return (0..<steps).map { (originalSteps - Int(Double($0) * stride)) * skipped - 1 }
  }
}
