import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// Loads what is needed, then makes the trajectory of any batch of images. It owns the denoising networks.
public typealias TrajectoryMaker = (_ images: Range<Int>) throws -> Trajectory

/// Makes of an image's final latent [1, spatial..., C] its pixels [frames, H, W, 3 or 1] in -1...1. It owns the
/// networks that do it.
public typealias PixelDecoder = (_ latent: Tensor, _ image: Int) throws -> Tensor

/// A way from a request to pictures with the components of one checkpoint. A pipeline supplies the stages;
/// `generate` is the one loop over images that all share.
///
/// Encoders are freed as `condition` returns; what `denoiser`, `previewer` and `decoder` return owns its networks, and
/// `RunNetworks` says when each is loaded and freed.
public protocol Pipeline: Sendable {
  /// A request with every setting made and everything derived from it.
  associatedtype Resolved: ResolvedRequest
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

  /// Makes the settings that the request leaves to the pipeline, checks them, and derives schedules and shapes.
  /// Callers use `resolved`, which first checks what holds for every pipeline.
  ///
  /// Throws `GenerationError`, `DiffusionError`.
  func resolve(_ request: GenerationRequest) throws -> Resolved

  /// Runs the encoders, for all prompts.
  func condition(_ request: Resolved, _ run: GenerationRun) throws -> Conditioning
  /// Loads the denoiser.
  func denoiser(_ request: Resolved, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> TrajectoryMaker
  /// Loads what makes pictures of latents.
  func decoder(_ request: Resolved, _ conditioning: Conditioning, _ run: GenerationRun) throws -> PixelDecoder
  /// Loads what makes previews of guesses; asked for only where `options` has `.preview`.
  func previewer(_ request: Resolved, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> PixelDecoder
}

extension Pipeline {
  /// The decoder that also makes the picture.
  public func previewer(_ request: Resolved, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> PixelDecoder
  {
    try decoder(request, conditioning, run)
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
  /// The request with every setting that it left to the pipeline, checked.
  ///
  /// Throws `GenerationError`, `DiffusionError`.
  public func resolved(_ request: GenerationRequest) throws -> Resolved {
    try Self.check(request, for: checkpoint.pipeline)
    return try resolve(request)
  }

  /// What can be wrong with a request whatever the model's configuration is. `name` is its class, for messages.
  static func check(_ request: GenerationRequest, for name: String) throws {
    if let option = request.given.first(where: { !options.contains($0) }) {
      throw GenerationError.unusedOption(
        option.rawValue, pipeline: name,
        used: RequestOption.allCases.filter { options.contains($0) }.map(\.rawValue))
    }
    if options.contains(.prompt), request.prompts.isEmpty, request.images.isEmpty {
      throw GenerationError.badRequest("there is no prompt; \(name) needs one")
    }
    try request.checkRanges()
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
  /// `progress` may throw to stop; the error passes through. With `kept` networks are loaded in the first run only.
  /// Throws `GenerationError`, `TensorError`, `WeightError`, `CheckpointError`.
  public func stream(
    _ request: GenerationRequest, keeping kept: KeptNetworks? = nil,
    progress: (GenerationProgress) throws -> Void
  ) throws {
    let resolved = try resolved(request)
    try withoutActuallyEscaping(progress) { progress in
      try stream(resolved, GenerationRun(resolved.request, on: device, keeping: kept, progress))
    }
  }

  /// Runs a request for the memory that it takes: all but the pictures, whose pixels stay on the device.
  func rehearse(_ request: GenerationRequest, progress: (GenerationProgress) throws -> Void) throws {
    let resolved = try resolved(request)
    try withoutActuallyEscaping(progress) { progress in
      try stream(resolved, GenerationRun(resolved.request, on: device, isRehearsal: true, progress))
    }
  }

  private func stream(_ resolved: Resolved, _ run: GenerationRun) throws {
    for line in resolved.warnings { try run.report(.warning(line)) }
    var networks = RunNetworks(self, resolved, try condition(resolved, run), run)
    var waiting: [(image: Int, latent: Tensor)] = []
    let batches = run.request.share ?? run.request.batches
    for images in batches {
      let latents = try networks.sample(images)
      for (row, image) in images.enumerated() {
        let latent = try latents.rows(row..<row + 1)
        try run.report(.sampled(latent, image: image))
        waiting.append((image, latent))
      }
      let isLast = images == batches.last
      if run.request.lowMemory && !isLast { continue }
      // Decoding needs memory too, and this was the denoiser's last turn.
      if isLast { networks.freeDenoiser() }
      for (image, latent) in waiting {
        let clip = try networks.clip(latent, image)
        try run.report(.finished(clip, image: image, seed: run.seeds[image]))
        run.finish(image)
      }
      waiting = []
    }
  }
}

/// Owns the networks of a run from the first trajectory on: each is loaded when it is first needed, the denoiser is
/// freed after the last trajectory, and the decoder with the run.
private struct RunNetworks<P: Pipeline> {
  private let pipeline: P
  private let request: P.Resolved
  private let conditioning: P.Conditioning
  private let run: GenerationRun
  private var denoiser: TrajectoryMaker?
  private var previewer: PixelDecoder?
  private var decoder: PixelDecoder?

  init(_ pipeline: P, _ request: P.Resolved, _ conditioning: P.Conditioning, _ run: GenerationRun) {
    (self.pipeline, self.request, self.conditioning, self.run) = (pipeline, request, conditioning, run)
  }

  /// The final latents of a batch, [N, spatial..., C].
  mutating func sample(_ images: Range<Int>) throws -> Tensor {
    let denoiser = try self.denoiser ?? pipeline.denoiser(request, conditioning, run)
    self.denoiser = denoiser
    if run.request.previewEvery != nil, previewer == nil {
      previewer = try pipeline.previewer(request, conditioning, run)
    }
    return try run.sample(denoiser(images), previewer: previewer)
  }

  /// No trajectory is left to sample.
  mutating func freeDenoiser() { (denoiser, previewer) = (nil, nil) }

  /// What is seen of an image.
  mutating func clip(_ latent: Tensor, _ image: Int) throws -> Clip {
    let decoder = try self.decoder ?? pipeline.decoder(request, conditioning, run)
    self.decoder = decoder
    try run.report(.decoding(image: image))
    let pixels = try decoder(latent, image)
    return try stage("picture") {
      try run.isRehearsal
        ? Clip(frames: [Picture(width: 1, height: 1, pixels: [0, 0, 0])])
        : Clip(pixels, framesPerSecond: run.request.framesPerSecond)
    }
  }
}
