import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement
import LangevinTensor

/// `langevin profile`.
struct ProfileCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "profile",
    abstract: "Generates, and shows where the time went: by stage, operation and layer.",
    usage: "langevin profile <prompt> ... [<options>]\nlangevin profile --train <config> [<options>]",
    discussion: """
      Examples:
        langevin profile "red apple"
        langevin profile "red apple" --trace trace.json --roofline roofline.svg
        langevin profile --train run/train.json

      The tables go to standard output, everything else to standard error. Up to three steps run unrecorded first. \
      They compile the kernels, and they tell how much the recording costs. Ctrl-C stops after the step in progress \
      and shows what was recorded until then.
      """)

  @OptionGroup var options: GenerationOptions

  @Option(help: TrainingConfig.help)
  var train: String?
  @Option(name: [.short, .long], help: "Also write the picture there; of several, numbered -0, -1, …")
  var output: String?
  @Option(parsing: .unconditional, help: "How many components of a layer's path tell the table's rows apart.")
  var depth = 3
  @Option(help: "Write everything that the tables show there, as JSON.")
  var json: String?
  @Option(help: "Write every span and kernel there, as trace-event JSON for Perfetto (ui.perfetto.dev).")
  var trace: String?
  @Option(help: "Draw the operations under the device's ceilings there, as SVG.")
  var roofline: String?
  @Flag(help: "Run no steps unrecorded first: the profile is then that of a cold start.")
  var cold = false
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false
  @Flag(help: "Also what the runtime does on the way.")
  var verbose = false

  mutating func run() throws {
    Interrupt.install()
    guard (1...64).contains(depth) else { throw ValidationError("--depth must be 1 to 64, got \(depth)") }
    if let train {
      let config = try TrainingConfig(
        train, prompts: options.prompts,
        with: ["device", "no-fallback", "depth", "json", "trace", "roofline", "cold", "quiet", "verbose"])
      return try profile(config.type, config)
    }
    let prompts = try options.check()
    let choice = try DeviceChoice.parse(options.device)
    let seed = options.seed ?? UInt64.random(in: 0..<1 << 32)
    let pictures = try output.map { try options.files($0, count: prompts.count * options.count) }
    for url in pictures ?? [] { try Clip.check(url) }
    let files = try reports()

    let model = try options.modelURL()
    let checkpoint = try options.checkpoint(model, prompts)
    let device = try choice.opened(
      options.backend, fallback: !options.noFallback, isQuiet: quiet)
    let pipeline = try Pipelines.open(checkpoint, on: device, precision: options.dtype)
    try options.check(pictures ?? [], fit: pipeline)
    let asked = try options.request(prompts, seed: seed, recommended: checkpoint.recommended)
    let request = try pipeline.resolved(asked).request
    let record = try PictureRecord(options, request, prompts, model: model, device: device)
    if !quiet { Output.note("measuring what \(device.name) can do at most") }
    let ceilings = try Ceilings.measure(on: device)
    let plain = cold ? [] : try unrecordedSteps(pipeline, request)

    let (result, recording) = try Recording.make(on: device) {
      try generate(asked, pipeline, record, to: pictures)
    }
    let settings = Settings(
      model: Checkpoint.name(of: model), deviceName: device.label, prompt: request.prompt, seed: seed,
      sampler: request.sampler?.name, precision: record.precision, steps: request.steps,
      guidance: request.guidance, count: request.imageCount)
    var profile = Profile(recording, ceilings: ceilings, depth: depth, unrecordedStepSeconds: plain)
    if case .failure(let error) = result {
      // What was recorded until a Ctrl-C is still true; after an error it is not what was asked for.
      guard error is Interrupted else { throw error }
      profile.isPartial = true
    }
    try show(profile, recording, settings, settings.line, files)
  }

  /// The files of --json, --trace and --roofline, which can be written.
  private func reports() throws -> [URL?] {
    let files = [json, trace, roofline].map { $0.map { URL(fileURLWithPath: $0) } }
    for url in files { if let url { try OutputFile.check(url) } }
    return files
  }

  private func show(
    _ profile: Profile, _ recording: Recording, _ settings: some Encodable, _ line: String, _ files: [URL?]
  ) throws {
    Output.wrapped(line)
    for line in profile.lines(width: Terminal.tableWidth) { Output.wrapped(line) }
    let written = try write(profile, recording, settings, line, files)
    if profile.isPartial { throw Interrupted(kept: written) }
  }

  // MARK: Training

  /// The fourth step of a run, or with --cold the first, which compiles kernels and fills caches.
  private func profile<Task: ModelTask>(_ type: Task.Type, _ config: TrainingConfig) throws {
    try config.withSetup(of: type, profile)
  }

  private func profile<Task: ModelTask>(_ setup: TrainingSetup<Task>) throws {
    let files = try reports()
    let device = try DeviceChoice.parse(options.device).opened(
      options.backend, fallback: !options.noFallback, isQuiet: quiet)
    if !quiet { Output.note("measuring what \(device.name) can do at most") }
    let ceilings = try Ceilings.measure(on: device)
    var trainer = try setup.steps(on: device) { Output.warning($0) }
    var plain: [Double] = []
    if !cold {
      if !quiet { Output.note("taking 3 steps unrecorded") }
      for _ in 1...3 {
        let start = ContinuousClock.now
        try trainer.step()
        plain.append((ContinuousClock.now - start) / .seconds(1))
        try Interrupt.check()
      }
    }
    let (result, recording) = try Recording.make(on: device, name: "step \(trainer.completedSteps + 1)") {
      try trainer.step()
    }
    _ = try result.get()
    let profile = Profile(
      recording, ceilings: ceilings, depth: depth, unrecordedStepSeconds: Array(plain.dropFirst()))
    let settings = TrainingSettings(
      task: Task.name, model: setup.settings.model ?? "", deviceName: device.label,
      batch: setup.settings.batch, accumulation: setup.settings.accumulation,
      precision: setup.settings.precision, recompute: setup.settings.recompute,
      parameters: trainer.parameters.count)
    try show(profile, recording, settings, settings.line, files)
  }

  /// The settings of the step that was profiled.
  private struct TrainingSettings: Encodable {
    let task, model, deviceName: String
    let batch, accumulation: Int
    let precision: String
    let recompute: Bool
    let parameters: Int

    var line: String {
      var parts = [
        "a step of training", task, model, "\(parameters) parameters", "batch \(batch)", precision,
        deviceName,
      ]
      if accumulation > 1 { parts.insert("in \(accumulation) parts", at: 5) }
      if recompute { parts.append("recomputing") }
      return parts.joined(separator: ", ")
    }
  }

  /// Seconds of steps that nothing watches: all but the first, which also builds the kernels.
  private func unrecordedSteps(_ pipeline: any Pipeline, _ request: GenerationRequest) throws -> [Double] {
    var short = request
    let count = min(3, request.steps ?? 3)
    short.steps = count
    if short.imageCount > 1 { (short.count, short.initialLatents) = (1, nil) }
    short.prompts = Array(request.prompts.prefix(1))
    if !quiet { Output.note("running \(count) steps unrecorded") }
    var marks: [ContinuousClock.Instant] = []
    try pipeline.stream(short) { event in
      try Interrupt.check()
      if case .step = event { marks.append(.now) }
    }
    return zip(marks, marks.dropFirst()).map { ($1 - $0) / .seconds(1) }
  }

  private func generate(
    _ request: GenerationRequest, _ pipeline: any Pipeline, _ record: PictureRecord, to pictures: [URL]?
  ) throws {
    var display = ProgressDisplay(isShown: !quiet, count: request.imageCount)
    defer { display.close() }
    var mark = ContinuousClock.now
    try pipeline.stream(request) { event in
      if case .finished = event {} else { try Interrupt.check() }
      switch event {
      case .loading(let component): display.line("loading the \(component)")
      case .warning(let line):
        display.close()
        Output.warning(line)
      case .truncated(_, let rest):
        display.close()
        Output.warning("the prompt is longer than the text encoder reads; cut off: '\(rest)'")
      case .step(let step, let total, let image):
        display.step(step, of: total, image: image, seconds: (ContinuousClock.now - mark) / .seconds(1))
      case .finished(let clip, let image, let seed):
        guard let pictures else { break }
        let parameters = record.parameters(clip, image: image, seed: seed)
        _ = try stage("write picture") { try clip.write(to: pictures[image], parameters) }
      case .sampling, .preview, .sampled, .decoding: break
      }
      mark = .now
    }
  }

  /// Returns the paths of the files.
  private func write(
    _ profile: Profile, _ recording: Recording, _ settings: some Encodable, _ line: String, _ files: [URL?]
  ) throws -> [String] {
    var written: [String] = []
    func write(_ bytes: [UInt8], to url: URL) throws {
      try bytes.withUnsafeBytes { try OutputFile.write($0, to: url) }
      written.append(Output.path(url))
      if !quiet { Output.note("wrote \(Output.path(url))") }
    }
    if let url = files[0] {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      let report = Report(
        version: LangevinCommand.configuration.version, settings: settings, profile: profile)
      try write(Array(encoder.encode(report)), to: url)
    }
    if let url = files[1] { try write(Trace(recording).json, to: url) }
    if let url = files[2] {
      try write(Array(Roofline(profile, subtitle: line).svg.utf8), to: url)
    }
    return written
  }

  /// The settings of the run that was profiled.
  private struct Settings: Encodable {
    let model, deviceName, prompt: String
    let seed: UInt64
    let sampler: String?
    let precision: String
    let steps: Int?
    let guidance: Double?
    let count: Int

    var line: String {
      let settings = Output.settings(steps: steps, sampler: sampler, guidance: guidance)
      return ([model] + settings + [precision, deviceName]).joined(separator: ", ")
    }
  }

  private struct Report<Settings: Encodable>: Encodable {
    let version: String
    let settings: Settings
    let profile: Profile
  }
}
