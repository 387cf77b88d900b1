import ArgumentParser
import Foundation
import Langevin
import LangevinCPU
import LangevinDiffusion
import LangevinMeasurement
import LangevinTensor
import LangevinValidation
import Synchronization

/// `langevin validate`.
struct Validate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs every operation on a device and holds it to float64; large ones to the CPU backend too.",
    discussion: """
      Examples:
        langevin validate --device all
        langevin validate --device opencl:0 --shapes model --op conv2d
        langevin validate --device all --gradients
        langevin validate --replay bisect.safetensors

      Each case runs three times between guard regions into a poisoned output; the tolerance is derived from \
      what is summed. A failure prints the line that repeats it, and the smallest shape that fails alike. The \
      exit code is 1 where anything failed, and where of an operation no case fits the device's memory.
      """)

  enum Shapes: String, CaseIterable, ExpressibleByArgument {
    case edge, model, tiny, all

    var cases: [OperationCase] {
      switch self {
      case .edge: OperationCases.edge
      // On a slow device they take hours: a run that is stopped has then seen the most.
      case .model: OperationCases.model.sorted { $0.flops < $1.flops }
      case .tiny: OperationCases.tiny
      case .all: OperationCases.edge + Shapes.model.cases
      }
    }
  }

  enum Storage: String, CaseIterable, ExpressibleByArgument {
    case f32, f16, bf16, all

    var dtype: DType? {
      switch self {
      case .f32: .float32
      case .f16: .float16
      case .bf16: .bfloat16
      case .all: nil
      }
    }
  }

  @Option(help: "auto, cpu, opencl, opencl:N or all; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "One operation, as its line names it. (default: all)")
  var op: String?
  @Option(
    help: """
      edge: odd, empty and long ones; model: those of models, the smallest first; tiny: for a simulator; or all.
      """)
  var shapes = Shapes.edge
  @Option(help: "The OpenCL kernels' form, cpu or gpu. (default: what fits the device)")
  var family: String?
  @Option(help: "Storage: f32, f16, bf16 or all. (default: all; f32 for model shapes)")
  var precision: Storage?
  @Option(parsing: .unconditional, help: "Of the inputs.")
  var seed: UInt64 = 1
  @Option(help: ArgumentHelp("Runs of each case.", visibility: .hidden))
  var repeats = 3
  @Option(help: "Write what was found there.")
  var json: String?
  @Option(help: "Run one case again: what a failure printed, a file that has it, or what bisect saved.")
  var replay: String?
  @Flag(
    help: "Gradients alone: the rule of each operation against differences of float64, then their kernels.")
  var gradients = false
  @Flag(help: "A line for each case too.")
  var verbose = false

  func run() throws {
    Interrupt.install()
    guard repeats > 0 else { throw ValidationError("--repeats must be at least 1, got \(repeats)") }
    try Validate.check(family: family)
    let file = json.map { URL(fileURLWithPath: $0) }
    if let file { try OutputFile.check(file) }
    if let replay, replay.hasSuffix(".safetensors") {
      return try Validate.again(Capture(reading: URL(fileURLWithPath: replay)), device, family: family)
    }
    let replayed = try replay.map(Validate.read)
    let cases = try replayed.map { [$0.test] } ?? self.cases()
    let subjects = try Validate.subjects(device, family: family)

    var validator = Validator(version: LangevinCommand.configuration.version, reference: Device(CPUBackend()))
    validator.seed = replayed?.seed ?? seed
    validator.repeats = repeats
    if let dtype = replayed?.dtype ?? precision?.dtype {
      (validator.dtypes, validator.modelDTypes) = ([dtype], [dtype])
    } else if precision == .all {
      validator.modelDTypes = validator.dtypes
    }
    validator.checksPacking = replay == nil && !gradients && (op == nil || op == Validator.packing)
    let start = ContinuousClock.now
    let path = json
    let finish: @Sendable (ValidationReport) throws -> Void = { report in
      if let rules = report.rules {
        let failed = rules.filter { !$0.passes }.map(\.operation)
        let cases = rules.reduce(0) { $0 + $1.cases }
        Output.result(
          "\(rules.count) rules, \(cases) cases: "
            + (failed.isEmpty
              ? "all agree with differences of float64" : "FAILED: \(failed.joined(separator: ", "))"))
      }
      // A device that had nothing to run passes nothing.
      for device in report.devices where device.planned > 0 { Output.result(Validate.summary(device)) }
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      Output.note(String(format: "langevin: %.1f s in all", seconds))
      if report.isPartial { Output.warning("partial: not every case was run on every device") }
      if let file { try Output.json(report, to: file) }
    }
    let interrupted = Interrupted(reason: "what was run is above\(path.map { " and in \($0)" } ?? "")")
    let kept = Mutex<ValidationReport?>(nil)
    Interrupt.limit {
      guard let report = kept.withLock({ $0 }) else { return Interrupted(reason: "nothing was run") }
      try finish(report)
      return interrupted
    }
    let stops = { (try? Interrupt.check()) == nil }
    let rules =
      try gradients
      ? GradientCheck.verdicts(
        self.cases(), seed: validator.seed, shouldStop: stops, progress: Validate.show) : nil
    var report = try validator.run(
      gradients ? cases.filter { $0.operation(.float32).isGradient } : cases, on: subjects, shouldStop: stops,
      kept: { report in kept.withLock { $0 = report } }, progress: show)
    report.rules = rules
    Interrupt.settle()
    try finish(report)
    if (try? Interrupt.check()) == nil { throw interrupted }
    if !report.passes { throw ExitCode(1) }
  }

  /// Those of the table that were asked for.
  private func cases() throws -> [OperationCase] {
    let cases = shapes.cases
    guard let op else { return cases }
    if op == Validator.packing { return [] }
    let chosen = cases.filter { test in
      let operation = test.operation(.float32)
      return operation.name == op || operation.kind.rawValue == op
    }
    guard chosen.isEmpty else { return chosen }
    let operations = cases.map { $0.operation(.float32) }
    let names = Set(operations.filter { !$0.isGradient }.map(\.name)).sorted().joined(separator: ", ")
    let gradients = operations.contains(where: \.isGradient) ? ", and gradients such as silu_gradient" : ""
    throw ValidationError(
      "there is no operation '\(op)' in the shapes '\(shapes.rawValue)'; there are: \(names)\(gradients)")
  }

  /// Text of a replay or a file's.
  private static func read(_ argument: String) throws -> Replay {
    if argument.hasPrefix("{") { return try Replay(text: argument) }
    let text: String
    do {
      text = try String(contentsOf: URL(fileURLWithPath: argument), encoding: .utf8)
    } catch {
      throw ImageError.unreadable(path: argument, reason: "no such file, or not text")
    }
    return try Replay(text: text)
  }

  /// Runs what `langevin bisect` saved.
  private static func again(_ capture: Capture, _ device: String, family: String?) throws {
    var agrees = true
    for subject in try subjects(device, family: family) where subject.device.name != "cpu" || device != "all"
    {
      let divergence = try capture.compare(
        on: subject.device.backend, reference: CPUBackend(), notice: { Output.warning("\($0)") })
      Output.result(divergence.map { "FAILED \($0)" } ?? "\(subject.device.name) agrees with float64")
      agrees = agrees && divergence == nil
    }
    if !agrees { throw ExitCode(1) }
  }

  /// Throws a line that lists what there is for a form of kernels that no provider has.
  private static func check(family: String?) throws {
    let forms = BackendRegistry.providers.flatMap(\.kernelForms)
    if let family, !forms.contains(family) {
      throw ValidationError("unknown --family '\(family)'; there are: \(forms.joined(separator: ", "))")
    }
  }

  /// The devices that an argument names, without those of `all` that cannot be used or have no such kernels.
  static func subjects(_ text: String, family: String?) throws -> [Validator.Subject] {
    let options = BackendOptions(kernels: family)
    if text == "all" {
      let providers = BackendRegistry.providers.filter { provider in
        family.map(provider.kernelForms.contains) ?? true
      }
      return providers.flatMap { $0.devices() }.compactMap { device in
        func leaveOut(_ reason: String) -> Validator.Subject? {
          let title = device.title.map { " (\($0))" } ?? ""
          Output.warning("\(device.name)\(title) is left out: \(reason)")
          return nil
        }
        if let problem = device.problem { return leaveOut(problem) }
        do {
          return Validator.Subject(try DeviceChoice(device).open(options, fallback: false))
        } catch {
          return leaveOut("\(error)")
        }
      }
    }
    do {
      let device = try DeviceChoice.parse(text).opened(options, fallback: false)
      return [Validator.Subject(device)]
    } catch DeviceChoiceError.noSuchKernels(_, let device, _) {
      let others = BackendRegistry.providers.filter { !$0.kernelForms.isEmpty }.map(\.title)
      throw ValidationError(
        "--family is for \(others.joined(separator: " and ")) devices, not for \(device)")
    }
  }

  private func show(_ progress: Validator.Progress) {
    switch progress {
    case .result(let result, let device):
      if verbose {
        let ratio = result.errors.map { Validate.number($0.ratio) } ?? "-"
        Output.note(
          "\(device) \(result.name) \(result.dtype.rawValue) \(result.outcome.rawValue) \(ratio) of the "
            + "tolerance, \(Validate.number(result.seconds * 1000)) ms")
      }
      if let fault = result.referenceFault { Output.warning(fault) }
      if result.outcome == .skipped {
        Output.note("\(device) skips \(result.name) \(result.dtype.rawValue): \(result.reason ?? "")")
      }
      guard result.outcome == .failed else { return }
      Output.result("FAILED \(device) \(result.name) \(result.dtype.rawValue): \(result.problem)")
      if let replay = result.replay { Output.result("  " + line(replay, device)) }
      if let smallest = result.smallest {
        let inputs = smallest.inputs.map(\.description).joined(separator: ", ")
        Output.result("  smallest that fails: \(result.operation)(\(inputs))")
        Output.result("  " + line(smallest.replay, device))
      }
    case .verdict(let verdict, let device):
      Output.result(Validate.line(verdict, device))
    case .lost(let device, let reason): Output.error("\(device) cannot be used any more: \(reason)")
    }
  }

  private static func show(_ rule: GradientCheck.Verdict) {
    let verdict = rule.passes ? "" : " FAILED in \(rule.worstCase)"
    Output.result(
      [
        column("rule", 9), column(rule.operation, 18),
        String(format: "%5d cases, worst %@ of the derivative", rule.cases, number(rule.worst)) + verdict,
      ].joined(separator: " "))
  }

  private static func column(_ text: String, _ width: Int) -> String {
    text.padding(toLength: max(width, text.count), withPad: " ", startingAt: 0)
  }

  private static func line(_ verdict: OperationVerdict, _ device: String) -> String {
    let count = verdict.passed + verdict.failed + verdict.skipped
    var parts = [String(format: "%5d cases", count)]
    if verdict.failed > 0 { parts.append("\(verdict.failed) FAILED") }
    if verdict.skipped > 0 {
      let memory = verdict.lacksMemory > 0 ? " (\(verdict.lacksMemory) for want of memory)" : ""
      parts.append("\(verdict.skipped) skipped\(memory)")
    }
    parts.append("worst \(number(verdict.worst)) of the tolerance")
    parts.append("\(number(verdict.ulp)) ULP")
    parts.append(String(format: "%.2f s", verdict.seconds))
    return [column(device, 9), column(verdict.operation, 18), parts.joined(separator: ", ")]
      .joined(separator: " ")
  }

  private func line(_ replay: String, _ device: String) -> String {
    let family = family.map { " --family \($0)" } ?? ""
    return "langevin validate --device \(device)\(family) --replay '\(replay)'"
  }

  private static func summary(_ device: DeviceReport) -> String {
    func total(_ count: KeyPath<OperationVerdict, Int>) -> Int {
      device.operations.reduce(0) { $0 + $1[keyPath: count] }
    }
    let memory = total(\.lacksMemory) > 0 ? " (\(total(\.lacksMemory)) for want of memory)" : ""
    let kernels = device.family.map { ", \($0) kernels" } ?? ""
    let worst = device.operations.max { $0.worst < $1.worst }
    var parts = [
      "\(total(\.passed)) cases passed, \(total(\.failed)) failed, \(total(\.skipped)) skipped\(memory) "
        + "in \(device.operations.count) operations"
    ]
    if let worst { parts.append("worst \(number(worst.worst)) of the tolerance in \(worst.operation)") }
    if let failure = device.failure { parts.append("the device was lost: \(failure)") }
    return "\(device.name) (\(device.description)\(kernels)) \(device.verdict): "
      + parts.joined(separator: "; ")
  }

  private static func number(_ value: Double) -> String {
    value.isFinite ? String(format: "%.3g", value) : "\(value)"
  }
}
