import Foundation
import LangevinTensor

/// UniPC: a multistep predictor, and a corrector that takes the next call of the denoiser into account at no
/// cost. arXiv:2302.04867, algorithms 1 and 2; diffusers' UniPCMultistepScheduler.
///
/// A step to no noise is of first order in any case. It never asks for a level between the schedule's, so it
/// runs along a flow as it does along betas (WAN 2.1).
public struct UniPCSampler: ConfiguredSampler {
  /// What it divides by: arXiv:2302.04867, section 3.3 (B1 and B2).
  public enum Solver: String, Sendable, CaseIterable { case bh1, bh2 }

  /// Its order is for `order` 2 with the corrector, the default.
  public static let description = SamplerDescription(
    "unipc", title: "UniPC", purpose: "predicts and corrects for one call a step: 5 to 20 steps; WAN's own",
    order: 3, followsFlows: true, classes: [SchedulerClass("UniPCMultistepScheduler")],
    implemented: ["solver_p": []])

  /// Which timesteps it visits.
  public var timesteps = TimestepSettings()
  /// How sigmas are laid out.
  public var sigmas = SigmaSettings()
  /// The predictor's order, 1 to 3; the corrector's is one more.
  public var order: Int
  /// Which function B(h) it uses.
  public var solver: Solver
  /// Integrates the denoised latent rather than the noise.
  public var predictX0: Bool
  /// Whether the order falls to 1 at the end.
  public var lowerOrderFinal: Bool
  /// Steps, numbered from 0 in the full schedule, that keep what was predicted.
  public var uncorrected: Set<Int>
  /// How guesses are limited.
  public var limit: Limit?
  /// What was integrated, the newest last.
  private var past: [UniPCUpdate.Point] = []
  /// Where the last prediction began.
  private var start: (x: Tensor, level: NoiseLevel, order: Int)?

  /// UniPC with diffusers' defaults.
  public init(
    order: Int = 2, solver: Solver = .bh2, predictX0: Bool = true,
    lowerOrderFinal: Bool = true, uncorrected: Set<Int> = [], limit: Limit? = nil
  ) {
    (self.order, self.solver, self.predictX0) = (order, solver, predictX0)
    (self.lowerOrderFinal, self.uncorrected, self.limit) = (lowerOrderFinal, uncorrected, limit)
  }

  /// Of a file; another solver's `solver_type` means the default, as in diffusers.
  public init(_ file: SchedulerFile) throws {
    let predictX0 = try file.bool("predict_x0") ?? true
    self.init(
      order: try file.int("solver_order") ?? 2,
      solver: try file.string("solver_type").flatMap(Solver.init(rawValue:)) ?? .bh2, predictX0: predictX0,
      lowerOrderFinal: try file.bool("lower_order_final") ?? true,
      uncorrected: Set(try file.doubles("disable_corrector")?.compactMap(Int.init(exactly:)) ?? []),
      limit: try Limit(file, clips: nil, thresholds: predictX0))
    (timesteps, sigmas) = (try TimestepSettings(file), try SigmaSettings(file))
  }

  /// Those of diffusers' UniPCMultistepScheduler.
  public func levels(_ request: LevelRequest) throws -> Schedule {
    try require((1...3).contains(order), "solver_order", order, "within 1 and 3")
    let isFlow = request.noise.path == .flow
    if !predictX0 && (sigmas.final == .zero || isFlow) {
      throw DiffusionError.configuration(
        field: "predict_x0",
        reason:
          "false is not defined where no noise is left: it needs final_sigmas_type sigma_min and no flow")
    }
    if try sigmas.final == .minimum && request.resolved(timesteps, sigmas).sigmas.spacing != nil {
      throw DiffusionError.configuration(
        field: "final_sigmas_type", reason: "with sigmas spaced by rule the last step would go nowhere")
    }
    return try isFlow
      ? request.multistepFlowLevels(.uniPC, sigmas) : request.multistepLevels(.uniPC, timesteps, sigmas)
  }

