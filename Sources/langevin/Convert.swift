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
        langevin convert org/name name-q4_K --encoding q4_K --convolutions

      The tensors keep their names. Matrices are in blocks; convolutions, embeddings, norms and the autoencoder stay as \
      they are, which is what stable-diffusion.cpp writes and reads. Of a diffusers folder another folder is made, with \
      GGUF files in the place of its networks' weights.
      """)

  @Argument(help: "A .safetensors or .gguf file, a diffusers folder, or org/name of the Hugging Face cache.")
  var input: String
  @Argument(help: "The file to write, .gguf, or of a folder the folder.")
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
    let (source, target) = (try Checkpoint.locate(input), URL(fileURLWithPath: output))
    var isFolder: ObjCBool = false
    let isThere = FileManager.default.fileExists(atPath: source.path, isDirectory: &isFolder)
    let isFile = target.pathExtension.lowercased() == "gguf"
    guard !(isThere && isFolder.boolValue) else {
      if isFile {
        throw ValidationError("'\(input)' is a folder, and of one a folder is made, not '\(output)'")
      }
      let conversion = try FolderConversion(
        source, encoding: encoding, convolutions: convolutions, check: { try Interrupt.check() })
      return say(try conversion.write(to: target))
    }
    guard isFile else { throw ValidationError("the output must end in .gguf, got '\(output)'") }
    try OutputFile.check(target)
    let conversion = try GGUFConversion(source, encoding: encoding, convolutions: convolutions)
    say(try conversion.write(to: target) { _, _ in try Interrupt.check() })
  }

  private func say(_ summary: GGUFConversion.Summary) {
    if !quiet {
      Output.note(
        "\(summary.inBlocks) of \(summary.tensors) tensors in \(encoding.rawValue), "
          + "\(Output.bytes(summary.bytesBefore)) became \(Output.bytes(summary.bytesAfter))")
    }
    Output.result(output)
  }
}
