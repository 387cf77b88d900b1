/// What the numbers of a schedule can be. They come from files that anybody may have written, and a sampler that is
/// handed nonsense would trap, hang or draw a black picture.
extension NoiseSchedule {
  /// Throws `DiffusionError.configuration`, which names the field and its range.
  func checkRanges() throws {
    func require(_ value: Double, _ field: String, _ isValid: (Double) -> Bool, _ range: String) throws {
      guard !isValid(value) else { return }
      throw DiffusionError.configuration(field: field, reason: "\(value) is not \(range)")
    }
    func whole(_ value: Int, _ field: String, _ range: ClosedRange<Int>) throws {
      guard !range.contains(value) else { return }
      throw DiffusionError.configuration(
        field: field, reason: "\(value) is not within \(range.lowerBound) and \(range.upperBound)")
    }
    // The most that float32 arithmetic of a few such factors can take.
    let most = 1e9
    func isPositive(_ value: Double) -> Bool { value > 0 && value <= most }
    let positive = "above 0 and at most 1e9"

    try whole(trainTimesteps, "num_train_timesteps", 1...1_000_000)
    try require(betaStart, "beta_start", { (0...1).contains($0) }, "within 0 and 1")
    try require(betaEnd, "beta_end", { (0...1).contains($0) }, "within 0 and 1")
    try whole(stepsOffset, "steps_offset", 0...1_000_000)
    try require(clipSampleRange, "clip_sample_range", isPositive, positive)
    try require(thresholdingRatio, "dynamic_thresholding_ratio", { (0...1).contains($0) }, "within 0 and 1")
    try require(sampleMaxValue, "sample_max_value", { $0 >= 1 && $0 <= most }, "within 1 and 1e9")
    if let sigmaMin { try require(sigmaMin, "sigma_min", isPositive, positive) }
    if let sigmaMax { try require(sigmaMax, "sigma_max", isPositive, positive) }
    // Below every logarithm it leaves nothing out; above 0 nothing of the way would be left.
    try require(lambdaMinClipped, "lambda_min_clipped", { $0 <= 0 }, "at most 0")
    try whole(originalInferenceSteps, "original_inference_steps", 1...1_000_000)
    try require(timestepScaling, "timestep_scaling", isPositive, positive)
    try require(flowShift, "shift", isPositive, positive)
  }
}
