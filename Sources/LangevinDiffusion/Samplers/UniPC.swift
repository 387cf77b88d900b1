import Foundation
import LangevinTensor

/// UniPC: a multistep predictor, and a corrector that takes the next call of the denoiser into account at no cost.
/// arXiv:2302.04867, algorithms 1 and 2; diffusers' UniPCMultistepScheduler.
///
/// `order` is the predictor's, 1 to 3; the corrector's is one more. `predictX0` integrates the denoised latent, else the
/// noise. With `lowerOrderFinal` the order falls to 1 at the end; a step to no noise is of first order in any case.
/// Steps in `uncorrected`, numbered from 0 in the full schedule, keep what was predicted. It never asks for a level
/// between the schedule's, so it runs along a flow as it does along betas (WAN 2.1).
public func uniPC(
  _ denoiser: some Denoiser, from x: Tensor, along schedule: Schedule, order: Int = 2,
  solver: NoiseSchedule.UniPCSolver = .bh2, predictX0: Bool = true, lowerOrderFinal: Bool = true,
  uncorrected: Set<Int> = [], progress: Progress? = nil
) throws -> Tensor {
  let update = UniPCUpdate(solver: solver, predictX0: predictX0)
  var x = x
  /// What was integrated, the newest last.
  var past: [UniPCUpdate.Point] = []
  /// Where the last prediction began.
  var start: (x: Tensor, level: NoiseLevel, order: Int)?
  for (index, step) in schedule.steps.enumerated() {
    try stage("step \(index + 1)") {
      let (from, number) = (step.from, schedule.skipped + index)
      let denoised = try stage("denoise") { try denoiser.denoised(x, at: from) }
      x = try stage("update") {
        let value =
          predictX0
          ? denoised
          : try Tensor.combination([
            (Float(1 / from.sigma), x), (Float(-from.alpha / from.sigma), denoised),
          ])
        var corrected = x
        if let start, !uncorrected.contains(number - 1) {
          corrected = try update(
            start.x, from: start.level, to: from, past: past, order: start.order, arrived: value)
        }
        past = (past + [UniPCUpdate.Point(value: value, lambda: from.logSNR)]).suffix(order)
        var now = min(order, past.count)
        if lowerOrderFinal { now = min(now, schedule.steps.count - index) }
        if step.to.sigma == 0 { now = 1 }
        start = (corrected, from, now)
        return try update(corrected, from: from, to: step.to, past: past, order: now, arrived: nil)
      }
      try progress?(index + 1, schedule.steps.count, x)
    }
  }
  return x
}

/// The step that predictor and corrector share: eq. 3 and 4 of the paper, in B(h).
private struct UniPCUpdate {
  struct Point {
    let value: Tensor
    let lambda: Double
  }

  let solver: NoiseSchedule.UniPCSolver
  let predictX0: Bool

  /// x at `to` from x at `from`, given what is integrated at `from` (the last of `past`), at the order - 1 levels
  /// before it, and, to correct, at `to`.
  func callAsFunction(
    _ x: Tensor, from: NoiseLevel, to: NoiseLevel, past: [Point], order: Int, arrived: Tensor?
  ) throws -> Tensor {
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
    terms.append((own, newest.value))
    return try Tensor.combination(terms.map { (Float($0.0), $0.1) })
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
