import ArgumentParser
import Foundation
import Langevin
import LangevinCPU
import LangevinDiffusion
import LangevinModels
import LangevinTensor

/// What to generate, of what and where: the options that every command has which runs the pipeline.
@dynamicMemberLookup struct GenerationOptions: ParsableArguments {
  @Argument(help: "What to draw; several prompts give pictures of each.")
  var prompts: [String] = []
  @OptionGroup(title: "Model and device") var modelOptions: ModelOptions
  @OptionGroup(title: "Picture") var picture: PictureOptions
  @OptionGroup(title: "Sampling") var sampling: SamplingOptions
  @OptionGroup(title: "Starting from a picture") var images: ImageOptions
  @OptionGroup(title: "Following pictures") var control: ControlOptions
  @OptionGroup(title: "A second pass") var second: HiresOptions
  @OptionGroup(title: "Videos") var video: VideoOptions
  @OptionGroup(title: "unCLIP") var unCLIP: UnCLIPOptions

  @Option(
    help: """
      How prompts are read. plain: as they are, and what does not fit is cut off. a1111: (word) and (word:1.3) \
      strengthen, [word] weakens, \\( is a parenthesis, and what does not fit begins another chunk. (default: plain)
      """)
  var promptSyntax: PromptSyntax?
  @Option(
    help:
      "Where its steps are: \(NoiseSchedule.Levels.spacingNames.joined(separator: ", ")). (default: the model's)"
  )
  var spacing: SpacingOption?
  @Option(
    parsing: .unconditional,
    help: "The noise of each step, falling, as in 14.6,7,3,1,0.3; for flow matching within 0 and 1.")
  var sigmas: NumberList?
  @Option(
    parsing: .unconditional,
    help: "Share of guidance's gain in contrast that is taken back, 0 to 1. (default: 0)")
  var guidanceRescale: Double?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Guidance only where the noise is within these sigmas.", valueName: "LO,HI"))
  var guidanceInterval: NumberList?
  @Option(parsing: .unconditional, help: "DDIM's share of fresh noise, 0 to 1. (default: 0)")
  var eta: Double?
  @Option(
    help: ArgumentHelp(
      """
      Leave out work of the UNet, for a picture that deviates from the one without. deepcache:N computes its deep \
      features every N steps. tgate:K stops guidance and keeps cross attention's outputs from step K on. tome:RATIO merges \
      that share of alike pixels before self-attention.
      """, valueName: "deepcache:N|tgate:K|tome:RATIO"))
  var cache: UNetCache?
  @Option(help: "Whose random numbers: philox, torch (its CPU generator) or torch-cuda. (default: philox)")
  var rng: NoiseKind?
  @Flag(
    name: .customLong("no-fallback"), help: "Fail where the device has no kernel, instead of using the CPU.")
  var noFallback = false
  @Option(
    parsing: .unconditional,
    help:
      "The autoencoder works in tiles of N by N latents. (default: one piece, or tiles of 64 where it must)")
  var tile: Int?
  @Flag(help: "Load no network beside another where it can be helped: pictures are decoded at the end.")
  var lowMemory = false
  @Option(help: "Start from the tensor 'latents' [count, C, h, w] of a safetensors file.")
  var initLatents: String?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Only the image of this number, from 0, of --init-latents.", visibility: .hidden))
  var initLatentsIndex: Int?
  @Option(help: "What a single file predicts: epsilon, v_prediction or sample, where it cannot be told.")
  var prediction: PredictionOption?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Memory in MiB that an OpenCL device may use.", valueName: "MiB", visibility: .hidden))
  var deviceMemory: Int?

  // An option is found whichever group it is in.
  subscript<Value>(dynamicMember path: WritableKeyPath<ModelOptions, Value>) -> Value {
    get { modelOptions[keyPath: path] }
    set { modelOptions[keyPath: path] = newValue }
  }
  subscript<Value>(dynamicMember path: WritableKeyPath<PictureOptions, Value>) -> Value {
    get { picture[keyPath: path] }
    set { picture[keyPath: path] = newValue }
  }
  subscript<Value>(dynamicMember path: WritableKeyPath<SamplingOptions, Value>) -> Value {
    get { sampling[keyPath: path] }
    set { sampling[keyPath: path] = newValue }
  }
  subscript<Value>(dynamicMember path: WritableKeyPath<ImageOptions, Value>) -> Value {
    get { images[keyPath: path] }
    set { images[keyPath: path] = newValue }
  }
  subscript<Value>(dynamicMember path: WritableKeyPath<HiresOptions, Value>) -> Value {
    get { second[keyPath: path] }
    set { second[keyPath: path] = newValue }
  }
  subscript<Value>(dynamicMember path: WritableKeyPath<VideoOptions, Value>) -> Value {
    get { video[keyPath: path] }
    set { video[keyPath: path] = newValue }
  }

