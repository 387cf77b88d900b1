import LangevinDiffusion
import LangevinModels
import LangevinTensor

/// Work of a UNet that a request leaves out, for an error that is small where the picture is settled.
public enum UNetCache: Sendable, Hashable {
  /// DeepCache (arXiv:2312.00858): only every `interval`th step computes all of the UNet; the others take its deep
  /// features, and compute what lies up to skip `branch`.
  case deepCache(interval: Int, branch: Int = 0)
  /// T-GATE (arXiv:2404.02747): from step `step` on, counted from 0, cross-attentions give what they last gave, the mean
  /// of the negative's and the prompt's, and there is no guidance.
  case tGate(step: Int)
  /// Token merging (arXiv:2303.17604): where pictures are largest, self-attention sees this share less of the pixels.
  case tokenMerging(ratio: Double)

  /// `deepcache:N`, `deepcache:N:BRANCH`, `tgate:K` or `tome:RATIO`; nil for anything else.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let numbers = parts.dropFirst().map { Double($0) }
    let whole = parts.dropFirst().map { Int($0) }
    switch (parts[0], numbers.count) {
    case ("deepcache", 1...2):
      guard let interval = whole[0], let branch = whole.count == 2 ? whole[1] : 0 else { return nil }
      self = .deepCache(interval: interval, branch: branch)
    case ("tgate", 1):
      guard let step = whole[0] else { return nil }
      self = .tGate(step: step)
    case ("tome", 1):
      guard let ratio = numbers[0] else { return nil }
      self = .tokenMerging(ratio: ratio)
    default: return nil
    }
  }

  /// As `init` reads it.
  public var text: String {
    switch self {
    case .deepCache(let interval, 0): "deepcache:\(interval)"
    case .deepCache(let interval, let branch): "deepcache:\(interval):\(branch)"
    case .tGate(let step): "tgate:\(step)"
    case .tokenMerging(let ratio): "tome:\(ratio)"
    }
  }

  /// Throws `GenerationError.badRequest` where the UNet or the number of steps is not for it.
  func check(_ unet: UNet2DConditionConfig, steps: Int) throws {
    func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
      if !condition { throw GenerationError.badRequest("the cache \(text): \(reason())") }
    }
    switch self {
    case .deepCache(let interval, let branch):
      try require(
        (2...10_000).contains(interval), "the steps from one whole UNet to the next must be 2 to 10000")
      let last = unet.skipCount - 1
      try require((0...last).contains(branch), "this UNet has the branches 0 to \(last)")
    case .tGate(let step):
      try require(
        (1..<max(steps, 1)).contains(step),
        "the step must be 1 or more, and below the \(steps) that are taken")
      try require(!unet.crossAttentions.isEmpty, "this UNet has no transformers")
    case .tokenMerging(let ratio):
      try require(ratio > 0 && ratio <= 0.75, "the share of pixels must be above 0 and at most 0.75")
      try require(!unet.crossAttentions.isEmpty, "this UNet has no transformers")
    }
  }
}

/// What the calls of a trajectory's UNet, which come step by step, spare each other.
final class UNetCacheRun {
  private let cache: UNetCache
  private let timesteps: [Float]
  /// Of T-GATE: of a guided call for those that are not.
  private let crossAttention = KeptTensors()

  init(_ cache: UNetCache, along schedule: Schedule) {
    self.cache = cache
    timesteps = schedule.steps.map(\.from.timestep)
  }

  /// The number, from 0, of the step in which the network is called for this timestep, which may be between two steps'.
  private func step(_ timestep: Float) -> Int {
    max(0, timesteps.count(where: { $0 >= timestep - 1e-3 }) - 1)
  }

  /// What each call of a network with its conditioning inside adds; `isGuided` for rows of [negative; prompt].
  func network(isGuided: Bool) -> (_ timestep: Float, _ additions: inout UNetAdditions) -> Void {
    let deep = KeptTensors()
    var keptAt = -1
    return { [self] timestep, additions in
      let step = self.step(timestep)
      switch cache {
      case .deepCache(let interval, let branch):
        // Guidance that is not used in every step has two networks, and the other may have run meanwhile.
        let isReused = step % interval != 0 && keptAt >= step - step % interval
        if !isReused { keptAt = step }
        additions.deepFeatures = DeepFeatures(deep, branch: branch, isReused: isReused)
      case .tGate(let gate):
        if step == gate - 1 {
          additions.crossAttention = CrossAttentionOutputs(
            crossAttention, isGuided ? .keepMeanOfHalves : .keep)
        } else if step >= gate {
          additions.crossAttention = CrossAttentionOutputs(crossAttention, .reuse)
        }
      case .tokenMerging(let ratio): additions.mergedTokens = ratio
      }
    }
  }

  /// T-GATE's denoiser: guided before the gate.
  func gated(_ guided: any Denoiser, _ plain: () throws -> any Denoiser) rethrows -> any Denoiser {
    guard case .tGate(let gate) = cache else { return guided }
    return GatedDenoiser(before: guided, after: try plain()) { [self] in step($0.timestep) >= gate }
  }
}

/// One denoiser up to a step, and another from there on.
private struct GatedDenoiser: Denoiser {
  let before, after: any Denoiser
  let isAfter: (NoiseLevel) -> Bool

  func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
    try (isAfter(level) ? after : before).denoised(x, at: level)
  }

  func guess(_ x: Tensor, at level: NoiseLevel) throws -> Guess {
    try (isAfter(level) ? after : before).guess(x, at: level)
  }
}
