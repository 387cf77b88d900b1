import Foundation
import Langevin
import LangevinModels
import LangevinTensor

/// Draws the sheets of `generate` on one or several devices, writes their pictures and says so.
final class PictureRun {
  private let command: Generate
  /// The fastest first.
  private let drawers: [Drawer]
  private var pipeline: any Pipeline { drawers[0].pipeline }
  /// Devices that failed, by their place in `drawers`.
  private var lost: Set<Int> = []
  private var shared: SharedProgress?
  private let files: PictureFiles
  /// Of all sheets, without their settings.
  private let asked: GenerationRequest
  private let model: URL
  /// That of each device, in the order of `drawers`.
  private let enlargements: [Enlargement?]
  private let previews: Previews?
  private(set) var run: Run
  private var display: ProgressDisplay
  /// Of the last sheet.
  private(set) var record: PictureRecord?
  /// By the settings of sheets, where prompts do not matter for it.
  private var plans: [PromptLine.Settings: Plan] = [:]
  /// What kernels were compiled for.
  private var prepared: PromptLine.Settings?
  /// Networks stay loaded where there is more than one request to the pipeline.
  private var kept: KeptNetworks?
  /// How many of this process's pictures are done, or were there before.
  private var position = 0
  private(set) var wholeCount = 0
  private var warned: Set<String> = []
  private var lastTitle = ""

  /// How a request is computed in the memory that there is.
  private struct Plan {
    let batch: Int
    let tiling: Tiling?
    /// That of each device, in the order of `drawers`.
    let memory: [MemoryPlan]
  }

  /// `count` is how many pictures it will be asked for.
  init(
    _ command: Generate, _ asked: GenerationRequest, with drawers: [Drawer], to files: PictureFiles,
    model: URL, enlargements: [Enlargement?], previews: Previews?, run: Run, count: Int
  ) {
    (self.command, self.asked, self.drawers, self.files) = (command, asked, drawers, files)
    (self.model, self.enlargements, self.previews, self.run) = (model, enlargements, previews, run)
    display = ProgressDisplay(isShown: !command.quiet, count: count)
    shared = drawers.count > 1 ? SharedProgress(drawers.map(\.device.name), count: count) : nil
  }

  /// How much memory a sheet needs on each device. Throws what the pipeline throws for its request.
  func memory(for sheet: Sheet) throws -> [MemoryPlan] {
    try plan(sheet.request(asked), sheet.settings).memory
  }

  /// Draws the images of these batches of a sheet; of a shard only where their files are not whole yet. `keep` gets
  /// each latent, in the order of the images.
  func draw(_ sheet: Sheet, _ batches: [Range<Int>], keep: ((HostLatents) throws -> Void)?) throws {
    var request = sheet.request(asked)
    let plan = try plan(request, sheet.settings)
    (request.batch, request.tiling) = (plan.batch, plan.tiling)
    let resolved = try pipeline.resolved(request).request
    let record = try record(of: sheet, resolved)
    let missing = try command.shard == nil ? batches : batches.filter { try !isWhole($0, of: sheet, record) }
    guard !missing.isEmpty else { return }
    if prepared != sheet.settings {
      run.beginCompiling()
      for (memory, drawer) in zip(plan.memory, drawers) {
        try KernelPreparation.run(memory.calls, on: drawer.device, &display)
      }
      if let other = asked.guidanceDevice {
        try KernelPreparation.run(plan.memory[0].calls, on: other, &display)
      }
      run.endCompiling()
      prepared = sheet.settings
    }
    let parts = request.parts(drawing: missing)
    let isLast = sheet.images.upperBound == files.urls.count
    let keeps = drawers.count == 1 && plan.memory[0].fitsTogether && !request.lowMemory
    kept = keeps ? kept ?? (parts.count > 1 || !isLast ? KeptNetworks() : nil) : nil
    var title = Optional(title(of: sheet, record))
    display.batch = request.batch
    let records = drawers.indices.map { record.of(drawers[$0].device, enlargements[$0]) }
    for part in parts {
      let place = Place(sheet: sheet.images.lowerBound, part: part.first, shown: position)
      try draw(part.request, keep: keep) { event, member, done in
        // A finished picture is written first.
        if case .finished = event {} else { try Interrupt.check() }
        // Only once the request is known to be good.
        title.map { show(title: $0, seed: sheet.seed) }
        title = nil
        run.member = member
        try handle(event, records[member], place, done)
      }
      position += part.request.imageCount
    }
  }

