import LangevinTensor

/// Where sampling is after a step.
public struct SamplingProgress: Sendable {
  /// How many steps are done.
  public let step: Int
  /// How many there are.
  public let count: Int
  /// The latent so far, float32 [N, ..., C].
  public let latent: Tensor
  /// What the denoiser last guessed the clean latent to be, before any limit; for previews.
  public let guess: Tensor?
}

/// Called after each step; sampling stops with what it throws.
public typealias Progress = (SamplingProgress) throws -> Void

/// Changes the latent after each step; `next` is the level at which the next step begins, nil after the last.
public typealias StepAdjustment = (_ latent: Tensor, _ next: NoiseLevel?) throws -> Tensor

/// A run of a sampler: the one loop over steps. Each call of `next` takes a step.
///
/// It is an asynchronous sequence, too, whose elements come as the steps are done. Each is computed on the
/// task that asks for it:
/// ```swift
/// for try await state in Sampling(sampler, denoiser, from: start, along: schedule, noise: noise) {
///   show(state.guess)
/// }
/// ```
public struct Sampling: AsyncSequence {
  /// The latent so far, float32 [N, ..., C].
  public private(set) var latent: Tensor
  private var sampler: any Sampler
  private var step: SamplerStep
  private let adjust: StepAdjustment?

  /// A run from x, float32 [N, ..., C], as `Schedule.initial` or `addingNoise` gives it. `adjust` changes what each
  /// step has made.
  public init(
    _ sampler: any Sampler, _ denoiser: any Denoiser, from x: Tensor, along schedule: Schedule,
    noise: NoiseSource, adjust: StepAdjustment? = nil
  ) {
    latent = x
    self.adjust = adjust
    self.sampler = sampler
    step = SamplerStep(denoiser, limit: sampler.limit, along: schedule, noise: noise)
  }

  /// The noise as the steps so far left it.
  public var noise: NoiseSource { step.source }

  /// Takes a step; nil where none is left. `progress` is called within the step's span.
  ///
  /// Throws what the sampler, the denoiser and `progress` throw, and `CancellationError` in a task that was
  /// cancelled.
  public mutating func next(_ progress: Progress? = nil) throws -> SamplingProgress? {
    let count = step.schedule.steps.count
    guard step.index < count else { return nil }
    try Task.checkCancellation()
    return try stage("step \(step.index + 1)") {
      latent = try sampler.step(latent, &step)
      step.index += 1
      if let adjust {
        let next = step.index < count ? step.from : nil
        latent = try stage("adjust") { try adjust(latent, next) }
      }
      let state = SamplingProgress(step: step.index, count: count, latent: latent, guess: step.lastGuess)
      try progress?(state)
      return state
    }
  }

  /// The run from where it is.
  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(run: self) }

  /// Takes a step for each element.
  public struct AsyncIterator: AsyncIteratorProtocol {
    var run: Sampling

    /// The next step's outcome. Throws as `Sampling.next` does.
    public mutating func next(isolation actor: isolated (any Actor)?) async throws -> SamplingProgress? {
      // Others get their turn between two steps.
      await Task.yield()
      return try run.next()
    }
  }
}