  /// Storage of weights and activations.
  var dtype: DType { (self.precision ?? .f32).dtype }

  /// How the device is opened.
  var backend: BackendOptions { BackendOptions(memoryLimit: deviceMemory.map { $0 << 20 }) }

  /// Takes up what a picture to repeat carries, and checks what does not depend on devices or the model. Returns
  /// the prompts, which have no settings of their own.
  mutating func check() throws -> Prompts {
    let lines = try checkLines()
    if let line = lines.first(where: { !$0.settings.isEmpty || $0.seed != nil }) {
      throw ValidationError(
        "only generate takes settings of a prompt file's line; '\(line.prompt)' has some".printable)
    }
    return try prompts(lines)
  }

  /// The prompts of lines.
  func prompts(_ lines: [PromptLine]) throws -> Prompts {
    try Prompts(lines.map(\.prompt), hasFolder: self.loraDir != nil)
  }

  /// The spacing that a sampler's name ends in, where there is no other.
  mutating func takeSpacingOfSampler() {
    if let spacing = self.sampler?.spacing, self.spacing == nil, sigmas == nil {
      self.spacing = SpacingOption(argument: spacing.rawValue)
    }
  }

  /// The same for prompts that may have settings of their own.
  mutating func checkLines() throws -> [PromptLine] {
    if let from = self.from { try repeatPicture(from) }
    takeSpacingOfSampler()
    guard (1...10_000).contains(self.count) else {
      throw ValidationError("--count must be 1 to 10000, got \(self.count)")
    }
    if let tile, !(4...1 << 20).contains(tile) {
      throw ValidationError("--tile must be at least 4, got \(tile)")
    }
    try control.check()
    try second.check()
    if self.strength != nil && self.image.isEmpty { throw ValidationError("--strength needs --image") }
    if self.mask != nil && self.image.isEmpty { throw ValidationError("--mask needs --image") }
    if self.canvas != nil && self.image.isEmpty { throw ValidationError("--canvas needs --image") }
    if self.imageFit != nil && self.image.isEmpty && control.controlImage.isEmpty {
      throw ValidationError("--image-fit needs --image or --control-image")
    }
    if spacing != nil && sigmas != nil { throw ValidationError("--spacing and --sigmas exclude each other") }
    if let bounds = guidanceInterval?.values, bounds.count != 2 || bounds[0] >= bounds[1] {
      throw ValidationError("--guidance-interval needs two numbers LO,HI of which the second is greater")
    }
    if let deviceMemory, !(1..<1 << 32).contains(deviceMemory) {
      throw ValidationError("--device-memory must be at least 1 MiB, got \(deviceMemory)")
    }
    let lines = try self.prompts.map { PromptLine(prompt: $0) } + (self.promptFile.map(PromptLine.read) ?? [])
    let prompts = lines.map(\.prompt)
    if self.promptFile == nil, prompts.count > 1, prompts.allSatisfy({ !$0.contains(where: \.isWhitespace) })
    {
      let quoted =
        prompts.prefix(4).map { "'\($0)'" }.joined(separator: ", ") + (prompts.count > 4 ? ", …" : "")
      Output.warning(
        "\(quoted) are \(prompts.count) prompts, each for its own picture; for one picture of all write "
          + "\"\(prompts.prefix(4).joined(separator: " "))\(prompts.count > 4 ? " …" : "")\" in quotes")
    }
    return lines
  }

  /// Where the sampler's steps are, where the command line says.
  var levels: NoiseSchedule.Levels? { spacing?.levels ?? sigmas.map { .theseSigmas($0.values) } }

  /// The folder or file of the model.
  func modelURL() throws -> URL { try self.model.map { try Checkpoint.locate($0) } ?? DefaultModel.url }

