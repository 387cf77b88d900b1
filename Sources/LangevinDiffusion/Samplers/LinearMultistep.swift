import LangevinTensor

/// Heun's method on the probability flow: arXiv:2206.00364, algorithm 1 without churn. Along a flow it is the
/// same in the flow's own time. A step to no noise is Euler's. So is a step from noise alone (zero terminal
/// SNR), where the mean of the slopes would multiply the second guess by hundreds.
public struct HeunSampler: ConfiguredSampler {
  /// Euler, corrected.
  public static let description = SamplerDescription(
    "heun", title: "Heun", aliases: ["k_heun"],
    purpose: "Euler, corrected: twice the work a step for a better one", order: 2, callsPerStep: 2,
    followsFlows: true,
    classes: [
      SchedulerClass("HeunDiscreteScheduler", defaults: SchedulerClass.latentBetas),
      SchedulerClass("FlowMatchHeunDiscreteScheduler", defaults: SchedulerClass.flow),
    ])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()
  /// How guesses are limited.
  public var limit: Limit?

  /// Heun's method.
  public init(limit: Limit? = nil) { self.limit = limit }

  /// Of a file: by default guesses are not clipped, and those of a flow never.
  public init(_ file: SchedulerFile) throws {
    limit = try Limit(file, clips: file.noise.path == .flow ? nil : false, thresholds: false)
    (timesteps, sigmas) = (try TimestepSettings(file), try SigmaSettings(file, readsFinal: false))
  }

  /// Those of diffusers' HeunDiscreteScheduler or FlowMatchHeunDiscreteScheduler.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.noise.path == .flow ? request.flowLevels(sigmas) : request.sigmaLevels(timesteps, sigmas)
  }

  /// Two calls of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to, path) = (step.from, step.to, step.schedule.path)
    let denoised = try step.denoised(x)
    let euler = try step.euler(x, denoised, to: to)
    let isFromNoiseAlone = path == .variancePreserving && from.alpha < 1e-3
    guard to.sigma > 0 && !isFromNoiseAlone else { return euler }
    let again = try step.denoised(euler, at: to)
    // The mean of the two slopes; each is (x - unit * denoised) / sigma.
    let carry = to.sigma / from.sigma
    let gain = to.alpha - carry * from.alpha
    let (first, second) = (path.unit(from), path.unit(to))
    let half = second * (from.sigma / first - to.sigma / second) / 2
    return try step.combination([
      (carry, x), (half * (first / from.sigma - gain / to.sigma), denoised),
      (half * second / to.sigma, again),
    ])
  }
}

/// The linear multistep method of up to fourth order on the probability flow: Adams-Bashforth over uneven
/// steps; k-diffusion's `sample_lms`, diffusers' LMSDiscreteScheduler.
///
/// The order grows from 1 with the number of slopes known. (Diffusers', begun in the middle of a schedule,
/// takes the weights of slopes that it does not have.)
public struct LMSSampler: ConfiguredSampler {
  /// Of the highest order.
  public static let description = SamplerDescription(
    "lms", title: "LMS", aliases: ["k_lms"],
    purpose: "remembers up to four steps: smooth at many steps, rough at few", order: 4,
    classes: [SchedulerClass("LMSDiscreteScheduler")])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()
  /// Earlier slopes with their times, the newest first.
  private var slopes: [(time: Double, slope: Tensor)] = []

  /// The linear multistep method.
  public init() {}

  /// With the settings of a model's scheduler_config.json.
  public init(_ file: SchedulerFile) throws {
    (timesteps, sigmas) = (try TimestepSettings(file), try SigmaSettings(file, readsFinal: false))
  }

  /// Those of diffusers' LMSDiscreteScheduler.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try request.sigmaLevels(timesteps, sigmas)
  }

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to) = (step.from, step.to)
    let denoised = try step.denoised(x)
    let (unit, next) = (step.schedule.path.unit(from), step.schedule.path.unit(to))
    let slope = try step.combination([(1 / from.sigma, x), (-unit / from.sigma, denoised)])
    slopes = Array(([(from.sigma / unit, slope)] + slopes).prefix(4))
    let weights = adamsBashforth(slopes.map(\.time), to: to.sigma / next)
    // Euler's step, and how the older slopes differ from the newest.
    let carry = to.sigma / from.sigma
    let older = weights.dropFirst().reduce(0, +)
    return try step.combination(
      [(carry, x), (to.alpha - carry * from.alpha, denoised), (-next * older, slope)]
        + zip(weights, slopes).dropFirst().map { (next * $0, $1.slope) })
  }
}

/// The integrals, from the first of `times` to `end`, of the polynomials that are 1 at one of the times and 0
/// at the others. They are cubic at most, for which Gauss' two points are exact.
private func adamsBashforth(_ times: [Double], to end: Double) -> [Double] {
  let (middle, half) = ((times[0] + end) / 2, (end - times[0]) / 2)
  let points = [middle - half / 3.0.squareRoot(), middle + half / 3.0.squareRoot()]
  return times.indices.map { own in
    let values = points.map { point in
      times.indices.filter { $0 != own }.reduce(1.0) { product, other in
        product * (point - times[other]) / (times[own] - times[other])
      }
    }
    return half * values.reduce(0, +)
  }
}
