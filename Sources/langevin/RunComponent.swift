import ArgumentParser
import Foundation
import Langevin

/// `langevin run`.
struct RunComponent: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs one component of a model on tensors of a file.",
    discussion: """
      Names and layouts are those of the reference's forward signature: sample, timestep, encoder_hidden_states, …, in \
      PyTorch's order [N, C, H, W]. Outputs are float32.
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
  @Option(help: "Storage of weights and activations: f32 or f16.")
  var precision = Precision.f32

  func run() throws {
    let choice = try DeviceChoice.parse(device)
    let file = URL(fileURLWithPath: output)
    try OutputFile.check(file)
    let device = try choice.open(notice: { Output.warning($0) })
    let outputs = try ComponentCall.run(
      component, of: URL(fileURLWithPath: model), inputs: URL(fileURLWithPath: inputs), on: device,
      as: precision.dtype)
    try SafetensorsWriter.write(outputs, to: file)
    for (name, tensor) in outputs { Output.result("\(name) \(tensor.shape)") }
  }
}
