import LangevinDiffusion
import LangevinNN
import LangevinTensor

/// One way from noise to a latent: what the shared loop runs, and what it repeats to find where numbers went
/// wrong. A pipeline has at least one an image; unCLIP has a prior's, a decoder's and a super-resolution's.
public struct Trajectory {
  /// Tells those of one image apart: `unet`, `prior`.
  public var name: String
  /// How many steps the sampler takes.
  public var stepCount: Int
  /// Philox noise of different streams has nothing in common; 0 for the first trajectory of an image.
  public var stream: UInt32
  /// What sampling starts from, float32 [1, spatial..., C].
  public var start: (_ noise: inout NoiseSource) throws -> Tensor
  /// Samples from there, calling `progress` after each step.
  public var sample:
    (_ start: Tensor, _ noise: inout NoiseSource, _ progress: @escaping Progress) throws -> Tensor
  /// Repeats the denoiser's call of step k, from 0, on the latent before it.
  public var evaluate: (_ latent: Tensor, _ step: Int) throws -> Void

  /// A trajectory of whatever stages.
  public init(
    _ name: String, stepCount: Int, stream: UInt32 = 0,
    start: @escaping (_ noise: inout NoiseSource) throws -> Tensor,
    sample: @escaping (Tensor, inout NoiseSource, @escaping Progress) throws -> Tensor,
    evaluate: @escaping (_ latent: Tensor, _ step: Int) throws -> Void
  ) {
    (self.name, self.stepCount, self.stream) = (name, stepCount, stream)
    (self.start, self.sample, self.evaluate) = (start, sample, evaluate)
  }

  /// A sampler along a schedule. Without a `start` it is noise of this shape, [1, spatial..., C], at the
  /// schedule's first level.
  public init(
    _ name: String, _ sampler: any Sampler, along schedule: Schedule, stream: UInt32 = 0, shape: Shape,
    denoiser: some Denoiser, start: ((_ noise: inout NoiseSource) throws -> Tensor)? = nil
  ) {
    self.init(
      name, stepCount: schedule.steps.count, stream: stream,
      start: start ?? { noise in try schedule.initial(noise: noise.normal(shape, for: .initial)) },
      sample: { x, noise, progress in
        try sampler.sample(denoiser, from: x, along: schedule, noise: &noise, progress: progress)
      },
      evaluate: { latent, step in _ = try denoiser.denoised(latent, at: schedule.steps[step].from) })
  }
}

/// A request while it runs: what every pipeline's stages do alike. Each of its methods throws what its work
/// throws, and what the caller's `progress` throws.
public final class GenerationRun {
  /// With every setting made.
  public let request: GenerationRequest
  /// The seed of each image.
  public let seeds: [UInt64]
  /// Where everything is computed.
  public let device: Device
  /// Whether nobody will look at the pictures.
  let isRehearsal: Bool
  private let progress: (GenerationProgress) throws -> Void
  /// By image, from the first draw until the image is finished: a generator's state is large.
  private var noise: [Int: NoiseSource] = [:]

  init(
    _ request: GenerationRequest, on device: Device, isRehearsal: Bool = false,
    _ progress: @escaping (GenerationProgress) throws -> Void
  ) {
    self.isRehearsal = isRehearsal
    self.request = request
    self.device = device
    self.progress = progress
    seeds = (0..<request.imageCount).map { request.sharesSeed ? request.seed : request.seed &+ UInt64($0) }
  }

  private func noise(of image: Int) -> NoiseSource {
    noise[image] ?? NoiseSource(request.noise, seeds: [seeds[image]], on: device)
  }

  /// Nothing is drawn for this image any more.
  func finish(_ image: Int) { noise[image] = nil }

  /// Tells the caller of `generate` about an event. Throws what the caller throws, which ends the run.
  public func report(_ event: GenerationProgress) throws { try progress(event) }

  /// Loads a component under its name: `text encoder`, `unet`.
  public func load<Model>(_ name: String, _ body: () throws -> Model) throws -> Model {
    try report(.loading(name))
    return try stage("load \(name)", body)
  }

  /// Runs a network that is no denoiser. Throws `GenerationError.nonFinite` where its output is not finite.
  ///
  /// - Parameters:
  ///   - name: of the stage in a profile: `text encoder`.
  ///   - subject: for messages: `the text encoder`.
  ///   - body: what computes; it is repeated to find the operation at fault.
  public func compute(_ name: String, _ subject: String, _ body: () throws -> Tensor) throws -> Tensor {
    try stage(name) {
      let output = try body()
      if try output.nonFiniteCount() > 0 { throw try locate(stage: subject) { _ = try body() } }
      return output
    }
  }

  /// Runs a trajectory of an image to its end. The image's noise goes on from where its last trajectory left it.
  ///
  /// `previewer` makes pixels of guesses where the request wants previews.
  public func sample(
    _ trajectory: Trajectory, image: Int, previewer: ((_ guess: Tensor, _ image: Int) throws -> Tensor)? = nil
  ) throws -> Tensor {
    try report(.sampling(trajectory.name, image: image, steps: trajectory.stepCount))
    var source = noise(of: image)
    defer { noise[image] = source }
    source.trajectory = trajectory.stream
    let start = try stage("start") { try trajectory.start(&source) }
    var before = start
    return try trajectory.sample(start, &source) { state in
      let step = state.step
      if try stage("check", { try state.latent.nonFiniteCount() }) > 0 {
        throw try self.locate(stage: "step \(step) of \(state.count)") {
          try trajectory.evaluate(before, step - 1)
        }
      }
      before = state.latent
      try self.report(.step(step, of: state.count, image: image))
      if let every = self.request.previewEvery, step % every == 0, let previewer,
        let guess = state.guess
      {
        let picture = try stage("preview") { try Clip(previewer(guess, image), framesPerSecond: nil).picture }
        try self.report(.preview(picture, step: step, image: image))
      }
    }
  }

  /// Standard normal noise of an image that belongs to no trajectory, float32 of this shape, [1, spatial..., C]. It
  /// comes after what was drawn before; of Philox it is what the first draw of a trajectory of this stream would be.
  public func noise(_ shape: Shape, image: Int, stream: UInt32) throws -> Tensor {
    var source = noise(of: image)
    defer { noise[image] = source }
    source.trajectory = stream
    return try source.normal(shape, for: .initial)
  }

  /// Repeats a computation with every operation's output checked, and returns the error that names the first
  /// whose output is not finite.
  private func locate(stage: String, _ computation: () throws -> Void) throws -> GenerationError {
    device.audit = true
    defer { device.audit = false }
    do {
      try computation()
    } catch let error as TensorError {
      guard case .nonFinite(let operation, let output, _) = error else { throw error }
      return .nonFinite(stage: stage, operation: "\(operation) with output \(output)")
    }
    return .nonFinite(
      stage: stage, operation: "the sampler's update, or a device that does not repeat itself")
  }
}
