import ArgumentParser
import Foundation
import Langevin
import LangevinJSON
import LangevinTensor
import LangevinTraining

/// `langevin train`.
struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Trains a model, or goes on with a run.",
    discussion: """
      Examples:
        langevin train diffusion -m model --data pictures --output run --steps 5000 --batch 32
        langevin train resume run --max-minutes 60

      A network's folder that has a config.json and no weights starts from nothing. Ctrl-C finishes the step, writes the \
      state, and says how to go on.
      """,
    subcommands: [
      TrainDiffusion.self, TrainAutoencoder.self, TrainCLIP.self, TrainPrior.self, TrainLoRA.self,
      TrainTextualInversion.self, TrainResume.self,
    ])
}

/// `langevin train resume`.
struct TrainResume: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Goes on with a run from its last state, to the same bits.")

  @Argument(help: "The folder of the run; its train.json says how.")
  var folder: String
  @Option(parsing: .unconditional, help: "Other steps in all than the run was made for.")
  var steps: Int?
  @OptionGroup var session: SessionOptions

  mutating func run() throws {
    let url = URL(fileURLWithPath: folder)
    guard case .object(let members) = try RunFolder.settings(of: url),
      let task = members.first(where: { $0.key == "task" })?.value.string
    else { throw RunError.malformed(path: url.path, reason: "its train.json names no task") }
    guard let type = TrainingTasks.type(named: task) else {
      throw SettingsError.value(
        key: "task", expected: TrainingTasks.names.joined(separator: ", "),
        path: url.appendingPathComponent("train.json").path)
    }
    try resume(type, members, in: url)
  }

  private func resume<Task: ModelTask>(_ type: Task.Type, _ members: [StrictJSON.Member], in url: URL) throws
  {
    var document = try SettingsDocument(task: Task.name, Task.defaults)
    try document.merge(members, from: url.appendingPathComponent("train.json").path)
    if let steps { try document.merge([.init("steps", .integer(steps))]) }
    try session.run(type, document, in: url, resuming: true)
  }
}

/// How long a run goes on this time, and where.
struct SessionOptions: ParsableArguments {
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(
    help: """
      Devices that train together, as opencl:0,opencl:1, each on its part of every batch. Processes of `mpirun -n N \
      langevin train …` take one each.
      """)
  var devices: String?
  @Option(parsing: .unconditional, help: "Stop after so many minutes, with the state written.")
  var maxMinutes: Double?
  @Flag(help: "Say how much memory and time the run needs, and train nothing.")
  var plan = false
  @Option(
    help: """
      Write NETWORK/PARAMETER.value, .mean, .square and .average of every parameter there when this session ends.
      """)
  var dumpState: String?
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  private func show(_ needs: TrainingPlan, steps: Int, _ device: Device) throws {
    Output.result("parameters \(needs.parameters)")
    let offer = needs.limit > 0 ? " of \(Output.bytes(needs.limit)) that \(device.name) offers" : ""
    Output.result("memory     \(Output.bytes(needs.peak))\(offer)")
    Output.result(
      String(format: "a step     %.3g GFLOP, %.3g GB moved", needs.work.flops / 1e9, needs.work.bytes / 1e9))
    guard let backend = device.backend as? any PeakMeasuring else { return }
    let seconds = needs.secondsAtLeast(try backend.measurePeak())
    let all = TrainingProgress.duration(seconds * Double(steps))
    Output.result(
      String(format: "time       at least %.3g s a step, ", seconds) + "\(all) for \(steps) steps")
  }

  func run<Task: ModelTask>(
    _ type: Task.Type, _ document: SettingsDocument, in url: URL, resuming: Bool
  ) throws {
    do {
      try train(type, document, in: url, resuming: resuming)
    } catch let error as SettingsError { throw document.placed(error) }
  }

  private func train<Task: ModelTask>(
    _ type: Task.Type, _ document: SettingsDocument, in url: URL, resuming: Bool
  ) throws {
    if let maxMinutes, !(maxMinutes > 0) { throw ValidationError("--max-minutes must be above 0") }
    if devices != nil, device != "auto" { throw ValidationError("--device and --devices exclude each other") }
    let choices = try (devices ?? device).split(separator: ",").map { try DeviceChoice.parse(String($0)) }
    Interrupt.install()
    let (start, session) = (ContinuousClock.now, self)
    try Ranks.run(devices: choices) { ranks, choice in
      try session.train(type, document, in: url, resuming: resuming, on: choice, ranks, since: start)
    }
  }

