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
    usage: "langevin bisect <prompt> ... [<options>]",
    discussion: """
      Examples:
        langevin bisect "red apple" --device opencl:0
        langevin bisect "red apple" --device opencl:0 --reference opencl:1 --steps 5

      Every operation runs on the device and, from the same inputs, on the reference. Where the two differ, float64 \
      says who is right: the first operation that the device computes wrongly is named and saved with its inputs, \
      and the exit code is 1; where the reference is wrong, a line says so. It takes several times as long as \
      generating.
      """)

  @OptionGroup var options: GenerationOptions

  @Option(help: "What the device is held to: cpu or opencl:N.")
  var reference = "cpu"
  @Option(help: "Where the operation at fault is saved, for `langevin validate --replay`.")
  var save = "bisect.safetensors"
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  mutating func run() throws {
    Interrupt.install()
    let prompts = try options.check()
    let (choice, other) = (try DeviceChoice.parse(options.device), try DeviceChoice.parse(reference))
    let file = URL(fileURLWithPath: save)
    guard file.pathExtension == "safetensors" else {
      throw ValidationError("--save must end in .safetensors, got '\(save)'")
    }
    try OutputFile.check(file)
    let model = try options.modelURL()
    let checkpoint = try options.checkpoint(model)
    let device = try choice.open(
      options.backend, fallback: !options.noFallback, notice: { Output.warning($0) })
    let referenceDevice = try other.open(fallback: false, notice: { Output.warning($0) })
    guard referenceDevice.name != device.name else {
      throw ValidationError("--device and --reference are both \(device.name): they would agree")
    }
    let request = try options.request(
      prompts, seed: options.seed ?? UInt64.random(in: 0..<1 << 32), recommended: checkpoint.recommended)
    Output.note(
      "seed \(request.seed), \(device.label) held to \(referenceDevice.label), \(Checkpoint.name(of: model))")
    let start = ContinuousClock.now
    let result = try Bisection.run(
      request, with: checkpoint, precision: options.dtype, on: device,
      reference: referenceDevice.backend, notice: { Output.warning("\($0)") },
      progress: { event in
        try Interrupt.check()
        if !quiet { show(event) }
      })
    let seconds = String(format: "%.1f s", (ContinuousClock.now - start) / .seconds(1))
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
