import ArgumentParser
import Foundation
import Langevin
import LangevinCPU
import LangevinDiffusion
import LangevinMeasurement
import LangevinTensor
import LangevinValidation
import Synchronization

/// `langevin tune`.
struct Tune: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Searches for the fastest kernel parameters for a model on a device.",
    discussion: """
      Examples:
        langevin tune
        langevin tune --model sd15-random --budget 1800 --json found.json
        langevin tune --device opencl:0 --export Sources/LangevinOpenCL/Tuning/shipped.json

      The results are kept under ~/.cache/langevin (or XDG_CACHE_HOME) for this device, driver and version of the \
      kernels, and used from then on. Ctrl-C keeps what was found, and the next run continues from there.
      """)

  @Option(help: "auto, opencl or opencl:N; `langevin devices` lists them. With --list and --reset also all.")
  var device = "auto"
  @Option(
    help: ArgumentHelp(
      """
      A diffusers folder, a .safetensors file, or \(RandomModel.stableDiffusion15Name): Stable Diffusion 1.5 of \
      random weights. (default: the emoji model that ships along)
      """))
  var model: String?
  @Option(parsing: .unconditional, help: "Seconds of search.")
  var budget = 300.0
  @Option(parsing: .unconditional, help: "Sampling steps of the picture that shapes are weighted by.")
  var steps = 30
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32
  @Flag(help: "List what was kept of all searches, and search nothing.")
  var list = false
  @Flag(
    help: "Forget what was kept for the device, or with --device all for every one, and search nothing.")
  var reset = false
  @Option(
    help: ArgumentHelp(
      """
      Write what was kept for the device and is faster than what ships into this table, which a build takes up for devices \
      of its family, and search nothing.
      """, valueName: "FILE"))
  var export: String?
  @Flag(help: "Search again where an earlier search has been.")
  var again = false
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false
  @Option(help: "Also write everything that was found there.")
  var json: String?
  @Option(help: ArgumentHelp("Only try a candidate, given in JSON.", visibility: .hidden))
  var candidate: String?

  func run() throws {
    Interrupt.install()
    if let candidate {
      return try TuningCandidate(json: candidate).run(
        on: DeviceChoice.parse(device).open(fallback: false))
    }
    guard [list, reset, export != nil].count(where: { $0 }) < 2 else {
      throw ValidationError("--list, --reset and --export exclude each other")
    }
    if list { return KeptTunings.show() }
    if reset { return try KeptTunings.reset(device) }
    if let export { return try KeptTunings.export(device, to: URL(fileURLWithPath: export)) }
    guard budget.isFinite, budget > 0 else {
      throw ValidationError("--budget must be more than 0 seconds, got \(budget)")
    }
    guard (1...10_000).contains(steps) else {
      throw ValidationError("--steps must be 1 to 10000, got \(steps)")
    }
    let choice = try DeviceChoice.parse(device)
    let file = json.map { URL(fileURLWithPath: $0) }
    if let file { try OutputFile.check(file) }
    let (name, checkpoint) = try RandomModel.open(model)
    let device = try choice.opened(among: { $0 is any TuningProvider }, isQuiet: quiet)
    let search = Search(name: name, checkpoint: checkpoint, file: file)
    try run(search, on: device, device.tunable)
  }

  /// What is searched for, and where the report goes.
  private struct Search {
    let name: String
    let checkpoint: Checkpoint
    let file: URL?
  }

  private func run(_ search: Search, on device: Device, _ backend: some TunableBackend) throws {
    let (name, file) = (search.name, search.file)
    let finish: @Sendable (TuningReport) throws -> Interrupted = { report in
      for line in TuningSummary.lines(report) { Output.wrapped(line) }
      if let file { try Output.json(report, to: file) }
      return Interrupted(
        reason: "kept what was found for \(report.results.count) shapes; the next run goes on from there")
    }
    // Nil until the search begins: measuring the device's peak takes seconds too.
    let kept = Mutex<TuningReport?>(nil)
    Interrupt.limit {
      guard var report = kept.withLock({ $0 }) else { return Interrupted() }
      report.isPartial = true
      return try finish(report)
    }
    var settings = TunerSettings()
    settings.budget = budget
    settings.again = again
    settings.processes = max(1, min(Cores.allowed.count, 8))
    if let backend = device.backend as? any PeakMeasuring { settings.peak = try backend.measurePeak() }
    settings.version = LangevinCommand.configuration.version
    let tuner = Tuner(device, backend, model: name, settings: settings)
    if !quiet { Output.note("looking at what \(name) computes") }
    let counts = try OperationCounts.observing(
      search.checkpoint, precision: precision.dtype, steps: steps, check: Interrupt.check)
    var display = TuningDisplay(isShown: !quiet)
    if backend.mayCrash {
      let arguments = ["tune", "--device", device.name, "--candidate"]
      tuner.isolated = { try TuningCandidate($0, $1, $2).reasonAgainst(arguments: arguments) }
    }
    display.line("tuning \(device.label) for \(name), \(Int(budget.rounded(.up))) s at most")
    kept.withLock { $0 = tuner.report }
    var stop: (any Error)?
    do {
      try tuner.run(counts.targets(on: backend)) { event in
        try Interrupt.check()
        display.show(event)
        let report = tuner.report
        kept.withLock { $0 = report }
      }
    } catch {
      stop = error
    }
    Interrupt.settle()
    display.close()
    var report = tuner.report
    report.isPartial = stop != nil
    let interrupted = try finish(report)
    // With other parameters the device has another speed.
    if !report.results.isEmpty, let listed = BackendRegistry.devices.first(where: { $0.name == device.name })
    {
      KeptSpeeds().forget(listed)
      if stop == nil {
        _ = try DeviceRanking(
          of: [listed], trying: Tool.selfTest, notice: { Output.notice($0, isQuiet: quiet) })
      }
    }
    if stop is Interrupted { throw interrupted }
    if let stop { throw stop }
  }
}