  /// One call of the denoiser.
  public mutating func step(_ x: Tensor, _ step: inout SamplerStep) throws -> Tensor {
    let (from, to) = (step.from, step.to)
    let update = UniPCUpdate(solver: solver, predictX0: predictX0)
    let denoised = try step.denoised(x)
    let value =
      predictX0
      ? denoised : try step.combination([(1 / from.sigma, x), (-from.alpha / from.sigma, denoised)])
    var corrected = x
    if let start, !uncorrected.contains(step.number - 1) {
      corrected = try step.combination(
        update.terms(start.x, from: start.level, to: from, past: past, order: start.order, arrived: value))
    }
    past = (past + [UniPCUpdate.Point(value: value, lambda: from.logSNR)]).suffix(order)
    var now = min(order, past.count)
    if lowerOrderFinal { now = min(now, step.schedule.steps.count - step.index) }
    if to.sigma == 0 { now = 1 }
    start = (corrected, from, now)
    return try step.combination(
      update.terms(corrected, from: from, to: to, past: past, order: now, arrived: nil))
  }
}

/// The step that predictor and corrector share: eq. 3 and 4 of the paper, in B(h).
private struct UniPCUpdate {
  struct Point {
    let value: Tensor
    let lambda: Double
  }

  let solver: UniPCSampler.Solver
  let predictX0: Bool

  /// x at `to` from x at `from`, given what is integrated at `from` (the last of `past`), at the order - 1
  /// levels before it, and, to correct, at `to`.
  func terms(
    _ x: Tensor, from: NoiseLevel, to: NoiseLevel, past: [Point], order: Int, arrived: Tensor?
  ) -> [(Double, Tensor)] {
    let newest = past[past.count - 1]
    let step = to.logSNR - newest.lambda
    let h = predictX0 ? -step : step
    let base = expm1(h)
    let b = solver == .bh1 ? h : base
    let carry = predictX0 ? to.sigma / from.sigma : to.alpha / from.alpha
    let scale = predictX0 ? to.alpha : to.sigma

    // Levels before `from`, in units of the step from it; 1 is `to`.
    let older = past.suffix(order).dropLast().reversed()
    var places = older.map { ($0.lambda - newest.lambda) / step }
    if arrived != nil { places.append(1) }
    let weights = weights(places, h: h, b: b, isCorrector: arrived != nil)

    var terms = [(carry, x)]
    var own = -scale * base
    for ((place, weight), value) in zip(
      zip(places, weights), older.map(\.value) + [arrived].compactMap { $0 })
    {
      let factor = -scale * b * weight / place
      terms.append((factor, value))
      own -= factor
    }
    return terms + [(own, newest.value)]
  }

  /// The solution of eq. 6 (R rho = b); of one unknown the paper's simpler 1/2, which has the same order.
  private func weights(_ places: [Double], h: Double, b: Double, isCorrector: Bool) -> [Double] {
    guard places.count > 1 else { return places.map { _ in 0.5 } }
    var right: [Double] = []
    var phi = expm1(h) / h - 1
    var factorial = 1.0
    for i in 1...places.count {
      right.append(phi * factorial / b)
      factorial *= Double(i + 1)
      phi = phi / h - 1 / factorial
    }
    return solveVandermonde(places, right)
  }
}

/// The w with sum over j of places_j^i w_j = right_i, for i from 0: Gaussian elimination with pivots.
private func solveVandermonde(_ places: [Double], _ right: [Double]) -> [Double] {
  let n = places.count
  var rows = (0..<n).map { i in places.map { pow($0, Double(i)) } + [right[i]] }
  for column in 0..<n {
    let pivot = (column..<n).max { abs(rows[$0][column]) < abs(rows[$1][column]) } ?? column
    rows.swapAt(column, pivot)
    for row in 0..<n where row != column {
      let factor = rows[row][column] / rows[column][column]
      for k in column...n { rows[row][k] -= factor * rows[column][k] }
    }
  }
  return (0..<n).map { rows[$0][n] / rows[$0][$0] }
}
