import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement

/// `langevin run`.
struct RunComponent: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs one component of a model on tensors of a file.",
    discussion: """
      Examples:
        langevin run unet --model DIR --inputs x.safetensors --output y.safetensors
        langevin run unet --model DIR --inputs x.safetensors --gradients --cotangent c.safetensors \
          --output g.safetensors

      The names and layouts of the tensors are those of the reference's forward signature in PyTorch: sample, \
      timestep, encoder_hidden_states, …, in the order [N, C, H, W]. Outputs are float32.

      With --gradients the output is the gradient of the sum of the outputs times the cotangent's tensors of the same \
      names: at every parameter under the checkpoint's name, and at every floating-point input under input.NAME.
      """)

  @Argument(
    help: "unet, text_encoder, vae.encode, vae.decode, transformer, prior, … as the model's folder calls it.")
  var component: String
  @Option(help: "A diffusers folder, a single .safetensors file, or the folder of one component.")
  var model: String
  @Option(help: "A safetensors file with the inputs.")
  var inputs: String
  @Option(help: "A safetensors file for the outputs.")
  var output: String
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(help: "Storage of weights and activations: f32, f16 or bf16.")
  var precision = Precision.f32

  @Flag(help: "Write gradients instead of outputs.")
  var gradients = false
  @Option(help: "A safetensors file with what the outputs are multiplied by before they are summed.")
  var cotangent: String?
  @Flag(help: "Fail where the device has no kernel, instead of using the CPU.")
  var noFallback = false
  @Option(help: "How often it is called, which is timed each.")
  var `repeat` = 1
  @Flag(help: "Print seconds and memory as JSON.")
  var json = false

  func validate() throws {
    guard gradients == (cotangent != nil) else {
      throw ValidationError("--gradients and --cotangent belong together")
    }
    guard !gradients || `repeat` == 1 else { throw ValidationError("--gradients takes no --repeat") }
    guard 1...1000 ~= `repeat` else { throw ValidationError("--repeat must be 1 to 1000, got \(`repeat`)") }
  }

  /// The report that `run --json` prints.
  private struct Summary: Encodable {
    struct Memory: Encodable { let devicePeakBytes, processPeakBytes: Int }
    struct Seconds: Encodable {
      let load: Double
      var calls: [Double] = []
    }
    let component, device, deviceName: String
    let outputs: [String: [Int]]
    let seconds: Seconds
    let memory: Memory
  }

  func run() throws {
    let choice = try DeviceChoice.parse(device)
    let file = URL(fileURLWithPath: output)
    try OutputFile.check(file)
    let device = try choice.opened(fallback: !noFallback)
    var mark = ContinuousClock.now
    func lap() throws -> Double {
      try device.backend.synchronize()
      defer { mark = ContinuousClock.now }
      return (ContinuousClock.now - mark) / .seconds(1)
    }
    let (folder, input) = (try Checkpoint.locate(model), URL(fileURLWithPath: inputs))
    var seconds = Summary.Seconds(load: 0)
    var outputs: ComponentCall.Outputs = []
    if let cotangent {
      // Loading is part of it: parameters are read as variables.
      outputs = try ComponentCall.gradients(
        component, of: folder, inputs: input, cotangents: URL(fileURLWithPath: cotangent), on: device,
        as: precision.dtype, scale: precision.dtype == .float16 ? 1024 : 1
      ).gradients
      seconds.calls = [try lap()]
    } else {
      let call = try ComponentCall.load(component, of: folder, on: device, as: precision.dtype)
      seconds = Summary.Seconds(load: try lap())
      for _ in 0..<`repeat` {
        outputs = []
        outputs = try call(input)
        seconds.calls.append(try lap())
      }
    }
    try SafetensorsWriter.write(outputs, to: file)
    if json {
      try Output.json(
        Summary(
          component: component, device: device.name, deviceName: device.label,
          outputs: Dictionary(uniqueKeysWithValues: outputs.map { ($0.name, $0.tensor.shape.dimensions) }),
          seconds: seconds,
          memory: .init(
            devicePeakBytes: device.backend.memory.highWater, processPeakBytes: ProcessMemory.peak)))
    } else {
      for (name, tensor) in outputs { Output.result("\(name) \(tensor.shape)") }
    }
  }
}
