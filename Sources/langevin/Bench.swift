import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement
import LangevinNN
import LangevinTensor
import LangevinValidation
import Synchronization

/// `langevin bench`.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Times operations or parts of a model on devices, beside what the devices can do at most.",
    discussion: """
      Examples:
        langevin bench
        langevin bench --suite step --model sd15-random --rounds 3
        langevin bench --suite ops --op conv2d --json before.json
        langevin bench --compare before.json after.json

      Prints a table. Results are checked first, and a wrong one is not ranked. The devices take turns in every \
      round. Ctrl-C keeps what was measured.
      """)

  @Option(help: "Devices by name, separated by commas, or all.")
  var devices = "all"
  @Option(help: "ops, clip, unet, transformer, vae, step, image or gradients.")
  var suite = BenchSuite.step.rawValue
  @Option(
    help: """
      A diffusers folder, a .safetensors file, or \(RandomModel.stableDiffusion15Name): Stable Diffusion 1.5 of \
      random weights, or \(RandomModel.wan21Name): WAN 2.1's transformer. (default: the emoji model that ships \
      along) Of the suite ops: whose shapes, such as 'SD 1.5 UNet'. Of the suite gradients: \
      \(BenchWorkload.gradientModels.joined(separator: " or ")). (default: all)
      """)
  var model: String?
  @Option(help: "Of the suite ops, only the operation of this name.")
  var op: String?
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32
  @Option(
    help: ArgumentHelp(
      """
      Weights in blocks: q8_0, q6_K, q5_0, q4_K or q4_0. Of the suite ops only the products that a model would have in \
      blocks.
      """, valueName: "q8_0|…"))
  var encoding: BlockEncoding?
  @Option(help: "How products with weights in q8_0 are computed: f32 or int8.")
  var arithmetic = ProductArithmetic.float32
  @Option(parsing: .unconditional, help: "Warm runs of each row on each device.")
  var rounds = 5
  @Option(parsing: .unconditional, help: "Steps of the suite image.")
  var steps = 10
  @Option(parsing: .unconditional, help: "Pictures that are computed at once, of the suite step.")
  var batch = 1
  @Option(help: "Write everything there, for --compare.")
  var json: String?
  @Option(help: "Write the table there in markdown, which is wider; with --compare that table.")
  var markdown: String?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Say what is faster or slower in the second of two JSON files.", valueName: "file"))
  var compare: [String] = []
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  func run() throws {
    Interrupt.install()
    guard compare.isEmpty else { return try compareFiles() }
    guard (1...10_000).contains(rounds) else {
      throw ValidationError("--rounds must be 1 to 10000, got \(rounds)")
    }
    guard (1...64).contains(batch) else {
      throw ValidationError("--batch must be 1 to 64, got \(batch)")
    }
    if batch > 1, suite != BenchSuite.step.rawValue { throw ValidationError("--batch needs --suite step") }
    let files = [json, markdown].map { $0.map { URL(fileURLWithPath: $0) } }
    for case let url? in files { try OutputFile.check(url) }
    guard let suite = BenchSuite(rawValue: suite) else {
      let known = BenchSuite.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("unknown suite '\(suite)'; there are: \(known)")
    }
    let (name, workloads) = try workloads(suite)
    let devices = try MeasuredDevices(self.devices)

    let isQuiet = quiet
    var bench = LangevinMeasurement.Bench(devices.subjects, version: LangevinCommand.configuration.version)
    bench.rounds = rounds
    bench.shouldStop = { Interrupt.isRequested }
    bench.progress = { if !isQuiet { Output.note($0) } }
    let failures = devices.failures
    let finish: @Sendable (BenchReport) throws -> Void = { report in
      var report = report
      report.devices += failures
      if !failures.isEmpty { report.isPartial = true }
      if let url = files[0] { try MeasurementFile.write(report, to: url) }
      if let url = files[1] { try MeasurementFile.write(report.markdown, to: url) }
      for line in report.lines(width: Terminal.tableWidth) { Output.wrapped(line) }
    }
    let interrupted = Interrupted(reason: "the table has what was measured, and says that it is partial")
    let kept = Mutex<BenchReport?>(nil)
    bench.kept = { report in kept.withLock { $0 = report } }
    Interrupt.limit {
      guard var report = kept.withLock({ $0 }) else { return Interrupted(reason: "nothing was measured") }
      report.isPartial = true
      report.rank()
      try finish(report)
      return interrupted
    }
    let report = try bench.run(suite, model: name, workloads)
    Interrupt.settle()
    try finish(report)
    if Interrupt.isRequested {
      throw interrupted
    }
  }

  private func workloads(_ suite: BenchSuite) throws -> (model: String?, [BenchWorkload]) {
    if let op, suite != .ops { throw ValidationError("--op \(op) needs --suite ops") }
    if arithmetic == .int8, suite == .ops || suite == .gradients, encoding != .q8 {
      throw ValidationError("--arithmetic int8 needs --encoding q8_0")
    }
    if suite == .gradients {
      if let encoding { throw ValidationError("--encoding \(encoding.rawValue): blocks have no gradients") }
      if let model, !BenchWorkload.gradientModels.contains(model) {
        let known = BenchWorkload.gradientModels.joined(separator: ", ")
        throw ValidationError("the suite gradients has no model '\(model)'; there are: \(known)")
      }
      return (model, try BenchWorkload.gradients(model, dtype: precision.dtype))
    }
    guard suite == .ops else {
      let (name, checkpoint) = try RandomModel.open(model)
      return (
        name,
        try BenchWorkload.model(
          suite, (encoding.map { checkpoint.quantized($0) } ?? checkpoint).multiplying(in: arithmetic),
          dtype: precision.dtype, arithmetic: arithmetic, steps: steps, batch: batch)
      )
    }
    let wanted = model == RandomModel.stableDiffusion15Name ? "SD 1.5" : model
    let ofModel = OperationCases.model.filter { test in
      wanted.map { wanted in test.models.contains { $0.lowercased().contains(wanted.lowercased()) } } ?? true
    }
    if ofModel.isEmpty {
      let known = Set(OperationCases.model.flatMap(\.models)).sorted().joined(separator: ", ")
      throw ValidationError("no shapes are recorded of '\(model ?? "")'; there are those of: \(known)")
    }
    let chosen = ofModel.filter { op == nil || $0.operation(.float32).name == op }
    let cases =
      encoding.map { encoding in chosen.compactMap { $0.inBlocks(encoding, arithmetic: arithmetic) } }
      ?? chosen
    if cases.isEmpty {
      let known = Set(ofModel.map { $0.operation(.float32).name }).sorted().joined(separator: ", ")
      throw ValidationError("no operation '\(op ?? "")' at a model's shapes; there are: \(known)")
    }
    return (wanted, cases.map { BenchWorkload($0, dtype: precision.dtype) })
  }

  private func compareFiles() throws {
    guard compare.count == 2 else {
      throw ValidationError("--compare takes two files, got \(compare.count)")
    }
    let reports = try compare.map { try BenchReport.read(URL(fileURLWithPath: $0)) }
    let comparison = BenchComparison(reports[0], reports[1])
    if let markdown { try MeasurementFile.write(comparison.markdown, to: URL(fileURLWithPath: markdown)) }
    for line in comparison.lines(width: Terminal.tableWidth) { Output.wrapped(line) }
  }
}

