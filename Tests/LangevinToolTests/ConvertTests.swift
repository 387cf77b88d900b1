import Foundation
import LangevinTensor
import LangevinTestSupport
import Testing

@testable import Langevin

/// `langevin convert`, and `generate` with what it wrote, on the networks of Fixtures/tiny-sd.
struct ConvertTests {
  private static let fixtures = Fixtures.url

  private let scratch: Scratch

  /// The model as `model`, its UNet's file also as `in.safetensors`.
  init() throws {
    scratch = try Scratch()
    try FileManager.default.copyItem(
      at: Self.fixtures.appendingPathComponent("tiny-sd"), to: scratch.url("model"))
    try FileManager.default.copyItem(at: unet("safetensors"), to: scratch.url("in.safetensors"))
  }

  private func unet(_ suffix: String) -> URL {
    scratch.url("model/unet/diffusion_pytorch_model.\(suffix)")
  }

  private func convert(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(["convert"] + arguments, in: scratch.folder)
  }

  private func draw(_ file: String, _ arguments: [String] = []) throws -> Picture.File {
    let settings = [
      "--steps", "2", "--seed", "1", "--device", "cpu", "--model", "model",
    ]
    let drawn = try Tool.generate(settings + ["-o", file] + arguments, in: scratch.folder)
    #expect(drawn.status == 0, "\(drawn.errors)")
    return try Picture.read(scratch.url(file))
  }

  @Test func aConvertedNetworkTakesTheOthersPlace() throws {
    let dense = try draw("a.png")
    let outcome = try convert(["in.safetensors", "out.gguf", "--encoding", "q8_0", "--convolutions"])
    #expect(outcome.status == 0 && outcome.output == "out.gguf\n", "\(outcome.errors)")
    #expect(outcome.errorLines.count == 1 && outcome.errors.contains("tensors in q8_0"), "\(outcome.errors)")
    try FileManager.default.moveItem(at: scratch.url("out.gguf"), to: unet("gguf"))
    try FileManager.default.removeItem(at: unet("safetensors"))
    let drawn = try draw("b.png")
    let differences = zip(dense.picture.pixels, drawn.picture.pixels).map { abs(Int($0) - Int($1)) }
    #expect(differences.contains { $0 > 0 } && differences.allSatisfy { $0 < 32 })
  }

  @Test func aPictureCarriesItsEncoding() throws {
    let (dense, encoded) = (try draw("a.png"), try draw("b.png", ["--encoding", "q4_0"]))
    #expect(dense.picture.pixels != encoded.picture.pixels)
    #expect(dense.texts[PictureParameters.keyword]?.contains("Encoding") == false)
    #expect(encoded.texts[PictureParameters.keyword]?.contains("Encoding: q4_0") == true)
    let again = try Tool.generate(
      ["--from", "b.png", "--model", "model", "--device", "cpu", "-o", "c.png"], in: scratch.folder
    )
    #expect(again.status == 0, "\(again.errors)")
    #expect(try Picture.read(scratch.url("c.png")).picture == encoded.picture)
  }

  /// A folder becomes a folder, which draws nearly the same in less room.
  @Test func aFolderIsConverted() throws {
    let dense = try draw("a.png")
    let outcome = try convert(["model", "blocks", "--convolutions"])
    #expect(outcome.status == 0 && outcome.output == "blocks\n", "\(outcome.errors)")
    #expect(outcome.errorLines.count == 1 && outcome.errors.contains("tensors in q8_0"), "\(outcome.errors)")
    let drawn = try draw("b.png", ["--model", "blocks"])
    let differences = zip(dense.picture.pixels, drawn.picture.pixels).map { abs(Int($0) - Int($1)) }
    #expect(differences.contains { $0 > 0 } && differences.allSatisfy { $0 < 32 })
  }

  /// A UNet's file alone takes the rest from the model, and its picture repeats with it.
  @Test func aUNetAloneTakesThePlaceOfTheModels() throws {
    let own = try draw("a.png")
    #expect(try convert(["in.safetensors", "unet.gguf", "--encoding", "q4_0", "--convolutions"]).status == 0)
    try FileManager.default.removeItem(at: unet("safetensors"))
    let other = try draw("b.png", ["--unet", "unet.gguf"])
    #expect(own.picture.pixels != other.picture.pixels)
    #expect(other.texts[PictureParameters.keyword]?.contains("UNet: unet.gguf") == true)
    let again = ["--from", "b.png", "--model", "model", "--device", "cpu", "-o", "c.png"]
    let outcome = try Tool.generate(again, in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(try Picture.read(scratch.url("c.png")).picture == other.picture)
    try FileManager.default.moveItem(at: scratch.url("unet.gguf"), to: scratch.url("other.gguf"))
    try Tool.expectFailure(again, words: ["the UNet 'unet.gguf'", "--unet"], in: scratch)
    try Tool.expectFailure(
      ["--model", "model", "--unet", "other.safetensors", "-o", "d.png"], words: ["no such file"], in: scratch
    )
  }

  @Test(arguments: [
    (["model", "out.gguf"], 64, "is a folder"), (["model/unet", "out"], 1, "model_index.json"),
    (["in.safetensors", "out.bin"], 64, "must end in .gguf"),
    (["in.safetensors", "out.gguf", "--encoding", "q3_K"], 64, "q3_K"),
    (["none.safetensors", "out.gguf"], 1, "none.safetensors: no such file"),
    (["in.safetensors", "/proc/none/out.gguf"], 1, "cannot be written"),
    (["cut.safetensors", "out.gguf"], 1, "truncated"),
  ])
  func badInputIsOneLine(arguments: [String], status: Int32, words: String) throws {
    let bytes = try Data(contentsOf: scratch.url("in.safetensors"))
    try bytes.prefix(bytes.count / 2).write(to: scratch.url("cut.safetensors"))
    let before = try scratch.files()
    let outcome = try convert(arguments)
    #expect(outcome.status == status && outcome.output.isEmpty, "\(outcome.errors)")
    #expect(outcome.errorLines.count == 1 && outcome.errors.contains(words), "\(outcome.errors)")
    #expect(try scratch.files() == before)
  }

  /// A type of another's file that is not read, a file that ends early, and no model at all.
  @Test func badGGUFFilesAreOneLine() throws {
    let whole = try Data(contentsOf: Self.fixtures.appendingPathComponent("gguf/two.gguf"))
    try whole.prefix(3000).write(to: scratch.url("cut.gguf"))
    try whole.write(to: scratch.url("other.gguf"))
    let name = try #require(whole.firstRange(of: Data("Q5_0.weight".utf8)))
    var foreign = whole
    // Two axes of eight bytes each come before the type.
    foreign[name.upperBound + 4 + 16] = 7
    try foreign.write(to: scratch.url("foreign.gguf"))
    for (file, words) in [
      ("cut.gguf", "truncated"), ("other.gguf", "a file with keys such as"),
      ("foreign.gguf", "tensor 'Q5_0.weight' of type Q5_1 is not supported"),
    ] {
      try Tool.expectFailure(
        ["--model", file, "--device", "cpu", "-o", "a.png"], words: [file, words], in: scratch)
    }
  }
}
