import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement
import LangevinTensor

/// `langevin warm`.
struct Warm: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compiles the kernels that a model needs, ahead of its first picture.",
    usage: "langevin warm [<model>] [<options>]",
    discussion: """
      Examples:
        langevin warm
        langevin warm org/name --device opencl:1 --precision f16 --width 768

      What is compiled is for pictures from a prompt and from a picture, with guidance. Sizes and batches other than those \
      that are named here need hardly anything more. What is ready already is not compiled again.
      """)

  @Argument(
    help: """
      A diffusers folder, a single .safetensors or .gguf file, or org/name of the Hugging Face cache. (default: the emoji \
      model that ships along)
      """)
  var model: String?
  @Option(help: "auto, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32
  @Option(name: [.customShort("W"), .long], parsing: .unconditional, help: "Pixels. (default: the model's)")
  var width: Int?
  @Option(name: [.customShort("H"), .long], parsing: .unconditional, help: "Pixels. (default: the model's)")
  var height: Int?
  @Option(parsing: .unconditional, help: "How many pictures are computed at once.")
  var batch = 1
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  func run() throws {
    Interrupt.install()
    let start = ContinuousClock.now
    guard (1...10_000).contains(batch) else {
      throw ValidationError("--batch must be 1 to 10000, got \(batch)")
    }
    let choice = try DeviceChoice.parse(device)
    let url = try model.map { try Checkpoint.locate($0) } ?? DefaultModel.url
    let checkpoint = try Checkpoint.open(url)
    let device = try choice.opened(isQuiet: quiet, triesProcessor: true)
    guard device.backend is any CompilingBackend else {
      return Output.result("\(device.label) has no kernels to compile")
    }
    let pipeline = try Pipelines.open(checkpoint, on: device, precision: precision.dtype)
    var calls: Set<OperationCall> = []
    for request in try requests(pipeline) {
      calls.formUnion(
        try MemoryPlan(request, with: checkpoint, precision: precision.dtype, on: device).calls)
    }
    var display = ProgressDisplay(isShown: !quiet, count: 1)
    let count = try KernelPreparation.run(calls, on: device, &display)
    let seconds = String(format: "%.1f s", (ContinuousClock.now - start) / .seconds(1))
    Output.result(
      count == 0
        ? "\(Checkpoint.name(of: url)) on \(device.label): everything was compiled already"
        : "\(Checkpoint.name(of: url)) on \(device.label): \(count) kernels compiled, \(seconds)")
  }

  /// From a prompt, and from a picture, where the pipeline takes them.
  private func requests(_ pipeline: any Pipeline) throws -> [GenerationRequest] {
    let options = type(of: pipeline).options
    var request = GenerationRequest(
      prompts: options.contains(.prompt) ? ["warm"] : [], recommended: pipeline.checkpoint.recommended)
    (request.width, request.height) = (width, height)
    if options.contains(.batch) { (request.count, request.batch) = (batch, batch) }
    guard options.contains(.image) else { return [request] }
    var varied = request
    if options.contains(.prompt) {
      // Else it would be the picture's size.
      let size = try pipeline.resolved(request).request
      (varied.width, varied.height) = (size.width, size.height)
    }
    varied.image = try Picture(width: 64, height: 64, pixels: [UInt8](repeating: 128, count: 64 * 64 * 3))
    return options.contains(.prompt) ? [request, varied] : [varied]
  }
}
