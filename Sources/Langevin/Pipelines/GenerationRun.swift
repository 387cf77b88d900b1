import LangevinDiffusion
import LangevinNN
import LangevinTensor

/// One way from noise to the latents of a batch of images: what the shared loop runs, and what it repeats to find
/// where numbers went wrong. An image has at least one; unCLIP has a prior's, a decoder's and a super-resolution's.
public struct Trajectory {
  /// Tells those of one image apart: `unet`, `prior`.
  public var name: String
  /// Which images are computed together.
  public var images: Range<Int>
  /// How many steps the sampler takes.
  public var stepCount: Int
  /// Philox noise of different streams has nothing in common; 0 for the first trajectory of an image.
  public var stream: UInt32
  /// What sampling starts from, float32 [N, spatial..., C].
  public var start: (_ noise: inout NoiseSource) throws -> Tensor
  /// Samples from there, calling `progress` after each step.
  public var sample:
    (_ start: Tensor, _ noise: inout NoiseSource, _ progress: @escaping Progress) throws -> Tensor
  /// Repeats the denoiser's call of step k, from 0, on the latent before it.
  public var evaluate: (_ latent: Tensor, _ step: Int) throws -> Void

  /// A trajectory of whatever stages.
  public init(
    _ name: String, of images: Range<Int>, stepCount: Int, stream: UInt32 = 0,
    start: @escaping (_ noise: inout NoiseSource) throws -> Tensor,
    sample: @escaping (Tensor, inout NoiseSource, @escaping Progress) throws -> Tensor,
    evaluate: @escaping (_ latent: Tensor, _ step: Int) throws -> Void
  ) {
    (self.name, self.images, self.stepCount, self.stream) = (name, images, stepCount, stream)
    (self.start, self.sample, self.evaluate) = (start, sample, evaluate)
  }

  /// A sampler along its schedule, from what `start` makes; `adjust` changes what each step has made.
  public init(
    _ name: String, of images: Range<Int>, by sampling: ResolvedSampling, denoiser: any Denoiser,
    stream: UInt32 = 0, adjust: StepAdjustment? = nil,
    start: @escaping (_ noise: inout NoiseSource) throws -> Tensor
  ) {
    let schedule = sampling.schedule
    self.init(
      name, of: images, stepCount: schedule.steps.count, stream: stream, start: start,
      sample: { x, noise, progress in
        try sampling.sampler.sample(
          denoiser, from: x, along: schedule, noise: &noise, progress: progress, adjust: adjust)
      },
      evaluate: { latent, step in _ = try denoiser.denoised(latent, at: schedule.steps[step].from) })
  }

  /// A sampler along its schedule, from noise of one image's shape, [1, spatial..., C], or in its place from the
  /// request's initial latents.
  public init(
    _ name: String, of images: Range<Int>, by sampling: ResolvedSampling, denoiser: any Denoiser,
    stream: UInt32 = 0, shape: Shape, latents: HostLatents? = nil
  ) {
    self.init(name, of: images, by: sampling, denoiser: denoiser, stream: stream) { noise in
      let first =
        try latents?.tensor(on: noise.device).rows(images)
        ?? noise.normal(shape.replacing(axis: 0, with: images.count), for: .initial)
      return try sampling.schedule.initial(noise: first)
    }
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
  /// Where networks stay when the run ends.
  private let kept: KeptNetworks?
  private let progress: (GenerationProgress) throws -> Void
  /// By image, from the first draw until the image is finished: a generator's state is large.
  private var noise: [Int: NoiseSource] = [:]
  /// What was said to be cut off: text encoders often cut alike.
  private var truncated: Set<[String]> = []

  init(
    _ request: GenerationRequest, on device: Device, isRehearsal: Bool = false,
    keeping kept: KeptNetworks? = nil,
    _ progress: @escaping (GenerationProgress) throws -> Void
  ) {
    self.isRehearsal = isRehearsal
    self.kept = kept
    self.request = request
    self.device = device
    self.progress = progress
    seeds =
      request.seeds
      ?? (0..<request.imageCount).map { request.sharesSeed ? request.seed : request.seed &+ UInt64($0) }
  }

  private func noise(of images: Range<Int>) -> NoiseSource {
    NoiseSource(
      joining: images.map { noise[$0] ?? NoiseSource(request.noise, seeds: [seeds[$0]], on: device) })
  }

  /// Draws noise of a batch: what `body` draws comes after what was drawn before. `stream` is `Trajectory.stream`.
  public func drawing<Result>(
    for images: Range<Int>, stream: UInt32 = 0, _ body: (_ noise: inout NoiseSource) throws -> Result
  ) throws -> Result {
    var source = noise(of: images)
    source.trajectory = stream
    defer { for (image, single) in zip(images, source.images) { noise[image] = single } }
    return try stage("start") { try body(&source) }
  }

  /// Nothing is drawn for this image any more.
  func finish(_ image: Int) { noise[image] = nil }

  /// Tells the caller of `generate` about an event. Throws what the caller throws, which ends the run.
  public func report(_ event: GenerationProgress) throws { try progress(event) }

  /// Tells the caller that the end of a prompt was cut off, once for each such end.
  func reportTruncated(_ prompt: String, rest: String) throws {
    if truncated.insert([prompt, rest]).inserted { try report(.truncated(prompt: prompt, rest: rest)) }
  }

  /// Loads a component under its name: `text encoder`, `unet`. Where the caller keeps networks, it is loaded once, but
  /// for one that belongs to the request.
  public func load<Model>(_ name: String, isOfRequest: Bool = false, _ body: () throws -> Model) throws
    -> Model
  {
    func load() throws -> Model {
      try report(.loading(name))
      return try stage("load \(name)") {
        // What the network before has left is of other sizes. Little of it is quicker kept.
        if !isOfRequest, device.backend.memory.cached > 256 << 20 { device.backend.releaseCachedMemory() }
        return try body()
      }
    }
    guard let kept, !isOfRequest else { return try load() }
    return try kept.network(name, load)
  }

  /// Whether networks stay loaded for other requests.
  var keepsNetworks: Bool { kept != nil }

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

  /// Runs a trajectory to its end. Each image's noise goes on from where its last trajectory left it.
  ///
  /// `previewer` makes pixels of guesses, [1, spatial..., C], where the request wants previews. Of a batch, events
  /// carry the first image's number.
  public func sample(_ trajectory: Trajectory, previewer: PixelDecoder? = nil) throws -> Tensor {
    let images = trajectory.images
    try report(.sampling(trajectory.name, image: images.lowerBound, steps: trajectory.stepCount))
    var source = noise(of: images)
    defer { for (image, single) in zip(images, source.images) { noise[image] = single } }
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
      try self.report(.step(step, of: state.count, image: images.lowerBound))
      guard let every = self.request.previewEvery, step % every == 0, let previewer, let guess = state.guess
      else { return }
      for (row, image) in images.enumerated() {
        let picture = try stage("preview") {
          try Clip(previewer(guess.rows(row..<row + 1), image), framesPerSecond: nil).picture
        }
        try self.report(.preview(picture, step: step, image: image))
      }
    }
  }

  /// Standard normal noise of an image that belongs to no trajectory, float32 of this shape, [1, spatial..., C]. It
  /// comes after what was drawn before; of Philox it is what the first draw of a trajectory of this stream would be.
  public func noise(_ shape: Shape, image: Int, stream: UInt32) throws -> Tensor {
    try drawing(for: image..<image + 1, stream: stream) { try $0.normal(shape, for: .initial) }
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
