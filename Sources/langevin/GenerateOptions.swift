import ArgumentParser
import Foundation
import Langevin

/// Storage of weights and activations.
enum Precision: String, CaseIterable, ExpressibleByArgument {
  case f32, f16
  var dtype: DType { self == .f32 ? .float32 : .float16 }
}

enum PredictionOption: String, CaseIterable, ExpressibleByArgument {
  case epsilon
  case v = "v_prediction"
  case sample
}

extension Sampler: ExpressibleByArgument {
  /// As A1111's metadata calls it.
  var metadataName: String {
    switch self {
    case .ddpm: "DDPM"
    case .ddim: "DDIM"
    case .euler: "Euler"
    case .eulerAncestral: "Euler a"
    case .dpmpp2M: "DPM++ 2M"
    case .dpmpp2MKarras: "DPM++ 2M Karras"
    case .heun: "Heun"
    case .lms: "LMS"
    case .dpmpp2MSDE: "DPM++ 2M SDE"
    case .dpmppSDE: "DPM++ SDE"
    case .uniPC: "UniPC"
    case .pndm: "PLMS"
    case .lcm: "LCM"
    case .unCLIP: "unCLIP"
    }
  }
}

extension PromptSyntax: ExpressibleByArgument {}

/// A spacing of timesteps or of sigmas.
struct SpacingOption: ExpressibleByArgument {
  let name: String
  let levels: NoiseSchedule.Levels

  init?(argument: String) {
    guard let levels = NoiseSchedule.Levels(spacing: argument) else { return nil }
    (name, self.levels) = (argument, levels)
  }

  static var allValueStrings: [String] { NoiseSchedule.Levels.spacingNames }
}

/// Numbers with commas between them.
struct NumberList: ExpressibleByArgument {
  let values: [Double]

  init?(argument: String) {
    let values = argument.split(separator: ",", omittingEmptySubsequences: false).map {
      Double($0.trimmingCharacters(in: .whitespaces))
    }
    guard values.allSatisfy({ $0?.isFinite == true }) else { return nil }
    self.values = values.compactMap { $0 }
  }
}

extension NoiseKind: ExpressibleByArgument {
  /// As A1111's metadata calls it, where it has it.
  var metadataName: String {
    switch self {
    case .philox: "Philox"
    case .torch: "CPU"
    case .torchCUDA: "NV"
    }
  }
}

extension DeviceChoice {
  /// Throws one line that lists what there is.
  static func parse(_ text: String) throws -> DeviceChoice {
    func known(_ devices: [DeviceDescription]) -> String {
      (["auto", "cpu"] + devices.map { "opencl:\($0.index) (\($0.name))" }).joined(separator: ", ")
    }
    guard let choice = DeviceChoice(text) else {
      throw ValidationError("unknown device '\(text)'; there are: \(known(OpenCLDevices.all()))")
    }
    // Drivers are asked only where one is wanted by number: loading them takes time, and may fail.
    guard case .openCL(let index?) = choice else { return choice }
    let devices = OpenCLDevices.all()
    if !devices.contains(where: { $0.index == index }) {
      let reason = devices.isEmpty ? "no OpenCL device was found; " : ""
      throw ValidationError("there is no device \(text); \(reason)there are: \(known(devices))")
    }
    return choice
  }
}

/// What to generate, of what and where: the options that every command has which runs the pipeline.
struct GenerationOptions: ParsableArguments {
  @Argument(help: "What to draw; several prompts give pictures of each.")
  var prompts: [String] = []
  @Option(help: "A file with more prompts, one a line; empty lines and lines that begin with # are skipped.")
  var promptFile: String?

