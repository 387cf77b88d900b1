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
        langevin generate "red apple" -n 8 --devices opencl:0,cpu
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
  @Option(
    help: ArgumentHelp(
      """
      Share the pictures over several devices by their speed, or of one picture the two halves of guidance: all, or \
      names with commas between them. Each picture is what its device draws alone.
      """, valueName: "all|NAME,NAME"))
  var devices: String?
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
  @Flag(
    help: """
      One JSON object a picture on standard output, in place of its path, as soon as it is there: file, seed, prompt, and \
      seconds of computing since the line before.
      """)
  var jsonl = false
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      """
      Draw part K, from 0 to M - 1, of the run's pictures, with the names and seeds that they have in the whole run, and \
      of these only those whose files are not whole yet. For a Slurm array that begins at 0: \
      --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT. Needs --seed and --output.
      """, valueName: "K/M"),
    transform: Shard.init)
  var shard: Shard?
  @Flag(help: "Also what the runtime does on the way.")
  var verbose = false

  mutating func run() throws {
    Interrupt.install()
    if listPrompts { return try PromptList.show(of: options.modelURL(), with: options.prompts) }
    let start = ContinuousClock.now
    let lines = try options.checkLines()
    let prompts = try options.prompts(lines)
    let choice = try DeviceChoice.parse(options.device)
    guard devices == nil || options.device == "auto" else {
      throw ValidationError("--device and --devices exclude each other")
    }
    let list = try devices.map { try DeviceList($0) }
    let seed = options.seed ?? UInt64.random(in: 0..<1 << 32)
    let sheets = try Sheet.all(lines, prompts, options, seed: seed)
    try check(sheets)

    // What can be found wrong at once comes before what takes time.
    let files = try PictureFiles(output, options, seeds: sheets.flatMap(\.seeds))
    if files.isStandardOutput && (json || jsonl) {
      throw ValidationError("--output - and \(json ? "--json" : "--jsonl") both need standard output")
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
    for sheet in sheets { try Pipelines.check(sheet.request(asked), for: checkpoint) }

    let work = work(of: sheets, asked)
    let count = work.reduce(0) { $0 + $1.batches.reduce(0) { $0 + $1.count } }
    let drawers: [Drawer]
    (drawers, asked.guidanceDevice) = try openDrawers(
      choice, list, work.flatMap(\.batches), checkpoint, asked)
    // All that compute.
    let all = drawers.map(\.device) + [asked.guidanceDevice].compactMap { $0 }
    let pipeline = drawers[0].pipeline
    try files.check(fit: pipeline, options)
    if shard != nil, type(of: pipeline).options.contains(.frames) {
      throw ValidationError("--shard is for pictures; \(pipeline.checkpoint.pipeline) makes videos")
    }
    let enlargements = try drawers.map { drawer in
      try plan
        ? nil
        : wanted.map {
          Enlargement(
            upscaler: try Upscaler($0.file, on: drawer.device, precision: options.dtype), scale: $0.scale,
            hash: try InputFile($0.file.url.path).sha256)
        }
    }
    let previews = preview.map { _ in
      Previews(files.previewURLs(seed: sheets[0].seed), folder: previewFolder, isInline: !quiet)
    }
    defer { previews?.close() }
    let pictures = PictureRun(
      self, asked, with: drawers, to: files, model: url, enlargements: enlargements, previews: previews,
      run: Run(start: start), count: count)
    if plan {
      let plans = try sheets.map { try pictures.memory(for: $0) }
      for (index, drawer) in drawers.enumerated() {
        let own = plans.map { $0[index] }
        show(own.max { $0.peak < $1.peak } ?? own[0], drawer.device)
      }
      return
    }
    do {
      if let latentsURL {
        try SafetensorsWriter.write("latents", rows: asked.imageCount, to: latentsURL) { put in
          try withoutActuallyEscaping(put) { put in
            for (sheet, batches) in work { try pictures.draw(sheet, batches, keep: put) }
          }
        }
      } else {
        for (sheet, batches) in work { try pictures.draw(sheet, batches, keep: nil) }
      }
    } catch var interrupted as Interrupted {
      pictures.close()
      interrupted.kept = pictures.run.written
      throw interrupted
    } catch {
      pictures.close()
      if !pictures.run.written.isEmpty {
        Output.note("langevin: kept \(pictures.run.written.joined(separator: ", "))".shortened())
      }
      throw error
    }
    for device in all { Self.warnOfFallbacks(device) }
    if pictures.wholeCount > 0 {
      pictures.line("\(pictures.wholeCount) of the pictures were there already")
    }
    guard let record = pictures.record else { return pictures.line("this part has no pictures") }
    try record.warnOfAnotherModel()
    pictures.line(pictures.run.summary)
    if json {
      try Output.json(
        Report(self, record, checkpoint.recommended, run: pictures.run, devices: all, model: url)
      )
    }
  }

  /// Opens the devices that will draw something, the fastest first; at least one. Where all is drawn together, so that
  /// one is enough, the second computes guidance's other half if that is quicker.
  private func openDrawers(
    _ choice: DeviceChoice, _ list: DeviceList?, _ batches: [Range<Int>], _ checkpoint: Checkpoint,
    _ asked: GenerationRequest
  ) throws -> (drawers: [Drawer], forGuidance: Device?) {
    func open(_ choice: DeviceChoice, seconds: Double = 1, isProcessor: Bool = false) throws -> Drawer {
      let device = try choice.opened(
        options.backend, fallback: !options.noFallback, isQuiet: quiet)
      return Drawer(
        device: device, pipeline: try Pipelines.open(checkpoint, on: device, precision: options.dtype),
        seconds: seconds, isProcessor: isProcessor)
    }
    guard let list else { return ([try open(choice)], nil) }
    let places = try list.places(isQuiet: quiet)
    let shares = PipelineGroup.shares(of: batches, seconds: places.map(\.seconds))
    let busy = zip(places, shares).filter { !$1.isEmpty }
    // The whole step on the first device takes about twice as long as its half.
    if batches.count == 1, places.count > 1, places[1].seconds < 2 * places[0].seconds {
      let place = places[0]
      let first = try open(
        DeviceChoice(place.device), seconds: place.seconds, isProcessor: place.device.kind == .cpu)
      if try sharesGuidance(asked, first.pipeline) {
        let other = try DeviceChoice(places[1].device).opened(
          options.backend, fallback: !options.noFallback, isQuiet: quiet)
        if try MemoryPlan(asked, with: checkpoint, precision: options.dtype, on: other).fits {
          if !quiet {
            Output.note(
              "guidance: the prompt on \(first.device.name) (\(place.figure) a small step), the negative on "
                + "\(other.name) (\(places[1].figure))")
          }
          return ([first], other)
        }
      }
    }
    if !quiet {
      let parts = busy.map { place, share in
        "\(share.reduce(0) { $0 + $1.count }) on \(place.device.name) (\(place.figure) a small step)"
      }
      let idle = places.filter { place in !busy.contains { $0.0 == place } }.map(\.device.name)
      Output.note(
        "pictures: \(parts.joined(separator: ", "))"
          + (idle.isEmpty ? "" : "; none on \(idle.joined(separator: ", "))"))
    }
    // A part without pictures still says so.
    let used = busy.isEmpty ? Array(places.prefix(1)) : busy.map { $0.0 }
    let drawers = try used.map { place in
      try open(
        DeviceChoice(place.device), seconds: place.seconds, isProcessor: place.device.kind == .cpu)
    }
    return (drawers, nil)
  }

  /// Whether the request has guidance whose halves the pipeline computes on two devices.
  private func sharesGuidance(_ request: GenerationRequest, _ pipeline: any Pipeline) throws -> Bool {
    guard type(of: pipeline).options.contains(.guidanceDevice), request.additionsToSteps.isEmpty else {
      return false
    }
    return try (pipeline.resolved(request).request.guidance ?? 1) > 1
  }

  /// What belongs together, and what does not. Throws `ValidationError`.
  private func check(_ sheets: [Sheet]) throws {
    if json && jsonl { throw ValidationError("--json and --jsonl exclude each other") }
    if sheets.count > 1 {
      if json {
        throw ValidationError(
          "--json reports one set of settings, and the lines of the prompt file have several; take --jsonl")
      }
      for (name, value) in [("--save-latents", saveLatents), ("--init-latents", options.initLatents)]
      where value != nil {
        throw ValidationError(
          "\(name) is for one set of settings, and the lines of the prompt file have several")
      }
    }
    guard shard != nil else { return }
    // Each process would choose others.
    if options.seed == nil { throw ValidationError("--shard needs --seed, which all parts have in common") }
    guard let output, output != "-" else {
      throw ValidationError("--shard needs --output, a file by which all parts name their pictures")
    }
    for (name, value) in [("--save-latents", saveLatents), ("--init-latents", options.initLatents)]
    where value != nil {
      throw ValidationError("\(name) holds all pictures of a run: it does not go with --shard")
    }
    if options.image.count > 1 {
      throw ValidationError("the frames of a way between two images are no pictures of their own for --shard")
    }
  }

  /// What is drawn here: of each sheet the batches, which are parts of the sheet.
  private func work(of sheets: [Sheet], _ asked: GenerationRequest) -> [(sheet: Sheet, batches: [Range<Int>])]
  {
    let all = sheets.map { ($0, $0.request(asked).batches) }
    guard let shard else { return all }
    let batches = all.indices.flatMap { sheet in all[sheet].1.map { (sheet, $0) } }
    let own = Dictionary(grouping: shard.part(of: batches), by: { $0.0 })
    return all.indices.compactMap { sheet in own[sheet].map { (all[sheet].0, $0.map { $0.1 }) } }
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