  /// Draws a request on the devices that work. `body` hands on what is to be said of an image, which is said in the order
  /// of the images.
  private func draw(
    _ request: GenerationRequest, keep: ((HostLatents) throws -> Void)?,
    _ body: (
      _ event: GenerationProgress, _ member: Int,
      _ done: (_ image: Int, _ say: @escaping () -> Void) throws -> Void
    ) throws -> Void
  ) throws {
    let members = drawers.indices.filter { !lost.contains($0) }
    let group = PipelineGroup(
      members.map { PipelineGroup.Member(drawers[$0].pipeline, seconds: drawers[$0].seconds) })
    var said = InOrder<() -> Void>()
    defer { said.flush { $0() } }
    var (sampled, latents): ([Int: HostLatents], InOrder<HostLatents>) = ([:], InOrder())
    try group.stream(request, keeping: kept) { index, error in
      lost.insert(members[index])
      warn("\(drawers[members[index]].device.label): \(error); the other devices draw its pictures")
    } progress: { event, index in
      if let keep, case .sampled(let latent, let image) = event {
        // Latents of one device are in order; a device that fails may have sampled what another draws.
        if members.count == 1 {
          try keep(HostLatents(latent))
        } else {
          sampled[image] = try HostLatents(latent)
        }
      }
      try body(event, members[index]) { image, say in
        said.add(say, of: image) { $0() }
        if let keep, let own = sampled.removeValue(forKey: image) { try latents.add(own, of: image, keep) }
      }
    }
  }

  /// Ends the line of progress.
  func close() { display.close() }
  /// A line for a person.
  func line(_ text: String) { display.line(text) }

  private func record(of sheet: Sheet, _ request: GenerationRequest) throws -> PictureRecord {
    let record =
      try self.record?.of(sheet, request)
      ?? PictureRecord(
        sheet.options, request, sheet.prompts, model: model, device: pipeline.device
      ).of(pipeline.device, enlargements[0])
    self.record = record
    return record
  }

  private func isWhole(_ batch: Range<Int>, of sheet: Sheet, _ record: PictureRecord) throws -> Bool {
    try Interrupt.check()
    let first = sheet.images.lowerBound
    guard batch.allSatisfy({ files.isWhole(first + $0, record, image: $0) }) else { return false }
    position += batch.count
    wholeCount += batch.count
    if command.jsonl {
      for image in batch { tell(image, record, [Output.path(files.urls[first + image])], seconds: nil) }
    }
    return true
  }

  /// Where a request may need too much memory it works in smaller batches and in tiles, and says so.
  private func plan(_ request: GenerationRequest, _ settings: PromptLine.Settings) throws -> Plan {
    // A longer prompt may take more memory.
    let isOfPrompts = request.promptSyntax != .plain
    if !isOfPrompts, let plan = plans[settings] { return plan }
    var asked = request
    let memory = try drawers.map { try fitting(&asked, $0) }
    if !command.plan { warnOfShortage(memory) }
    let plan = Plan(batch: asked.batch, tiling: asked.tiling, memory: memory)
    if !isOfPrompts { plans[settings] = plan }
    return plan
  }

  private func warnOfShortage(_ plans: [MemoryPlan]) {
    let all = Array(zip(plans, drawers))
    for (memory, drawer) in all where !memory.fits { warn(memory.shortage(of: drawer.device)) }
    let together = all.filter { $1.isProcessor }
    let (need, limit) = (together.reduce(0) { $0 + $1.0.peak }, together.map(\.0.limit).max() ?? 0)
    if together.count > 1, limit > 0, need > limit, together.allSatisfy(\.0.fits) {
      warn(
        "\(together.map(\.1.device.name).joined(separator: " and ")) need \(Output.bytes(need)) together, and the "
          + "machine offers \(Output.bytes(limit)); try fewer devices")
    }
  }

  private func fitting(_ asked: inout GenerationRequest, _ drawer: Drawer) throws -> MemoryPlan {
    let (device, pipeline) = (drawer.device, drawer.pipeline)
    func planned(_ request: GenerationRequest) throws -> MemoryPlan {
      try MemoryPlan(request, with: pipeline.checkpoint, precision: command.options.dtype, on: device)
    }
    var memory = try planned(asked)
    var fewer = (request: asked, memory: memory)
    while !fewer.memory.fits, fewer.request.batch > 1 {
      fewer.request.batch = max(min(fewer.request.batch, fewer.request.imageCount) / 2, 1)
      fewer.memory = try planned(fewer.request)
    }
    if fewer.memory.peak < memory.peak {
      let count = fewer.request.batch
      warn(
        "\(count) picture\(count == 1 ? "" : "s") at once instead of \(asked.batch), which need "
          + "\(Output.bytes(memory.peak)): \(device.name) offers \(Output.bytes(memory.limit))")
      (asked, memory) = fewer
    }
    if !memory.fits, asked.tiling == nil, type(of: pipeline).options.contains(.tiling) {
      var tiled = asked
      tiled.tiling = Tiling()
      let other = try planned(tiled)
      if other.peak < memory.peak {
        warn(
          "the autoencoder works in tiles: in one piece this needs \(Output.bytes(memory.peak)), with them "
            + Output.bytes(other.peak))
        (asked, memory) = (tiled, other)
      }
    }
    return memory
  }

