import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A way from a request to pictures with the components of one checkpoint. A pipeline supplies the stages;
/// `generate` is the one loop over images that all share.
///
/// Stages hold their networks in what they return, so that each is let go when its stage is over: the text
/// encoders before the denoiser is loaded, the denoiser before the last image is decoded.
public protocol Pipeline: Sendable {
  /// A request with everything derived from it.
  associatedtype Plan
  /// What the prompts and pictures of a request became.
  associatedtype Conditioning

  /// The classes of model_index.json that this pipeline runs.
  static var classes: [String] { get }
  /// The components that the folder must have, with the classes that they may be of; none for any class.
  static var components: [ComponentNeed] { get }
  /// The settings of a request that have a meaning here.
  static var options: Set<RequestOption> { get }

  /// Reads configurations and tokenizers, and opens every component's file; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  init(_ checkpoint: Checkpoint, on device: Device, precision: DType) throws

  /// What it was made of.
  var checkpoint: Checkpoint { get }
  /// Where everything is computed.
  var device: Device { get }

  /// Sets what the request leaves to the pipeline: steps, sampler, guidance, size. Throws
  /// `GenerationError.badRequest`.
  func fill(_ request: inout GenerationRequest) throws
  /// Checks a filled request and derives schedules and shapes. Throws `GenerationError`, `DiffusionError`.
  func plan(_ request: GenerationRequest) throws -> Plan
  /// Lines for the user about settings without effect, or that were changed.
  func warnings(_ plan: Plan) -> [String]

  /// Runs the encoders, for all prompts.
  func condition(_ plan: Plan, _ run: GenerationRun) throws -> Conditioning
  /// Loads the denoiser; the closure gives the trajectory of image k.
  func denoiser(_ plan: Plan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  /// Loads what makes pictures of latents; the closure makes of image k's final latent [1, spatial..., C]
  /// its pixels [frames, H, W, 3 or 1] in -1...1.
  func decoder(_ plan: Plan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
  /// Loads what makes previews of guesses, as `decoder` does pixels of latents; asked for only where `options` has
  /// `.preview`.
  func previewer(_ plan: Plan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ guess: Tensor, _ image: Int) throws -> Tensor
}

extension Pipeline {
  /// The decoder that also makes the picture.
  public func previewer(_ plan: Plan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ guess: Tensor, _ image: Int) throws -> Tensor
  {
    try decoder(plan, conditioning, run)
  }
}

/// A component that a pipeline needs.
public struct ComponentNeed: Sendable {
  /// The component's name in model_index.json, which is also its folder's.
  public var name: String
  /// Those supported; empty for any.
  public var classes: [String]

  /// A component of one of these classes.
  public init(_ name: String, _ classes: String...) { (self.name, self.classes) = (name, classes) }
}

extension Pipeline {
  /// By default no setting is without effect.
  public func warnings(_ plan: Plan) -> [String] { [] }

  /// The request with every setting that it left to the pipeline, checked.
  ///
  /// Throws `GenerationError`.
  public func filled(_ request: GenerationRequest) throws -> GenerationRequest {
    var filled = request
    if let option = request.given.first(where: { !Self.options.contains($0) }) {
      throw GenerationError.unusedOption(
        option.rawValue, pipeline: checkpoint.pipeline,
        used: RequestOption.allCases.filter { Self.options.contains($0) }.map(\.rawValue))
    }
    if Self.options.contains(.prompt), request.prompts.isEmpty, request.images.isEmpty {
      throw GenerationError.badRequest("there is no prompt; \(checkpoint.pipeline) needs one")
    }
    try request.checkRanges()
    try fill(&filled)
    return filled
  }

  /// Runs a request and keeps all that it makes. `progress` may throw to stop; the error passes through.
  ///
  /// Images run one after the other: image k is what it would be alone. For more images than memory holds there
  /// is `stream`.
  ///
  /// Throws `GenerationError`, `TensorError`, `WeightError`, `CheckpointError`.
  public func generate(
    _ request: GenerationRequest, progress: (GenerationProgress) throws -> Void = { _ in }
  ) throws -> GenerationResult {
    var (clips, seeds, latents): ([Clip], [UInt64], [HostLatents]) = ([], [], [])
    try stream(request) { event in
      try progress(event)
      switch event {
      case .sampled(let latent, _): latents.append(try HostLatents(latent))
      case .finished(let clip, _, let seed):
        clips.append(clip)
        seeds.append(seed)
      default: break
      }
    }
    let shape = latents.first?.shape.replacing(axis: 0, with: latents.count) ?? [0]
    return GenerationResult(
      clips: clips, seeds: seeds, latents: HostLatents(values: latents.flatMap(\.values), shape: shape))
  }

  /// Runs a request and keeps nothing: what it makes is handed to `progress`, latents as `.sampled` and pictures as
  /// `.finished`. The memory is that of one image, but with `lowMemory` latents wait for their decoder.
  ///
  /// `progress` may throw to stop; the error passes through. Throws `GenerationError`, `TensorError`, `WeightError`,
  /// `CheckpointError`.
  public func stream(_ request: GenerationRequest, progress: (GenerationProgress) throws -> Void) throws {
    let request = try filled(request)
    let plan = try plan(request)
    try withoutActuallyEscaping(progress) { progress in
      try stream(plan, GenerationRun(request, on: device, progress))
    }
  }

  /// Runs a request for the memory that it takes: all but the pictures, whose pixels stay on the device.
  func rehearse(_ request: GenerationRequest, progress: (GenerationProgress) throws -> Void) throws {
    let request = try filled(request)
    let plan = try plan(request)
    try withoutActuallyEscaping(progress) { progress in
      try stream(plan, GenerationRun(request, on: device, isRehearsal: true, progress))
    }
  }

  private func stream(_ plan: Plan, _ run: GenerationRun) throws {
    for line in warnings(plan) { try run.report(.warning(line)) }
    let conditioning = try condition(plan, run)
    var denoiser = Optional(try denoiser(plan, conditioning, run))
    var previewer = try run.request.previewEvery.map { _ in try self.previewer(plan, conditioning, run) }
    var decoder: ((Tensor, Int) throws -> Tensor)?
    var waiting: [(image: Int, latent: Tensor)] = []
    for image in run.seeds.indices {
      guard let trajectory = try denoiser?(image) else { break }
      let latent = try run.sample(trajectory, image: image, previewer: previewer)
      try run.report(.sampled(latent, image: image))
      waiting.append((image, latent))
      let isLast = image == run.seeds.count - 1
      if run.request.lowMemory && !isLast { continue }
      // Decoding needs memory too, and this was the denoiser's last turn.
      if isLast { (denoiser, previewer) = (nil, nil) }
      for (image, latent) in waiting {
        let decode = try decoder ?? self.decoder(plan, conditioning, run)
        decoder = decode
        try run.report(.decoding(image: image))
        let pixels = try decode(latent, image)
        let clip = try stage("picture") {
          try run.isRehearsal
            ? Clip(frames: [Picture(width: 1, height: 1, pixels: [0, 0, 0])])
            : Clip(pixels, framesPerSecond: run.request.framesPerSecond)
        }
        try run.report(.finished(clip, image: image, seed: run.seeds[image]))
        run.finish(image)
      }
      waiting = []
    }
  }
}