  /// The files that pictures are written to which the user named; of several, numbered so that they sort.
  func files(_ output: String, count: Int) throws -> [URL] {
    let url = URL(fileURLWithPath: output)
    guard PictureFormat(url) != nil || (try? VideoFormat(url)) != nil, !output.hasSuffix("/") else {
      throw ValidationError(
        "--output must end in .png, .jpg or .webp, or for a video in .mp4, .webp or .png, got '\(output)'")
    }
    guard count > 1 else { return [url] }
    let stem = url.deletingPathExtension()
    let digits = String(count - 1).count
    return (0..<count).map { index in
      let number = String(String(repeating: "0", count: digits).dropLast(String(index).count)) + String(index)
      return stem.deletingLastPathComponent()
        .appendingPathComponent("\(stem.lastPathComponent)-\(number).\(url.pathExtension)")
    }
  }

  /// Whether what the pipeline makes can be in these files.
  func check(_ outputs: [URL], fit pipeline: any Pipeline) throws {
    guard !type(of: pipeline).options.contains(.frames) else {
      for url in outputs { try VideoFile.check(url) }
      return
    }
    if let url = outputs.first(where: { PictureFormat($0) == nil }) {
      throw ValidationError(
        "--output must end in .png, .jpg or .webp: \(pipeline.checkpoint.pipeline) makes pictures, not videos; "
          + "got '\(url.lastPathComponent)'")
    }
  }

  /// Tensor `latents` of a safetensors file, in whatever floating-point type.
  func readLatents(_ path: String) throws -> HostLatents {
    let file = try SafetensorsFile(url: URL(fileURLWithPath: path))
    let latents = try file.load("latents", on: Device(CPUBackend()))
    guard latents.dtype.isFloatingPoint else {
      throw CheckpointError.malformed(
        path: path, reason: "the tensor 'latents' is \(latents.dtype), not floating point")
    }
    let values = try latents.floats()
    guard values.allSatisfy(\.isFinite) else {
      throw CheckpointError.malformed(path: path, reason: "the tensor 'latents' holds NaN or infinity")
    }
    guard let index = initLatentsIndex else { return HostLatents(values: values, shape: latents.shape) }
    guard latents.shape.rank > 0, (0..<latents.shape[0]).contains(index) else {
      throw CheckpointError.malformed(
        path: path, reason: "the tensor 'latents' is \(latents.shape): it has no image \(index)")
    }
    let size = values.count / latents.shape[0]
    return HostLatents(
      values: Array(values[index * size..<(index + 1) * size]),
      shape: Shape([1] + latents.shape.dimensions.dropFirst()))
  }

  /// What the user says comes before what the model recommends.
  func request(_ prompts: Prompts, seed: UInt64, recommended: RecommendedSettings) throws
    -> GenerationRequest
  {
    var request = GenerationRequest(prompts: prompts.texts, recommended: recommended)
    request.negativePrompt = self.negative ?? ""
    if let guidance = self.guidance { request.guidance = guidance }
    request.promptSyntax = promptSyntax ?? .plain
    if let steps = self.steps { request.steps = steps }
    if let sampler = self.sampler { request.sampler = sampler.sampler }
    request.levels = levels
    if self.steps == nil, let count = request.levels?.count { request.steps = count }
    request.guidanceRescale = guidanceRescale
    request.guidanceInterval = guidanceInterval.map { $0.values[0]...$0.values[1] }
    request.eta = eta ?? 0
    request.seed = seed
    request.noise = rng ?? .philox
    request.width = self.width
    request.height = self.height
    (request.count, request.batch) = (self.count, self.batch)
    request.images = try self.image.map { try Picture.read(URL(fileURLWithPath: $0)).picture }
    request.mask = try self.mask.map { try Picture.read(URL(fileURLWithPath: $0)).picture }
    request.canvas = self.canvas
    request.imageFit = self.imageFit ?? .crop
    request.strength = self.strength
    request.initialLatents = try initLatents.map(readLatents)
    request.cache = cache
    request.highResolution = try second.highResolution()
    try control.apply(to: &request)
    unCLIP.apply(to: &request)
    request.frames = self.frames
    request.framesPerSecond = self.fps
    request.lowMemory = lowMemory
    request.tiling = tile.map { Tiling(tile: $0, overlap: max($0 / 4, 1)) }
    return request
  }
}