/// Shows where a search is.
private struct TuningDisplay {
  let isShown: Bool
  let isTerminal = isatty(STDERR_FILENO) == 1
  private var title = ""
  private var lineIsOpen = false

  init(isShown: Bool) { self.isShown = isShown }

  mutating func line(_ text: String) {
    guard isShown else { return }
    close()
    Output.note(text)
  }

  mutating func show<Backend>(_ event: Tuner<Backend>.Progress) {
    switch event {
    case .target(let target, let index, let count, let share):
      title = "\(target.key.operation.rawValue) \(target.test.name) \(target.dtype.rawValue)"
      line("\(index + 1)/\(count): \(title), \(Output.percent(share)) of the work")
    case .candidate(let tried, let count, let best, let shipped, let left):
      guard isShown, isTerminal else { return }
      let gain = String(format: "%.2f", shipped / best)
      Output.bar(
        "  candidate \(tried + 1)/\(count), best \(Output.milliseconds(best)) ms, \(gain)x shipped, "
          + "\(Int(left.rounded(.up))) s left")
      lineIsOpen = true
    case .rejected(let parameters, let reason):
      // What cannot run is the search's daily bread; wrong numbers are news.
      if reason.hasPrefix("wrong") { line("  rejected \(parameters): \(reason)") }
    case .result(let result):
      let gain = String(format: "%.2f", result.gain)
      line(
        "  \(Output.milliseconds(result.shippedSeconds)) ms shipped, \(Output.milliseconds(result.tunedSeconds)) ms "
          + "tuned (\(gain)x) with \(result.tuned), of \(result.candidates) candidates")
    }
  }

  mutating func close() {
    if lineIsOpen { Output.endBar() }
    lineIsOpen = false
  }
}

/// The report for a person.
private enum TuningSummary {
  static func lines(_ report: TuningReport) -> [String] {
    var table = TextTable([
      .left("operation"), .left("shape"), .right("shipped ms"), .right("tuned ms"), .right("gain"),
      .right("share"), .left("parameters"),
    ])
    for result in report.results {
      table.add([
        "\(result.operation) \(result.dtype.rawValue)", result.shape,
        Output.milliseconds(result.shippedSeconds), Output.milliseconds(result.tunedSeconds),
        String(format: "%.2fx", result.gain), Output.percent(report.share(result)),
        result.tuned + (result.isKnown ? " (found before)" : ""),
      ])
    }
    var lines = table.lines(width: Terminal.tableWidth)
    let total = report.total
    if total.tuned > 0 {
      lines.append(
        String(
          format: "these kernels take %.3f s of a picture with the shipped parameters, %.3f s tuned (%.2fx)",
          total.shipped, total.tuned, total.shipped / total.tuned))
    }
    if !report.unrivalled.isEmpty {
      lines.append(
        "\(report.unrivalled.count) shapes have no other parameters that run here and are right; nothing is kept of "
          + "them")
    }
    if !report.atCeiling.isEmpty {
      lines.append(
        "\(report.atCeiling.count) shapes reach what the device can do with the shipped parameters; nothing is searched "
          + "for them")
    }
    if !report.unreached.isEmpty {
      lines.append(
        "\(report.unreached.count) shapes were not reached; a larger --budget or another run goes on")
    }
    return lines
  }
}

extension Output {
  /// Three digits at least.
  static func milliseconds(_ seconds: Double) -> String {
    let value = seconds * 1e3
    return String(format: value < 1 ? "%.4f" : value < 100 ? "%.2f" : "%.0f", value)
  }

  /// `12.3%`.
  static func percent(_ share: Double) -> String { String(format: "%.1f%%", 100 * share) }
}
