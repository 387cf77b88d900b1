import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement
import LangevinTensor
import LangevinValidation

/// `langevin bisect`.
struct Bisect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Finds the first operation of a generation that a device computes wrongly.",
    usage: "langevin bisect <prompt> ... [<options>]\nlangevin bisect --train <config> [<options>]",
    discussion: """
      Examples:
        langevin bisect "red apple" --device opencl:0
        langevin bisect "red apple" --device opencl:0 --reference opencl:1 --steps 5
        langevin bisect --train run/train.json --device opencl:0

      Every operation runs on the device and, from the same inputs, on the reference. Where the two differ, float64 \
      says who is right: the first operation that the device computes wrongly is named and saved with its inputs, \
      and the exit code is 1; where the reference is wrong, a line says so. It takes several times as long as \
      generating.
      """)

  @OptionGroup var options: GenerationOptions

  @Option(help: TrainingConfig.help)
  var train: String?
  @Option(help: "What the device is held to: cpu or opencl:N.")
  var reference = "cpu"
  @Option(help: "Where the operation at fault is saved, for `langevin validate --replay`.")
  var save = "bisect.safetensors"
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  mutating func run() throws {
    Interrupt.install()
    if let train {
      let config = try TrainingConfig(
        train, prompts: options.prompts, with: ["device", "no-fallback", "reference", "save", "quiet"])
      return try compare { device, reference in
        Output.note("a step of training, \(device.label) held to \(reference.label)")
        return try training(config.type, config, on: device, reference: reference.backend)
      }
    }
    let prompts = try options.check()
    let model = try options.modelURL()
    let checkpoint = try options.checkpoint(model, prompts)
    try compare { device, reference in
      let request = try options.request(
        prompts, seed: options.seed ?? UInt64.random(in: 0..<1 << 32), recommended: checkpoint.recommended)
      Output.note(
        "seed \(request.seed), \(device.label) held to \(reference.label), \(Checkpoint.name(of: model))")
      return try Bisection.run(
        request, with: checkpoint, precision: options.dtype, on: device, reference: reference.backend,
        notice: { Output.warning("\($0)") },
        progress: { event in
          try Interrupt.check()
          if !quiet { show(event) }
        })
    }
  }

  /// Opens the two devices, and tells what `body` found on them.
  private func compare(_ body: (_ device: Device, _ reference: Device) throws -> Bisection) throws {
    let (choice, other) = (try DeviceChoice.parse(options.device), try DeviceChoice.parse(reference))
    let file = URL(fileURLWithPath: save)
    guard file.pathExtension == "safetensors" else {
      throw ValidationError("--save must end in .safetensors, got '\(save)'")
    }
    try OutputFile.check(file)
    let device = try choice.opened(
      options.backend, fallback: !options.noFallback, isQuiet: quiet)
    let referenceDevice = try other.opened(fallback: false)
    guard referenceDevice.name != device.name else {
      throw ValidationError("--device and --reference are both \(device.name): they would agree")
    }
    let start = ContinuousClock.now
    let result = try body(device, referenceDevice)
    try tell(result, (ContinuousClock.now - start) / .seconds(1), device, file)
  }

  private func training<Task: ModelTask>(
    _ type: Task.Type, _ config: TrainingConfig, on device: Device, reference: any Backend
  ) throws -> Bisection {
    try config.withSetup(of: type) { setup in
      try .run(
        training: setup, on: device, reference: reference, notice: { Output.warning($0) },
        progress: { _ in try Interrupt.check() })
    }
  }

  /// What was found. Throws exit code 1 for an operation at fault, which is kept in a file.
  private func tell(_ result: Bisection, _ duration: Double, _ device: Device, _ file: URL) throws {
    let seconds = String(format: "%.1f s", duration)
    guard let divergence = result.divergence else {
      Output.result(
        "\(result.compared.operations) operations agree in \(seconds); the largest error is "
          + "\(Bisect.number(result.compared.worst)) of the tolerance, in \(result.compared.worstOperation) of "
          + (result.compared.worstPath.isEmpty ? "no layer" : result.compared.worstPath)
          + Bisect.faults(result.compared.referenceFaults))
      return
    }
    Output.result(
      "the first wrong operation, after \(result.compared.operations - 1) that agree"
        + Bisect.faults(result.compared.referenceFaults) + ":")
    for (name, value) in Bisect.rows(divergence, stage: result.stage) {
      Output.result("  \(name.padding(toLength: 10, withPad: " ", startingAt: 0))  \(value)")
    }
    try Capture(divergence).write(to: file, version: LangevinCommand.configuration.version)
    Output.result(
      "  again       langevin validate --device \(device.name) --replay \(Output.path(file))")
    throw ExitCode(1)
  }

  static func rows(_ divergence: Divergence, stage: String?) -> [(String, String)] {
    var rows: [(String, String)] = []
    if let stage { rows.append(("stage", stage)) }
    rows += [
      ("layer", divergence.path.isEmpty ? "none" : divergence.path),
      ("operation", divergence.operation.name),
      ("inputs", divergence.inputs.map(\.spec.description).joined(separator: ", ")),
      ("output", divergence.output.spec.description),
    ]
    for (index, kernel) in divergence.kernels.enumerated() {
      rows.append((index == 0 ? "kernels" : "", kernel))
    }
    rows.append(("error", "\(divergence.errors): \(divergence.problem)"))
    return rows
  }

  /// Where the reference was wrong, in a clause.
  private static func faults(_ faults: [ReferenceFault]) -> String {
    faults.isEmpty ? "" : "; the reference is off in \(faults.count) of them, as the warnings say"
  }

  private static func number(_ value: Double) -> String {
    value.isFinite ? String(format: "%.3g", value) : "\(value)"
  }

  private func show(_ event: GenerationProgress) {
    switch event {
    case .loading(let component): Output.note("comparing while loading the \(component)")
    case .sampling: Output.note("comparing the denoiser and the sampler")
    case .step(let step, let total, _): Output.note("step \(step)/\(total) agrees")
    case .decoding: Output.note("comparing the decoder")
    case .warning(let line): Output.warning(line)
    case .truncated, .preview, .sampled, .finished: break
    }
  }
}