/// The devices of a measurement, each with an empty program cache, so that a first run builds its kernels.
/// (What a driver caches itself stays.)
final class MeasuredDevices {
  /// What could be opened, in the order in which it was named.
  private(set) var subjects: [Validator.Subject] = []
  /// The devices that could not be opened, and why.
  private(set) var failures: [BenchReport.Device] = []
  private let cache = FileManager.default.temporaryDirectory.appendingPathComponent(
    "langevin-bench-\(getpid())-\(UInt32.random(in: 0 ... .max))")

  /// Throws a line that lists what there is for names that are none, and what opening a device throws where it
  /// is the only one.
  init(_ names: String) throws {
    let choices: [DeviceChoice]
    if names == "all" {
      choices = BackendRegistry.devices.map { DeviceChoice($0) }
    } else {
      choices = try names.split(separator: ",").map { try DeviceChoice.parse(String($0)) }
    }
    guard !choices.isEmpty else { throw ValidationError("--devices names none") }
    guard Set(choices).count == choices.count else {
      throw ValidationError("--devices names a device twice: \(names)")
    }
    for choice in choices {
      do {
        subjects.append(try open(choice))
      } catch {
        failures.append(.init(name: choice.description, description: "not opened", failure: "\(error)"))
        Output.warning("\(choice): \(error)")
      }
    }
    if subjects.isEmpty {
      throw MeasurementError.noDevice(failures.map { "\($0.name): \($0.failure ?? "")" })
    }
  }

  deinit { try? FileManager.default.removeItem(at: cache) }

  private func open(_ choice: DeviceChoice) throws -> Validator.Subject {
    let options = BackendOptions(programCache: cache.appendingPathComponent("\(choice)"))
    return Validator.Subject(try choice.opened(options))
  }
}