  /// What each rank does; the first one shows it.
  private func train<Task: ModelTask>(
    _ type: Task.Type, _ document: SettingsDocument, in url: URL, resuming: Bool, on choice: DeviceChoice,
    _ ranks: any Collective, since start: ContinuousClock.Instant
  ) throws {
    let isShown = !quiet && ranks.isFirst
    let warn: @Sendable (String) -> Void = { if ranks.isFirst { Output.warning($0) } }
    let setup = try TrainingSetup<Task>(document, notice: warn)
    let device = try choice.open(triesProcessor: true, trying: Tool.selfTest) {
      if ranks.isFirst { Output.notice($0, isQuiet: quiet) }
    }
    let needs = try setup.plan(on: device, ranks: ranks.count)
    if plan {
      if ranks.isFirst { try show(needs, steps: setup.settings.steps, device) }
      return
    }
    if needs.limit > 0, needs.peak > needs.limit {
      warn(
        "a step needs \(Output.bytes(needs.peak)), and \(device.name) offers \(Output.bytes(needs.limit)); try "
          + "--accumulation, --recompute or --precision f16")
    }
    var compiling = ProgressDisplay(isShown: isShown, count: 1)
    try KernelPreparation.run(needs.calls, on: device, &compiling)
    var run = try TrainingRun(
      setup, in: url, resuming: resuming, on: device, collective: ranks, notice: warn)
    let (total, batch) = (run.settings.steps, run.settings.batch)
    let secondsAllowed = maxMinutes.map { $0 * 60 - (ContinuousClock.now - start) / .seconds(1) }
    var display = TrainingDisplay(
      isShown: isShown,
      TrainingProgress(total: total, step: run.trainer.completedSteps, secondsAllowed: secondsAllowed))
    let others = ranks.count > 1 ? ", \(ranks.count) ranks" : ""
    display.line(
      "\(Task.name): \(run.trainer.parameters.count) parameters, \(device.label)\(others), \(Output.path(url))"
    )
    let isDone: Bool
    do {
      isDone = try run.run(
        shouldStop: {
          if Interrupt.isRequested || StandardStreams.outputFailure != nil { return true }
          return maxMinutes.map { (ContinuousClock.now - start) / .seconds(60) >= $0 } ?? false
        }, { display.show($0, batch: batch) })
    } catch {
      display.close()
      throw error
    }
    display.close()
    if let dumpState, ranks.isFirst { try run.dumpState(to: URL(fileURLWithPath: dumpState)) }
    if isDone {
      if let folder = run.folder { Output.result(Output.path(folder.model)) }
      return
    }
    let line = "langevin train resume \(Output.path(url))"
    if try ranks.any(Interrupt.isRequested) {
      throw Interrupted(reason: "step \(run.trainer.completedSteps) of \(total) is kept; go on with: \(line)")
    }
    display.line("step \(run.trainer.completedSteps) of \(total) is kept; go on with: \(line)")
  }
}

/// Shows where a run is: a bar on a terminal, a line now and then elsewhere.
struct TrainingDisplay {
  private let isShown: Bool
  private var progress: TrainingProgress
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private var barIsOpen = false
  private var lastLine: ContinuousClock.Instant?

  init(isShown: Bool, _ progress: TrainingProgress) { (self.isShown, self.progress) = (isShown, progress) }

  mutating func show(_ event: TrainingEvent, batch: Int) {
    switch event {
    case .notice(let text):
      close()
      Output.warning(text)
    case .step(let entry, let seconds, let flops):
      progress.record(
        step: entry.step, loss: entry.loss, rate: entry.rate, samples: batch, seconds: seconds, flops: flops)
      guard isShown else { return }
      if isTerminal {
        Output.bar(progress.line(barWidth: 20))
        barIsOpen = true
      } else if lastLine.map({ ContinuousClock.now - $0 >= .seconds(10) }) ?? true {
        Output.note(progress.line())
        lastLine = .now
      }
    case .samples(let url): line("samples: \(Output.path(url))")
    case .figures(let figures, let step):
      line(
        "step \(step): "
          + figures.map { "\($0.name) \(String(format: "%.4g", $0.value))" }.joined(separator: ", "))
    case .saved, .model: break
    }
  }

  mutating func line(_ text: String) {
    guard isShown else { return }
    close()
    Output.note(text)
  }

  mutating func close() {
    if barIsOpen { Output.endBar() }
    barIsOpen = false
  }
}
