import Foundation
import Langevin
import LangevinTestSupport
import Testing

/// What the tool makes of a folder of WAN.
struct WanToolTests {
  private static let model = Fixtures.url.appending(path: "tiny-wan")
  private static let ofPicture = Fixtures.url.appending(path: "tiny-wan-image")

  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func generate(_ arguments: String..., model: URL = Self.model) throws -> Tool.Outcome {
    try Tool.run(
      ["generate", "a red balloon", "--quiet", "--model", model.path, "--seed", "3"] + arguments,
      in: scratch.folder)
  }

  @Test func framesAreWritten() throws {
    let outcome = try generate(
      "--device", "cpu", "--steps", "2", "--width", "50", "--height", "32", "--frames", "7", "--output",
      "out.png", "--save-latents", "latents.safetensors")
    #expect(outcome.status == 0)
    #expect(
      outcome.errorLines == [
        "langevin: warning: width 50 became 48: this model needs a multiple of 16",
        "langevin: warning: frames 7 became 5: this model needs one more than a multiple of 4",
      ])
    let names = (0..<5).map { "out-000\($0).png" }
    #expect(try scratch.files() == ["latents.safetensors"] + names)
    #expect(
      outcome.output.split(separator: "\n").map { String($0.split(separator: "/").last ?? "") } == names)
    for name in names {
      let png = try Picture.read(scratch.url(name))
      #expect(png.picture.width == 48 && png.picture.height == 32 && Set(png.picture.pixels).count > 16)
      #expect(png.texts["parameters"]?.contains("Sampler: UniPC") ?? false)
    }
    let file = try SafetensorsFile(url: scratch.url("latents.safetensors"))
    #expect(file.shape(of: "latents") == [1, 4, 2, 4, 6])
  }

  @Test func whatHasNoMeaningIsAnError() throws {
    for (arguments, words) in [
      (["--eta", "1"], "WanPipeline has no use for the setting 'eta'"),
      (["--sampler", "ddpm"], "ddpm"),
      (["--frames", "0"], "frames must be 1 to 10000, got 0"),
      (["--frames", "4097"], "frames must be 1 to 4093 for this model, got 4097"),
      (["--width", "0"], "width must be 1 to 16384 for this model, got 0"),
      (
        ["--image", Self.ofPicture.appending(path: "image.png").path],
        "WanPipeline has no use for the setting 'image'"
      ),
    ] {
      let outcome = try Tool.run(
        ["generate", "a", "--quiet", "--device", "cpu", "--model", Self.model.path] + arguments,
        in: scratch.folder)
      #expect(outcome.status == 64 && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
    #expect(try scratch.files() == [])
  }

  /// The video begins with the picture, and its settings draw it again.
  @Test func aPictureMoves() throws {
    let picture = Self.ofPicture.appending(path: "image.png").path
    let outcome = try generate(
      "--device", "cpu", "--steps", "2", "--image", picture, "--width", "32", "--height", "32", "--frames",
      "5", "--output", "out.png", model: Self.ofPicture)
    #expect(outcome.status == 0)
    #expect(
      outcome.errorLines == ["langevin: warning: the image of 48x32 is cropped and resized to 32x32"])
    #expect(try scratch.files() == (0..<5).map { "out-000\($0).png" })
    let again = try Tool.run(
      ["generate", "--from", "out-0000.png", "--quiet", "--image", picture, "--model", Self.ofPicture.path]
        + ["--output", "again.png"], in: scratch.folder)
    #expect(again.status == 0, "\(again.errors)")
    let (first, second) = (
      try Picture.read(scratch.url("out-0004.png")), try Picture.read(scratch.url("again-0004.png"))
    )
    #expect(first.picture == second.picture)

    let without = try generate(
      "--device", "cpu", "--steps", "2", "--output", "none.png", model: Self.ofPicture)
    #expect(without.status == 64)
    #expect(without.errorLines.count == 1)
    #expect(without.errors.contains("this model makes a video of an image: it needs one to begin with"))
  }

  /// WAN 2.2 has the same class; what it needs besides is named.
  @Test func otherModelsOfTheClassAreRefused() throws {
    let copy = scratch.url("model")
    try FileManager.default.copyItem(at: Self.model, to: copy)
    let file = copy.appending(path: "model_index.json")
    let index = try String(contentsOf: file, encoding: .utf8)
    try index.replacingOccurrences(of: "\"boundary_ratio\": null", with: "\"boundary_ratio\": 0.875")
      .write(to: file, atomically: true, encoding: .utf8)
    let outcome = try generate("--device", "cpu", model: copy)
    #expect(outcome.status == 1)
    #expect(outcome.errors.contains("WanPipeline: boundary_ratio = 0.875"), "\(outcome.errors)")
  }
}