  @Option(
    help: "A diffusers folder or a single .safetensors file. (default: the emoji model that ships along)")
  var model: String?
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "What to steer away from.")
  var negative = ""
  @Option(
    help: """
      How prompts are read. plain: as they are, and what does not fit is cut off. a1111: (word) and (word:1.3) \
      strengthen, [word] weakens, \\( is a parenthesis, and what does not fit begins another chunk.
      """)
  var promptSyntax = PromptSyntax.plain
  @Option(
    parsing: .unconditional,
    help: """
      Scale of classifier-free guidance, 0 to 1000; 1 and less is without. (default: what the model's \
      langevin.json recommends, else 7.5)
      """)
  var guidance: Double?
  @Option(
    parsing: .unconditional,
    help: "Sampling steps. (default: what the model's langevin.json recommends, else 30)")
  var steps: Int?
  @Option(
    help: """
      \(Sampler.allCases.map(\.rawValue).joined(separator: ", ")); `langevin samplers` says what each is for. \
      (default: what the model's langevin.json recommends, else ddim)
      """)
  var sampler: Sampler?
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
  @Option(parsing: .unconditional, help: "DDIM's share of fresh noise, 0 to 1.")
  var eta = 0.0
  @Option(parsing: .unconditional, help: "Picture k has seed N + k. (default: random)")
  var seed: UInt64?
  @Option(help: "Whose random numbers: philox, torch (its CPU generator) or torch-cuda.")
  var rng = NoiseKind.philox
  @Option(parsing: .unconditional, help: "Pixels. (default: what the model was made for, or the image's)")
  var width: Int?
  @Option(parsing: .unconditional, help: "Pixels. (default: what the model was made for, or the image's)")
  var height: Int?
  @Option(parsing: .unconditional, help: "How many pictures of each prompt.")
  var count = 1
  @Option(
    help: "A PNG file to start from, or to vary; of two, some models make --count frames of the way between.")
  var image: [String] = []
  @Option(
    parsing: .unconditional, help: "How much of the schedule is run on the image, 0 to 1. (default: 0.7)")
  var strength: Double?
  @OptionGroup(title: "Options of unCLIP")
  var unCLIP: UnCLIPOptions
  @Option(parsing: .unconditional, help: "Of a video: pictures in time. (default: the model's)")
  var frames: Int?
  @Option(parsing: .unconditional, help: "Of a video: pictures a second. (default: the model's)")
  var fps: Double?
  @Option(help: "Storage of weights and activations: f32 or f16.")
  var precision = Precision.f32
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
  @Option(help: "What a single file predicts: epsilon, v_prediction or sample, where it cannot be told.")
  var prediction: PredictionOption?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Memory in MiB that an OpenCL device may use.", valueName: "MiB", visibility: .hidden))
  var deviceMemory: Int?

  /// What does not depend on devices or the model. Returns the prompts.
  func check() throws -> [String] {
    guard (1...10_000).contains(count) else {
      throw ValidationError("--count must be 1 to 10000, got \(count)")
    }
    if let tile, !(4...1 << 20).contains(tile) {
      throw ValidationError("--tile must be at least 4, got \(tile)")
    }
    if strength != nil && image.isEmpty { throw ValidationError("--strength needs --image") }
    if spacing != nil && sigmas != nil { throw ValidationError("--spacing and --sigmas exclude each other") }
    if let bounds = guidanceInterval?.values, bounds.count != 2 || bounds[0] >= bounds[1] {
      throw ValidationError("--guidance-interval needs two numbers LO,HI of which the second is greater")
    }
    if let deviceMemory, !(1..<1 << 32).contains(deviceMemory) {
      throw ValidationError("--device-memory must be at least 1 MiB, got \(deviceMemory)")
    }
    return try prompts + (promptFile.map(readPrompts) ?? [])
  }

  private func readPrompts(_ path: String) throws -> [String] {
    guard FileManager.default.fileExists(atPath: path) else { throw CheckpointError.missingFile(path: path) }
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw CheckpointError.unreadable(path: path, reason: "it is no UTF-8 text")
    }
    let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    let prompts = lines.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    guard !prompts.isEmpty else {
      throw CheckpointError.malformed(path: path, reason: "it has no prompt in it")
    }
    return prompts
  }

  /// The files that pictures are written to which the user named.
  func files(_ output: String, count: Int) throws -> [URL] {
    let url = URL(fileURLWithPath: output)
    guard (try? VideoFormat(url)) != nil, !output.hasSuffix("/") else {
      throw ValidationError("--output must end in .png, or for a video in .mp4 or .webp, got '\(output)'")
    }
    guard count > 1 else { return [url] }
    let stem = url.deletingPathExtension()
    return (0..<count).map { index in
      stem.deletingLastPathComponent()
        .appendingPathComponent("\(stem.lastPathComponent)-\(index).\(url.pathExtension)")
    }
  }

  /// Whether what the pipeline makes can be in these files.
  func check(_ outputs: [URL], fit pipeline: any Pipeline) throws {
    guard !type(of: pipeline).options.contains(.frames) else { return }
    if let url = try outputs.first(where: { try VideoFormat($0) != .png }) {
      throw ValidationError(
        "--output must end in .png: \(pipeline.checkpoint.pipeline) makes pictures, not videos; "
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
    return HostLatents(values: values, shape: latents.shape)
  }

  /// What the user says comes before what the model recommends.
  func request(_ prompts: [String], seed: UInt64, recommended: RecommendedSettings) throws
    -> GenerationRequest
  {
    var request = GenerationRequest(prompts: prompts, recommended: recommended)
    request.negativePrompt = negative
    if let guidance { request.guidance = guidance }
    request.promptSyntax = promptSyntax
    if let steps { request.steps = steps }
    if let sampler { request.sampler = sampler }
    request.levels = spacing?.levels ?? sigmas.map { .theseSigmas($0.values) }
    if steps == nil, let count = request.levels?.count { request.steps = count }
    request.guidanceRescale = guidanceRescale
    request.guidanceInterval = guidanceInterval.map { $0.values[0]...$0.values[1] }
    request.eta = eta
    request.seed = seed
    request.noise = rng
    request.width = width
    request.height = height
    request.count = count
    request.images = try image.map { try Picture.readPNG(URL(fileURLWithPath: $0)).picture }
    request.strength = strength
    request.initialLatents = try initLatents.map(readLatents)
    unCLIP.apply(to: &request)
    request.frames = frames
    request.framesPerSecond = fps
    request.lowMemory = lowMemory
    request.tiling = tile.map { Tiling(tile: $0, overlap: max($0 / 4, 1)) }
    return request
  }

  /// What a picture's PNG says of itself.
  func parameters(_ request: GenerationRequest, _ clip: Clip, image: Int, seed: UInt64, model: URL)
    -> PictureParameters
  {
    var fields: [PictureParameters.Field] = []
    func add(_ name: String, _ value: String?) { if let value { fields.append(.init(name, value)) } }
    add("Steps", request.steps.map { "\($0)" })
    add("Sampler", request.sampler?.metadataName)
    add("Schedule type", spacing?.name.capitalized)
    add("Sigmas", sigmas?.values.map(Output.number).joined(separator: " "))
    add("CFG scale", request.guidance.map(Output.number))
    add("CFG rescale", guidanceRescale.map(Output.number))
    add("CFG interval", guidanceInterval?.values.map(Output.number).joined(separator: " "))
    add("Seed", "\(seed)")
    add("Size", "\(clip.picture.width)x\(clip.picture.height)")
    add("Model", model.deletingPathExtension().lastPathComponent)
    add("Denoising strength", request.strength.map(Output.number))
    add("Eta", eta == 0 ? nil : Output.number(eta))
    fields += UnCLIPOptions.fields(request)
    add("RNG", rng.metadataName)
    add("Precision", precision.rawValue)
    add("Version", "langevin \(LangevinCommand.configuration.version)")
    let prompt = request.prompts.isEmpty ? "" : request.prompts[image / request.count]
    return PictureParameters(prompt: prompt, negativePrompt: negative, fields: fields)
  }
}

extension Output {
  /// Without a trailing `.0`.
  static func number(_ value: Double) -> String { Int(exactly: value).map { "\($0)" } ?? "\(value)" }

  /// Those that the model has: `30 steps of ddim`, `guidance 7.5`.
  static func settings(steps: Int?, sampler: String?, guidance: Double?) -> [String] {
    var settings: [String] = []
    if let steps { settings.append("\(steps) steps" + (sampler.map { " of \($0)" } ?? "")) }
    if let guidance { settings.append("guidance \(number(guidance))") }
    return settings
  }
}
