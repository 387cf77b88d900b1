import Foundation
import LangevinTensor

/// How a guess of pixels is kept within the range that pixels have.
public enum Limit: Sendable, Hashable {
  /// Clamps values to -c...c.
  case clip(Float)
  /// Each image within -s...s, divided by s, where s is this quantile of its absolute values, at least 1 and
  /// at most `maximum`: dynamic thresholding, arXiv:2205.11487, section 2.3, with torch.quantile's
  /// interpolation.
  ///
  /// The quantile is found on the host: the absolute values are copied there, and one number an image back.
  case dynamic(quantile: Double, maximum: Double)

  /// The limited guess; x float32 [N, ..., C].
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    switch self {
    case .clip(let limit): return try x.clamped(-limit, limit)
    case .dynamic(let quantile, let maximum):
      let count = x.shape[0]
      guard x.shape.count > 0 else { return x }
      let values = try x.map(.abs).floats()
      let size = values.count / count
      let limits = (0..<count).map { image in
        let found = Self.quantile(quantile, of: values[image * size..<(image + 1) * size])
        return min(max(found, 1), Float(maximum))
      }
      let shape = Shape([count] + [Int](repeating: 1, count: x.shape.rank - 1))
      let upper = try Tensor(limits, shape, on: x.device)
      return try x.minimum(upper).maximum(upper.map(.negate)) / upper
    }
  }

  /// What a file says; `clips` is the class's default for `clip_sample`, nil where the class does not read
  /// it, and `thresholds` whether it reads `thresholding`, which comes first.
  ///
  /// Throws `DiffusionError.configuration`.
  public init?(_ file: SchedulerFile, clips: Bool?, thresholds: Bool) throws {
    let clip = Limit.clip(Float(try file.double("clip_sample_range") ?? 1))
    let dynamic = Limit.dynamic(
      quantile: try file.double("dynamic_thresholding_ratio") ?? 0.995,
      maximum: try file.double("sample_max_value") ?? 1)
    for limit in [clip, dynamic] { try limit.check() }
    if try file.bool("thresholding") == true && thresholds {
      self = dynamic
    } else if let clips, try file.bool("clip_sample") ?? clips {
      self = clip
    } else {
      return nil
    }
  }

  /// Throws `DiffusionError.configuration` for numbers out of their range.
  func check() throws {
    switch self {
    case .clip(let limit): try requirePositive("clip_sample_range", Double(limit))
    case .dynamic(let quantile, let maximum):
      try require((0...1).contains(quantile), "dynamic_thresholding_ratio", quantile, "within 0 and 1")
      try require(maximum >= 1 && maximum <= 1e9, "sample_max_value", maximum, "within 1 and 1e9")
    }
  }

  /// Between the two nearest ranks, in float32 as torch computes it; a NaN where there is one.
  static func quantile(_ q: Double, of values: ArraySlice<Float>) -> Float {
    if values.contains(where: \.isNaN) { return .nan }
    let sorted = values.sorted()
    let rank = Float(q) * Float(sorted.count - 1)
    let below = sorted[Int(rank.rounded(.down))]
    let above = sorted[Int(rank.rounded(.up))]
    let weight = rank - rank.rounded(.down)
    return weight < 0.5 ? below + weight * (above - below) : above - (above - below) * (1 - weight)
  }
}

/// Limits another denoiser's guess (`clip_sample`, `thresholding`), for models of pixels.
public struct Limited: Denoiser {
  /// The denoiser whose guess is limited.
  public var base: any Denoiser
  /// How the guess is limited.
  public var limit: Limit

  /// Limits what this denoiser guesses.
  public init(_ base: any Denoiser, _ limit: Limit) {
    self.base = base
    self.limit = limit
  }

  /// The base's guess, limited. Throws what the base throws.
  public func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    try limit(base.denoised(x, at: level))
  }

  /// The base's guess, limited; the variance is as the base says.
  public func guess(_ x: Tensor, at level: NoiseLevel) throws -> Guess {
    var guess = try base.guess(x, at: level)
    guess.denoised = try limit(guess.denoised)
    return guess
  }
}
