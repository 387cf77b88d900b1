import LangevinTensor

/// How noisy each sample of a training batch is.
public struct BatchLevels: Sendable {
  /// One a sample.
  public let levels: [NoiseLevel]

  /// One level a sample.
  public init(_ levels: [NoiseLevel]) { self.levels = levels }

  /// What the network is told, one number a sample.
  public var timesteps: [Float] { levels.map(\.timestep) }

  /// `alpha clean + sigma noise`; float32 [N, ..., C] all.
  public func noisy(_ clean: Tensor, _ noise: Tensor) throws -> Tensor {
    try clean * factors(clean) { $0.alpha } + noise * factors(noise) { $0.sigma }
  }

  /// One number a sample, as long as `x` has axes.
  private func factors(_ x: Tensor, _ factor: (NoiseLevel) -> Double) throws -> Tensor {
    try column(levels.map { Float(factor($0)) }, beside: x)
  }

  fileprivate func column(_ values: [Float], beside x: Tensor) throws -> Tensor {
    let shape = Shape([values.count] + Array(repeating: 1, count: x.shape.rank - 1))
    return try Tensor(values, shape, on: x.device)
  }

  /// What a network of this kind is to say of `noisy`; float32 [N, ..., C].
  ///
  /// Epsilon: the noise, arXiv:2006.11239, eq. 14. V: `alpha noise - sigma clean`, arXiv:2202.00512, appendix D. Sample:
  /// `clean`. Flow: `noise - clean`, arXiv:2209.03003, eq. 1.
  public func target(_ prediction: Prediction, _ clean: Tensor, _ noise: Tensor) throws -> Tensor {
    switch prediction {
    case .epsilon: noise
    case .sample: clean
    case .flow: try noise - clean
    case .v: try noise * factors(noise) { $0.alpha } - clean * factors(clean) { $0.sigma }
    }
  }

  /// The mean over the batch of each sample's weight times its mean square error, float32 [1]. Output and target are [N, ...,
  /// C]; the output's second half of channels, where it has twice as many, says something else and does not count.
  public func loss(
    _ output: Tensor, _ target: Tensor, _ weighting: LossWeighting, _ prediction: Prediction
  ) throws -> Tensor {
    let error = try output.cast(to: .float32) - target
    let axes = Array(1..<error.shape.rank)
    let errors = try error.map(.square).reduced(.mean, axes: axes).reshaped([error.shape[0]])
    let weights = levels.map { Float(weighting.weight($0, prediction)) }
    return try (errors * Tensor(weights, [weights.count], on: errors.device)).reduced(.mean, axes: [0])
      .reshaped([1])
  }
}

/// How much a sample's error counts, by how noisy it is.
public enum LossWeighting: Sendable, Hashable {
  /// All the same.
  case none
  /// The error of the clean latent counts at most as much as the noise's does at a signal-to-noise ratio of gamma:
  /// arXiv:2303.09556, section 3.4. For v it is `min(SNR, gamma) / (SNR + 1)`.
  case minSNR(gamma: Double)

  /// The factor of a sample's mean square error. A flow's errors all count the same.
  public func weight(_ level: NoiseLevel, _ prediction: Prediction) -> Double {
    guard case .minSNR(let gamma) = self else { return 1 }
    let ratio = level.alpha * level.alpha / (level.sigma * level.sigma)
    guard ratio.isFinite else { return prediction == .sample ? gamma : 0 }
    switch prediction {
    // At no signal at all the limit of min(SNR, gamma) / SNR.
    case .epsilon: return ratio > 0 ? min(ratio, gamma) / ratio : 1
    case .v: return min(ratio, gamma) / (ratio + 1)
    case .sample: return min(ratio, gamma)
    case .flow: return 1
    }
  }
}
