import Foundation
import LangevinJSON

extension SchedulerFile {
  /// How a shift grows with the picture.
  private enum TimeShift: String, CaseIterable {
    /// The exponential of a number that is linear in the tokens.
    case exponential
    /// That number itself.
    case linear
  }

  /// The file for a picture of so many tokens: where it shifts a flow's sigmas by a picture's size, with the shift of this
  /// size, as `calculate_shift` of diffusers' pipelines computes it. arXiv:2403.03206, section 5.3.2.
  ///
  /// Throws `DiffusionError.configuration` for fields that give no shift.
  public func shifted(forTokens count: Int) throws -> SchedulerFile {
    guard try bool("use_dynamic_shifting") == true else { return self }
    let (least, most) = (
      try int("base_image_seq_len") ?? 256, try int("max_image_seq_len") ?? 4096
    )
    guard most > least else {
      throw DiffusionError.configuration(
        field: "max_image_seq_len", reason: "\(most) is not above base_image_seq_len \(least)")
    }
    let (low, high) = (try double("base_shift") ?? 0.5, try double("max_shift") ?? 1.15)
    let value = low + (high - low) * Double(count - least) / Double(most - least)
    var result = setting(["use_dynamic_shifting": .bool(false)])
    switch try choice("time_shift_type") ?? TimeShift.exponential {
    case .exponential: result.noise.flowShift = exp(value)
    case .linear: result.noise.flowShift = value
    }
    // Only a fixed shift is in the training's least sigma.
    if result.noise.flowEnd == .shiftedTraining { result.noise.flowEnd = .training }
    try requirePositive("max_shift", result.noise.flowShift)
    return result
  }
}
