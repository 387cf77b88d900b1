import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import LangevinTestSupport
import Testing

/// `langevin upscale` and `generate --upscale`, with a small random network of Tests/Golden/make_upscalers.py.
struct UpscaleTests {
  private static let fixtures = Fixtures.url

  private let scratch: Scratch

  /// The network as `small.safetensors`, and some pictures.
  init() throws {
    scratch = try Scratch()
    try FileManager.default.copyItem(
      at: Self.fixtures.appendingPathComponent("upscaler_compact_x4/weights.safetensors"),
      to: scratch.url("small.safetensors"))
    for name in ["rgb.png", "rgba.png", "photo_alpha.webp", "text_unicode.png"] {
      try FileManager.default.copyItem(
        at: Self.fixtures.appendingPathComponent("pictures/\(name)"), to: scratch.url(name))
    }
  }

  private func upscale(_ arguments: [String], device: String = "cpu") throws -> Tool.Outcome {
    try Tool.run(
      ["upscale"] + arguments + ["--model", "small.safetensors", "--device", device, "--quiet"],
      in: scratch.folder)
  }

  private func enlarged(_ name: String) throws -> PictureLayers {
    let upscaler = try Upscaler(UpscalerFile(scratch.url("small.safetensors")), on: Device(CPUBackend()))
    return try upscaler(PictureLayers.read(scratch.url(name)))
  }

  private func read(_ name: String) throws -> PictureLayers { try PictureLayers.read(scratch.url(name)) }

  // MARK: What it writes

  @Test(arguments: ["cpu", "pocl"]) func aPictureBecomesFourTimesAsLarge(device: String) throws {
    let outcome = try upscale(["rgb.png"], device: device == "pocl" ? Tool.pocl() : device)
    #expect(outcome.status == 0 && outcome.output == "rgb-4x.png\n", "\(outcome.errors)")
    let (got, expected) = (try read("rgb-4x.png"), try enlarged("rgb.png"))
    #expect(got.picture.width == expected.picture.width && got.picture.height == expected.picture.height)
    let pairs = zip(got.picture.pixels, expected.picture.pixels)
    #expect(pairs.allSatisfy { abs(Int($0) - Int($1)) <= 1 })
    #expect(got.alpha == nil)
    // A name that is taken is not replaced.
    #expect(try upscale(["rgb.png", "--scale", "4"]).output == "rgb-4x-1.png\n")
    #expect(try read("rgb-4x.png") == got)
  }

