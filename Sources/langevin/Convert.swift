import ArgumentParser
import Foundation
import Langevin
import LangevinTensor

/// `langevin convert`.
struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a model's file as GGUF, its weights in blocks of fewer bits.",
    discussion: """
      Examples:
        langevin convert v1-5-pruned-emaonly.safetensors v1-5-q8_0.gguf --encoding q8_0
        langevin generate "red apple" -m v1-5-q8_0.gguf

      The tensors keep their names. Matrices are in blocks; convolutions, embeddings, norms and the autoencoder stay as they \
      are, which is what stable-diffusion.cpp writes and reads. A network's file of a diffusers folder can be converted too: \
      put diffusion_pytorch_model.gguf in the place of diffusion_pytorch_model.safetensors.
      """)

  @Argument(help: "A .safetensors or .gguf file.")
  var input: String
  @Argument(help: "The file to write, .gguf.")
  var output: String
  @Option(
    help: "Of the blocks: q8_0, q6_K, q5_0, q4_K or q4_0, from 8 bits a number to 4; less is less exact.")
  var encoding = BlockEncoding.q8
  @Flag(
    help: """
      Convolutions in blocks too, in rows of 256 as ComfyUI-GGUF has them; stable-diffusion.cpp does not read that.
      """)
  var convolutions = false
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  func run() throws {
    Interrupt.install()
    let target = URL(fileURLWithPath: output)
    guard target.pathExtension.lowercased() == "gguf" else {
      throw ValidationError("the output must end in .gguf, got '\(output)'")
    }
    try OutputFile.check(target)
    let conversion = try GGUFConversion(
      URL(fileURLWithPath: input), encoding: encoding, convolutions: convolutions)
    let summary = try conversion.write(to: target) { _, _ in try Interrupt.check() }
    if !quiet {
      Output.note(
        "\(summary.inBlocks) of \(summary.tensors) tensors in \(encoding.rawValue), "
          + "\(Output.bytes(summary.bytesBefore)) became \(Output.bytes(summary.bytesAfter))")
    }
    Output.result(output)
  }
}
