import Foundation

/// How large the optimizer's steps are over a run.
public struct LearningRate: Sendable, Hashable, Codable {
  /// What follows the warm-up.
  public enum Shape: String, Sendable, Hashable, Codable, CaseIterable {
    /// The same to the end.
    case constant
    /// Half a cosine down to zero: arXiv:1608.03983, eq. 5 without restarts.
    case cosine
    /// The same, then a straight line to zero over the last part: arXiv:2405.18392.
    case linearCooldown = "linear-cooldown"

    /// Throws `DecodingError.dataCorrupted` with the names that there are.
    public init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      guard let shape = Self(rawValue: try container.decode(String.self)) else {
        throw DecodingError.dataCorruptedError(
          in: container, debugDescription: Self.allCases.map(\.rawValue).joined(separator: ", "))
      }
      self = shape
    }
  }

  /// The highest rate.
  public var base: Double
  /// Steps of a straight line up to it; the first of them has `base / warmUp`.
  public var warmUp: Int
  /// Steps of the run.
  public var total: Int
  /// What follows the warm-up.
  public var shape: Shape
  /// Which part of all steps goes down, for `linearCooldown`.
  public var cooldown: Double

  /// A rate that stays as it is, unless more is said.
  public init(
    base: Double, warmUp: Int = 0, total: Int, shape: Shape = .constant, cooldown: Double = 0.2
  ) {
    (self.base, self.warmUp, self.total, self.shape, self.cooldown) = (base, warmUp, total, shape, cooldown)
  }

  /// The rate of a step, counted from 0.
  public func callAsFunction(_ step: Int) -> Float {
    var factor = step < warmUp ? Double(step + 1) / Double(warmUp) : 1
    switch shape {
    case .constant: break
    case .cosine:
      let progress = Double(max(step - warmUp, 0)) / Double(max(total - warmUp, 1))
      factor *= 0.5 * (1 + cos(.pi * min(progress, 1)))
    case .linearCooldown:
      let steps = cooldown * Double(total)
      if steps > 0 { factor *= min(1, Double(max(total - step, 0)) / steps) }
    }
    return Float(base * factor)
  }
}
