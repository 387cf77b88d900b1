import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement
import LangevinModels
import LangevinTensor

/// `langevin generate`.
struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generates pictures from a prompt.",
    usage: "langevin generate <prompt> ... [<options>]",
    discussion: """
      Examples:
        langevin generate "red apple"
        langevin generate "red apple" "blue heart" -n 4 -s 1 -o pictures.png
        langevin generate "a lighthouse" -m org/name --steps 20 --sampler dpmpp-2m
        langevin generate "in winter" -m org/name --image summer.jpg --strength 0.6

      The paths of the pictures go to standard output, everything else to standard error. Ctrl-C stops after the \
      step in progress and keeps the pictures that are finished.
      """)

  @OptionGroup var options: GenerationOptions
  @OptionGroup(title: "Enlarging what was drawn") var enlarging: UpscaleOptions

  @Option(
    name: [.short, .long],
    help: """
      The picture's file, or - for standard output; of several, numbered -0, -1, … Folders are made. A video is an \
      .mp4 or .webp, which the program ffmpeg makes, or .png, its frames numbered -0000, -0001, … (default: \
      langevin-SEED.png, or where that exists langevin-SEED-1.png)
      """)
  var output: String?
  @Option(help: "Write the final latents there, before decoding: 'latents' [count, C, h, w], float32.")
  var saveLatents: String?
  @Option(
    help: ArgumentHelp(
      """
      Show after every N steps what the picture will be, roughly: in the terminal where it shows pictures (kitty, iTerm2, \
      sixel), the first of a batch, else in a file beside the picture that goes away with the last step.
      """, valueName: "every:N"),
    transform: PreviewOption.init)
  var preview: PreviewOption?
  @Option(help: "A folder that keeps all previews, instead of showing them.")
  var previewFolder: String?
  @Flag(
    help: "List the prompts that the model was made for, of words only those with them, and generate nothing."
  )
  var listPrompts = false
  @Flag(help: "Say how much memory each stage needs, and generate nothing.")
  var plan = false
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false
  @Flag(help: "One JSON object on standard output at the end.")
  var json = false
  @Flag(help: "Also what the runtime does on the way.")
  var verbose = false

  mutating func run() throws {
    Interrupt.install()
    if listPrompts { return try PromptList.show(of: options.modelURL(), with: options.prompts) }
    let start = ContinuousClock.now
    let prompts = try options.check()
    let choice = try DeviceChoice.parse(options.device)
    let seed = options.seed ?? UInt64.random(in: 0..<1 << 32)
    let count = max(prompts.count, 1) * options.count
    var display = ProgressDisplay(isShown: !quiet, count: count)

    // What can be found wrong at once comes before what takes time.
    let files = try PictureFiles(output, options, seed: seed, count: count)
    if files.isStandardOutput && json {
      throw ValidationError("--output - and --json both need standard output")
    }
    let latentsURL = saveLatents.map { URL(fileURLWithPath: $0) }
    try files.check()
    if let latentsURL { try OutputFile.check(latentsURL) }
    try enlarging.repeatPicture(options)
    let wanted = try enlarging.check()
    let url = try options.modelURL()
    let checkpoint = try options.checkpoint(url, prompts)
    if previewFolder != nil && preview == nil { throw ValidationError("--preview-folder needs --preview") }
    var asked = try options.request(prompts, seed: seed, recommended: checkpoint.recommended)
    asked.previewEvery = preview?.steps

    let device = try choice.open(
      options.backend, fallback: !options.noFallback, notice: { Output.warning($0) })
    let pipeline = try Pipelines.open(checkpoint, on: device, precision: options.dtype)
    try files.check(fit: pipeline, options)
    let memory = try plan(&asked, pipeline)
    display.batch = asked.batch
    if plan { return show(memory, device) }
    if !memory.fits { Output.warning(memory.shortage(of: device)) }
    let request = try pipeline.resolved(asked).request
    let enlargement = try wanted.map {
      Enlargement(
        upscaler: try Upscaler($0.file, on: device, precision: options.dtype), scale: $0.scale,
        hash: try InputFile($0.file.url.path).sha256)
    }
    let record = try PictureRecord(
      options, request, prompts, enlargement: enlargement, model: url, device: device)
    let previews = preview.map { _ in
      Previews(files.previewURLs(seed: seed), folder: previewFolder, isInline: !quiet)
    }
    defer { previews?.close() }
    var run = Run(start: start)
    run.beginCompiling()
    try KernelPreparation.run(memory.calls, on: device, &display)
    run.endCompiling()
    do {
      let settings = Output.settings(
        steps: request.steps, sampler: request.sampler?.name, guidance: request.guidance)
      var title = Optional(
        (["seed \(seed)"] + settings + [device.label, Checkpoint.name(of: url)] + record.additionTitles)
          .joined(separator: ", "))
      func generate(_ keep: (_ latent: Tensor) throws -> Void) throws {
        try pipeline.stream(asked) { event in
          // A finished picture is written first.
          if case .finished = event {} else { try Interrupt.check() }
          // Only once the request is known to be good.
          title.map { display.line($0) }
          title = nil
          if case .sampled(let latent, _) = event { try keep(latent) }
          try self.handle(event, record, files, previews, &run, &display)
        }
      }
      if let latentsURL {
        try SafetensorsWriter.write("latents", rows: request.imageCount, to: latentsURL) { put in
          try generate { try put(HostLatents($0)) }
        }
      } else {
        try generate { _ in }
      }
    } catch var interrupted as Interrupted {
      display.close()
      interrupted.kept = run.written
      throw interrupted
    } catch {
      display.close()
      if !run.written.isEmpty {
        Output.note("langevin: kept \(run.written.joined(separator: ", "))".shortened())
      }
      throw error
    }
    Self.warnOfFallbacks(device)
    try record.warnOfAnotherModel()
    display.line(run.summary)
    if json {
      try Output.json(
        Report(self, record, checkpoint.recommended, run: run, device: device, model: url))
    }
  }

  /// How much memory the request needs. Where that is too much it works in smaller batches and in tiles, and says so.
  private func plan(_ asked: inout GenerationRequest, _ pipeline: any Pipeline) throws -> MemoryPlan {
    func planned(_ request: GenerationRequest) throws -> MemoryPlan {
      try MemoryPlan(request, with: pipeline.checkpoint, precision: options.dtype, on: pipeline.device)
    }
    var memory = try planned(asked)
    var fewer = (request: asked, memory: memory)
    while !fewer.memory.fits, fewer.request.batch > 1 {
      fewer.request.batch = max(min(fewer.request.batch, fewer.request.imageCount) / 2, 1)
      fewer.memory = try planned(fewer.request)
    }
    if fewer.memory.peak < memory.peak {
      let count = fewer.request.batch
      Output.warning(
        "\(count) picture\(count == 1 ? "" : "s") at once instead of \(asked.batch), which need "
          + "\(Output.bytes(memory.peak)): \(pipeline.device.name) offers \(Output.bytes(memory.limit))")
      (asked, memory) = fewer
    }
    if !memory.fits, asked.tiling == nil, type(of: pipeline).options.contains(.tiling) {
      var tiled = asked
      tiled.tiling = Tiling()
      let other = try planned(tiled)
      if other.peak < memory.peak {
        Output.warning(
          "the autoencoder works in tiles: in one piece this needs \(Output.bytes(memory.peak)), with them "
            + Output.bytes(other.peak))
        (asked, memory) = (tiled, other)
      }
    }
    return memory
  }

  private func handle(
    _ event: GenerationProgress, _ record: PictureRecord, _ files: PictureFiles, _ previews: Previews?,
    _ run: inout Run, _ display: inout ProgressDisplay
  ) throws {
    switch event {
    case .warning(let line):
      display.close()
      Output.warning(line)
    case .loading(let component): display.line("loading the \(component)")
    case .truncated(_, let rest):
      display.close()
      Output.warning("the prompt is longer than the text encoder reads; cut off: '\(rest)'")
    case .sampling: run.beginSampling()
    case .step(let step, let total, let image):
      let seconds = run.endStep()
      run.firstImage = image
      display.step(step, of: total, image: image, seconds: seconds)
    case .preview(let picture, let step, let image):
      let size = record.request.width.flatMap { width in
        record.request.height.map { CanvasSize(width: width, height: $0) }
      }
      try previews?.show(
        picture, of: image, isFirst: image == run.firstImage, step: step, size: size, &display)
    case .sampled: break
    case .decoding: run.beginDecoding()
    case .finished(let drawn, let image, let seed):
      run.endDecoding()
      let parameters = record.parameters(drawn, image: image, seed: seed)
      if record.enlargement != nil { display.close() }
      let clip = try record.enlargement?(drawn, isShown: !quiet) ?? drawn
      let paths = try files.write(clip, image: image, parameters)
      previews?.finish(image)
      display.close()
      run.add(paths, clip.picture)
      if json {
        run.describe(paths, seed: seed, parameters)
      } else {
        for path in paths { Output.result(path) }
      }
    }
  }

  private func show(_ memory: MemoryPlan, _ device: Device) {
    for stage in memory.stages {
      let name = stage.name.padding(toLength: 20, withPad: " ", startingAt: 0)
      Output.result("\(name) loaded \(Output.bytes(stage.loaded)), peak \(Output.bytes(stage.peak))")
    }
    Output.result(
      "peak                 \(Output.bytes(memory.peak)) of \(Output.bytes(memory.limit)) that \(device.name) offers"
    )
    if !memory.fits { Output.warning(memory.shortage(of: device)) }
  }

  static func warnOfFallbacks(_ device: Device) {
    let decompositions = device.decompositions
    if !decompositions.isEmpty {
      Output.warning(
        "\(decompositions.values.reduce(0, +)) operations ran as several simpler ones because \(device.name) has "
          + "no kernel of their own (\(OperationNames.text(decompositions)))")
    }
    let fallbacks = device.fallbacks
    guard fallbacks.operations > 0 else { return }
    Output.warning(
      "\(fallbacks.operations) operations ran on the CPU because \(device.name) has no kernel for them "
        + "(\(OperationNames.text(fallbacks.byName))); \(Output.bytes(fallbacks.bytes)) were copied for it")
  }
}

extension MemoryPlan {
  /// One line that says what is missing where, and what to try.
  func shortage(of device: Device) -> String {
    let worst = stages.max { $0.peak < $1.peak }?.name ?? ""
    return
      "this needs \(Output.bytes(peak)) for the \(worst), and \(device.name) offers \(Output.bytes(limit)); "
      + "try --precision f16, --low-memory or a smaller picture"
  }
}
