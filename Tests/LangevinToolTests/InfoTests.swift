import Foundation
import Langevin
import LangevinTestSupport
import Testing

/// `langevin info`.
@Suite struct InfoTests {
  private static let fixtures = Fixtures.url

  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func info(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(["info"] + arguments, in: scratch.folder)
  }

  /// What the lines about a file must have in them.
  @Test(arguments: [
    ("adapters/peft.safetensors", ["a LoRA", "text_encoder", "rank", "2 to 4", "F16"]),
    ("adapters/xl-kohya.safetensors", ["a LoRA", "Stable Diffusion XL", "text_encoder_2", "alpha"]),
    ("lycoris/loha.safetensors", ["a LoHa", "unet", "rank", "2 to 3"]),
    ("lycoris/peft-lokr", ["a LoKr", "its matrices are whole"]),
    ("lycoris/dora-lycoris.safetensors", ["DoRA of LoHa and DoRA of LoKr"]),
    ("adapters/cat.safetensors", ["a textual inversion", "<cat-toy>", "1, 64 wide"]),
    ("adapters/ink.safetensors", ["a textual inversion", "ink", "Stable Diffusion XL", "2, 12 and 12 wide"]),
    ("upscaler_compact_x3/weights.safetensors", ["an upscaler", "SRVGGNetCompact", "3 times"]),
    (
      "tiny-sd.safetensors", ["a checkpoint in one file", "Stable Diffusion 1.x", "epsilon", "4 channels in"]
    ),
    ("tiny-sd", ["diffusers' folders", "StableDiffusionPipeline", "UNet2DConditionModel", "predicts"]),
    (
      "tiny-sd3",
      ["StableDiffusion3Pipeline", "Stable Diffusion 3.5", "3, 16 wide", "T5EncoderModel", "flow_prediction"]
    ),
    ("tiny-flux", ["FluxPipeline", "FLUX.1 dev", "2 and 2, 16 wide"]),
    ("tiny-schnell", ["FLUX.1 schnell"]),
    ("tiny-sd/unet", ["a network", "UNet2DConditionModel"]),
    ("control/controlnet-second.safetensors", ["a ControlNet in one file", "tensors"]),
    ("control/controlnet-xl.safetensors", ["a ControlNet in one file"]),
    ("single-file/flux.safetensors", ["FLUX.1's transformer in one file", "blocks", "2 and 2"]),
    ("single-file/sd3.safetensors", ["Stable Diffusion 3's transformer", "3"]),
    ("single-file/wan.safetensors", ["WAN's transformer"]),
    ("tiny-sd/unet/diffusion_pytorch_model.safetensors", ["a UNet in one file", "tensors"]),
    ("gguf/two.gguf", ["a GGUF file", "tensors", "encoding"]),
    ("norms.safetensors", ["of no kind that is known", "tensors"]),
  ])
  func filesAreWhatTheyAre(path: String, words: [String]) throws {
    let outcome = try info([Self.fixtures.appending(path: path).path])
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    for word in words { #expect(outcome.output.contains(word), "\(word) of:\n\(outcome.output)") }
  }

  @Test func aPictureSaysWhatItCarries() throws {
    let made = try Tool.run(
      [
        "generate", "a face", "--quiet", "--device", "cpu", "--steps", "1", "--seed", "7", "--output",
        "a.png",
      ], in: scratch.folder)
    #expect(made.status == 0, "\(made.errors)")
    let grey = try Picture(width: 8, height: 8, pixels: [UInt8](repeating: 99, count: 192))
    try grey.writePNG(to: scratch.url("b.png"))
    let outcome = try info(["a.png", "b.png"])
    for words in ["a.png: a picture of langevin", "a face", "Model hash", "b.png: a picture\n", "none"] {
      #expect(outcome.output.contains(words), "\(words) of:\n\(outcome.output)")
    }
    // The same of a program.
    let json = try info(["a.png", "--json"])
    let report = try #require(
      try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: [[String: Any]]])
    let facts = try #require(report["files"]?.first?["facts"] as? [[String: String]])
    #expect(facts.contains { $0["name"] == "Seed" && $0["value"] == "7" })
    let hash = try #require(facts.first { $0["name"] == "Model hash" }?["value"])
    #expect(hash.count == 10 && hash.allSatisfy(\.isHexDigit))
  }

  /// Of the file, and of what comes behind its header.
  @Test func hashesAreThoseOfOtherTools() throws {
    let data = Data("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}".utf8)
    var bytes = Data((0..<8).map { UInt8(data.count >> (8 * $0) & 255) })
    bytes += data + Data("abcd".utf8)
    try bytes.write(to: scratch.url("x.safetensors"))
    let outcome = try info(["x.safetensors", "--hashes"])
    // The SHA-256 of "abcd".
    #expect(outcome.output.contains("88d4266fd4e6\n"), "\(outcome.output)")
  }

  @Test func whatIsNoFileOfAModelIsOneLine() throws {
    try Data("no file".utf8).write(to: scratch.url("a.safetensors"))
    try Data("no file".utf8).write(to: scratch.url("a.png"))
    try Data().write(to: scratch.url("a.ckpt"))
    for name in ["a.safetensors", "a.png", "a.ckpt", "missing.safetensors", "."] {
      let outcome = try info([name])
      #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(name): \(outcome.errors)")
    }
  }
}