  /// Once for each line.
  private func warn(_ line: String) {
    guard warned.insert(line).inserted else { return }
    display.close()
    Output.warning(line)
  }

  private func title(of sheet: Sheet, _ record: PictureRecord) -> String {
    let settings = Output.settings(
      steps: record.request.steps, sampler: record.request.sampler?.name, guidance: record.request.guidance)
    let devices = drawers.map(\.device.label) + [asked.guidanceDevice?.label].compactMap { $0 }
    return (settings + devices + [Checkpoint.name(of: model)] + record.additionTitles)
      .joined(separator: ", ")
  }

  /// Where it is another than that of the sheet before.
  private func show(title: String, seed: UInt64) {
    if title != lastTitle { display.line("seed \(seed), \(title)") }
    lastTitle = title
  }

  /// How images of a request to the pipeline are counted elsewhere: what comes before its first one.
  private struct Place {
    /// In the run, the images before the sheet's.
    let sheet: Int
    /// In the sheet.
    let part: Int
    /// In what is drawn here.
    let shown: Int
  }

  private func handle(
    _ event: GenerationProgress, _ record: PictureRecord, _ place: Place,
    _ done: (_ image: Int, _ say: @escaping () -> Void) throws -> Void
  ) throws {
    switch event {
    case .warning(let line): warn(line)
    case .loading(let component): display.line("loading the \(component)")
    case .truncated(_, let rest):
      display.close()
      Output.warning("the prompt is longer than the text encoder reads; cut off: '\(rest)'")
    case .sampling: run.beginSampling()
    case .step(let step, let total, let image):
      let seconds = run.endStep()
      run.firstImage[run.member] = image
      shared?.step(step, of: total, image: place.shown + image, on: run.member)
      if let shared {
        display.together(shared, isLast: false)
      } else {
        display.step(step, of: total, image: place.shown + image, seconds: seconds)
      }
    case .preview(let picture, let step, let image):
      let size = record.request.width.flatMap { width in
        record.request.height.map { CanvasSize(width: width, height: $0) }
      }
      try previews?.show(
        picture, of: place.sheet + place.part + image, isFirst: run.member == 0 && image == run.firstImage[0],
        step: step, size: size, &display)
    case .sampled: break
    case .decoding: run.beginDecoding()
    case .finished(let drawn, let image, let seed):
      run.endDecoding()
      let parameters = record.parameters(drawn, image: place.part + image, seed: seed)
      if record.enlargement != nil { display.close() }
      let clip = try record.enlargement?(drawn, isShown: !command.quiet) ?? drawn
      let number = place.sheet + place.part + image
      let paths = try files.write(clip, image: number, parameters)
      previews?.finish(number)
      display.close()
      run.add(paths, clip.picture)
      shared?.finish(on: run.member)
      if let shared { display.together(shared, isLast: true) }
      if command.json { run.describe(paths, image: number, seed: seed, parameters) }
      let seconds = run.takeSeconds()
      let say: () -> Void = { [self] in
        tell(place.part + image, record, paths, seconds: seconds, seed: seed)
      }
      // Lines of JSON say of which picture they are, and come at once.
      if command.jsonl { say() }
      try done(image, command.jsonl ? {} : say)
    }
  }

  /// A picture is there: a line on standard output, where the report has not all of them.
  private func tell(
    _ image: Int, _ record: PictureRecord, _ paths: [String], seconds: Double?, seed: UInt64? = nil
  ) {
    let seed = seed ?? record.request.seed &+ UInt64(image)
    if command.jsonl {
      let prompt = record.prompts.isEmpty ? "" : record.prompts[record.request.prompt(of: image)]
      for path in paths {
        Output.result(PictureLine(file: path, seed: seed, prompt: prompt, seconds: seconds).text)
      }
    } else if !command.json {
      for path in paths { Output.result(path) }
    }
  }
}