  @Test func aFolderHoldsSeveral() throws {
    let outcome = try upscale(["rgb.png", "rgba.png", "rgb.png", "--scale", "2", "--output", "a/large"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.output == "a/large/rgb-2x.png\na/large/rgba-2x.png\na/large/rgb-2x-1.png\n")
    let (small, large) = (try read("rgb.png").picture, try read("a/large/rgb-2x.png").picture)
    #expect(large.width == 2 * small.width && large.height == 2 * small.height)
    #expect(try read("a/large/rgb-2x-1.png").picture == large)
  }

  @Test(arguments: ["rgba.png", "photo_alpha.webp"]) func transparencyIsKept(name: String) throws {
    let expected = try enlarged(name)
    #expect(expected.alpha != nil)
    let outcome = try upscale([name, "--output", "out.png"])
    #expect(outcome.status == 0 && outcome.output == "out.png\n", "\(outcome.errors)")
    let got = try read("out.png")
    #expect(got.picture == expected.picture && got.alpha == expected.alpha)
  }

  /// The same network under ESRGAN's first names gives the same picture.
  @Test func earlierNamesAreUnderstood() throws {
    let url = scratch.url("new.safetensors")
    let source = Self.fixtures.appendingPathComponent("upscaler_rrdb_x4/weights.safetensors")
    try FileManager.default.copyItem(at: source, to: url)
    var edit = try SafetensorsEdit(url)
    let layers = [
      "conv_first": "0", "conv_body": "1.sub.2", "conv_up1": "3", "conv_up2": "6", "conv_hr": "8",
      "conv_last": "10",
    ]
    for (name, entry) in edit.header where name != "__metadata__" {
      edit.header[name] = nil
      let parts = name.split(separator: ".").map(String.init)
      let isTrunk = parts[0] == "body"
      let path =
        isTrunk ? "1.sub.\(parts[1]).\(parts[2].uppercased()).\(parts[3]).0" : layers[parts[0]] ?? ""
      edit.header["model.\(path).\(parts[parts.count - 1])"] = entry
    }
    let old = SafetensorsEdit(edit, at: scratch.url("old.safetensors"))
    try old.save()
    for name in ["new", "old"] {
      let outcome = try Tool.run(
        [
          "upscale", "rgb.png", "-m", "\(name).safetensors", "-o", "\(name).png", "--device", "cpu",
          "--quiet",
        ], in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
    }
    #expect(try read("old.png").picture == read("new.png").picture)
    // A layer without a name there is named.
    var more = old
    more.header["model.12.weight"] = more.header.removeValue(forKey: "model.10.bias")
    try more.save()
    try fail(
      ["upscale", "rgb.png", "-m", "old.safetensors", "--device", "cpu"], words: ["conv_last.bias is missing"]
    )
  }

  @Test func textsAreKept() throws {
    let texts = try read("text_unicode.png").texts
    #expect(!texts.isEmpty)
    let outcome = try upscale(["text_unicode.png", "-o", "out.png"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    let made = "Postprocess upscale by: 4, Postprocess upscaler: small"
    #expect(try read("out.png").texts == texts.merging(["postprocessing": made]) { $1 })
    _ = try upscale(["text_unicode.png", "-o", "out.webp"])
    #expect(try read("out.webp").texts == ["parameters": texts["parameters"]])
  }

  /// Small tiles agree with one piece: the network reaches five pixels, and a tile sees that far.
  @Test func tilesAreSaidToBeDone() throws {
    let whole = try upscale(["rgb.png", "-o", "whole.png"])
    let tiled = try Tool.run(
      [
        "upscale", "rgb.png", "-m", "small.safetensors", "--tile", "32", "-o", "tiled.png", "--device", "cpu",
      ],
      in: scratch.folder)
    #expect(whole.status == 0 && whole.errors.isEmpty && tiled.status == 0, "\(tiled.errors)")
    #expect(tiled.errors.contains("tile 1/"), "\(tiled.errors)")
    let pairs = zip(try read("whole.png").picture.pixels, try read("tiled.png").picture.pixels)
    #expect(pairs.allSatisfy { abs(Int($0) - Int($1)) <= 1 })
  }

  @Test func layersOfEveryFormatReadBack() throws {
    let picture = try Picture(width: 3, height: 2, pixels: (0..<18).map { UInt8($0 * 12) })
    let alpha = try Picture(
      width: 3, height: 2, pixels: [0, 60, 255, 128, 1, 254].flatMap { [UInt8](repeating: $0, count: 3) })
    let layers = PictureLayers(picture: picture, alpha: alpha, texts: ["parameters": "ä 笑", "Author": "A"])
    try layers.write(to: scratch.url("layers.png"))
    #expect(try read("layers.png") == layers)
    // Without its layers it is seen over white, as ever.
    let seen = try Picture.read(scratch.url("layers.png")).picture
    #expect(seen.pixels.prefix(3) == [255, 255, 255] && seen.pixels[6..<9] == picture.pixels[6..<9])
    try layers.write(to: scratch.url("layers.webp"))
    #expect(try read("layers.webp").alpha == alpha)
    try layers.write(to: scratch.url("layers.jpg"))
    let flat = try read("layers.jpg")
    #expect(flat.alpha == nil && flat.texts == ["parameters": "ä 笑"])
    #expect(flat.picture.pixels[0] > 230)
  }

  // MARK: While drawing

  @Test func generateEnlargesWhatItDraws() throws {
    let common = ["--seed", "3", "--steps", "2", "--device", "cpu"]
    let plain = try Tool.generate(common + ["-o", "plain.png"], in: scratch.folder)
    let large = try Tool.generate(
      common + ["-o", "large.png", "--upscale", "4", "--upscaler", "small.safetensors"], in: scratch.folder)
    #expect(plain.status == 0 && large.status == 0, "\(large.errors)")
    #expect(try read("large.png").picture == enlarged("plain.png").picture)
    let text = try #require(try read("large.png").texts["parameters"])
    let parameters = PictureParameters(parsing: text)
    #expect(parameters["Postprocess upscale by"] == "4" && parameters["Postprocess upscaler"] == "small")
    let small = try read("plain.png")
    #expect(parameters["Size"] == "\(small.picture.width)x\(small.picture.height)")
    // It is repeated with its upscaler, or not at all.
    let repeating = ["generate", "--from", "large.png", "-o", "again.png", "--quiet", "--device", "cpu"]
    let again = try Tool.run(repeating, in: scratch.folder)
    #expect(again.status == 0 && again.errors == "", "\(again.errors)")
    #expect(try read("again.png") == read("large.png"))
    let file = scratch.url("small.safetensors")
    try FileManager.default.moveItem(at: file, to: scratch.url("elsewhere.safetensors"))
    let missing = try Tool.run(repeating, in: scratch.folder)
    #expect(missing.status == 1 && missing.errors.contains("say where that is with --upscaler"))
  }

  // MARK: Bad input

  private func fail(_ arguments: [String], status: Int32 = 1, words: [String]) throws {
    let before = try scratch.files()
    let outcome = try Tool.run(arguments, in: scratch.folder)
    #expect(outcome.status == status && outcome.output.isEmpty, "\(arguments): \(outcome.errors)")
    #expect(
      outcome.errorLines.count == 1 && outcome.errors.hasPrefix("langevin: error: "), "\(outcome.errors)")
    for word in words { #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)") }
    #expect(try scratch.files() == before)
  }

  @Test(arguments: [
    (["upscale", "--model", "small.safetensors"], ["picture"]), (["upscale", "rgb.png"], ["--model"]),
    (["upscale", "rgb.png", "--tile", "0"], ["--tile must be at least 32, got 0"]),
    (["upscale", "rgb.png", "--tile", "-64"], ["--tile must be at least 32, got -64"]),
    (["upscale", "rgb.png", "--scale", "5"], ["--scale must be 1 to 4 with the upscaler 'small', got 5"]),
    (["upscale", "rgb.png", "--scale", "0"], ["--scale must be 1 to 4 with the upscaler 'small', got 0"]),
    (["upscale", "rgb.png", "-o", "a.gif"], [".png, .jpg or .webp", "a.gif"]),
    (["upscale", "rgb.png", "rgba.png", "-o", "a.png"], ["--output must be a folder for 2 pictures"]),
    (["upscale", "rgb.png", "--device", "nothing"], ["unknown device 'nothing'"]),
    (["generate", "a", "--upscale", "4"], ["--upscale needs --upscaler"]),
    (["generate", "a", "--upscaler", "small.safetensors"], ["--upscaler needs --upscale"]),
    (
      ["generate", "a", "--upscaler", "small.safetensors", "--upscale", "8"],
      ["--upscale must be 1 to 4 with the upscaler 'small', got 8"]
    ),
  ])
  func badUsageExitsWith64(arguments: [String], words: [String]) throws {
    let needsModel = arguments[0] == "upscale" && words != ["picture"] && words != ["--model"]
    try fail(arguments + (needsModel ? ["--model", "small.safetensors"] : []), status: 64, words: words)
  }

  @Test func badPicturesAreNamedBeforeAnythingIsWritten() throws {
    let model = ["--model", "small.safetensors", "--device", "cpu"]
    try fail(["upscale", "rgb.png", "none.png"] + model, words: ["none.png: no such file"])
    try fail(
      ["upscale", "rgb.png", "small.safetensors"] + model,
      words: ["small.safetensors: not a PNG, JPEG or WebP file"])
    try Data(contentsOf: scratch.url("rgb.png")).prefix(60).write(to: scratch.url("broken.png"))
    try fail(["upscale", "rgb.png", "broken.png"] + model, words: ["broken.png: "])
    try fail(
      ["upscale", "rgb.png", "-o", "/proc/nonexistent/a.png"] + model, words: ["a.png: cannot be written"])
  }

  @Test func badWeightsAreNamed() throws {
    func fails(_ model: String, _ words: [String]) throws {
      try fail(["upscale", "rgb.png", "--model", model, "--device", "cpu"], words: words)
      try fail(
        ["generate", "a", "--upscale", "4", "--upscaler", model, "--steps", "1", "--device", "cpu"],
        words: words)
    }
    try fails("none.safetensors", ["none.safetensors: no such file"])
    let other = Self.fixtures.appendingPathComponent("vae_tiny/weights.safetensors").path
    try fails(other, ["its tensors are not those of an upscaler", "RRDBNet", "SRVGGNetCompact"])
    let whole = try Data(contentsOf: scratch.url("small.safetensors"))
    for length in [0, 4, 200, whole.count - 1] {
      try whole.prefix(length).write(to: scratch.url("cut.safetensors"))
      try fails("cut.safetensors", ["cut.safetensors: "])
    }
    try Data([0x50, 0x4B, 3, 4, 0, 0, 0, 0, 0, 0]).write(to: scratch.url("x4plus.pth"))
    try fails("x4plus.pth", ["x4plus.pth: is a Python pickle", "params_ema"])
    var edit = try SafetensorsEdit(scratch.url("small.safetensors"))
    edit.header["body.9.bias"] = edit.header.removeValue(forKey: "body.8.bias")
    try edit.save()
    try fails("small.safetensors", ["small.safetensors: tensor body.8.bias is missing"])
  }

  @Test func aFolderNeedsOneFile() throws {
    let folder = scratch.url("weights")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    func run(words: [String]) throws {
      try fail(["upscale", "rgb.png", "--model", "weights", "--device", "cpu"], words: words)
    }
    try run(words: ["weights/*.safetensors: no such file"])
    let file = scratch.url("small.safetensors")
    try FileManager.default.copyItem(at: file, to: folder.appendingPathComponent("a.safetensors"))
    let outcome = try Tool.run(
      ["upscale", "rgb.png", "--model", "weights", "--device", "cpu", "--quiet"], in: scratch.folder)
    #expect(outcome.status == 0 && outcome.output == "rgb-4x.png\n", "\(outcome.errors)")
    try FileManager.default.copyItem(at: file, to: folder.appendingPathComponent("b.safetensors"))
    try run(words: ["a folder of 2 .safetensors files", "a.safetensors, b.safetensors"])
  }
}
