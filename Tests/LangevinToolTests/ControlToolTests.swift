import Foundation
import Langevin
import LangevinTestSupport
import Testing

/// `langevin canny`, and `generate` with control networks and image prompts, on the networks of
/// Tests/Golden/make_control.py.
struct ControlToolTests {
  private static let fixtures = Fixtures.url
  private static let control = fixtures.appendingPathComponent("control")

  private let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    for name in ["edges.png", "photo.png", "ip-adapter.safetensors", "image_encoder"] {
      try FileManager.default.copyItem(
        at: Self.control.appendingPathComponent(name), to: scratch.url(name))
    }
  }

  private func path(_ name: String) -> String { Self.fixtures.appendingPathComponent(name).path }

  private func generate(_ arguments: [String], device: String = "cpu") throws -> Tool.Outcome {
    try Tool.run(
      ["generate", "-m", path("tiny-sd"), "--device", device, "--quiet", "--steps", "2", "-s", "1"]
        + arguments,
      in: scratch.folder)
  }

  private func read(_ name: String) throws -> Picture.File { try Picture.read(scratch.url(name)) }

  // MARK: Canny

  @Test(arguments: ["noise", "smooth", "drawn", "steps", "row", "dot"])
  func edgesAreThoseOfOpenCV(name: String) throws {
    let folder = Self.fixtures.appendingPathComponent("canny")
    let picture = try Picture.read(folder.appendingPathComponent("\(name).png")).picture
    for (low, high) in [(100, 200), (50, 300), (0, 0)] {
      let golden = try Picture.read(folder.appendingPathComponent("\(name)-\(low)-\(high).png")).picture
      let edges = picture.edges(CannyThresholds(low: low, high: high))
      #expect(edges == golden, "\(name) \(low) \(high)")
      // The lesser is the low one.
      #expect(picture.edges(CannyThresholds(low: high, high: low)) == golden)
    }
    let golden = try Picture.read(folder.appendingPathComponent("\(name)-50-300.png")).picture
    let outcome = try Tool.run(
      [
        "canny", folder.appendingPathComponent("\(name).png").path, "a/out.png", "--low", "50", "--high",
        "300",
      ],
      in: scratch.folder)
    #expect(outcome.status == 0 && outcome.output == "a/out.png\n", "\(outcome.errors)")
    #expect(try read("a/out.png").picture == golden)
  }

  @Test func cannyRefusesWhatItCannotDo() throws {
    func refuse(_ arguments: [String], status: Int32, _ words: String) throws {
      let outcome = try Tool.run(["canny"] + arguments, in: scratch.folder)
      #expect(outcome.status == status && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
    let before = try scratch.files()
    try refuse(["none.png", "out.png"], status: 1, "none.png: no such file")
    try refuse(["ip-adapter.safetensors", "out.png"], status: 1, "not a PNG, JPEG or WebP file")
    try refuse(["photo.png", "out.gif"], status: 64, "must end in .png, .jpg or .webp")
    try refuse(["photo.png", "out.png", "--low", "-1"], status: 64, "--low must be 0 to 2040, got -1")
    try refuse(["photo.png", "out.png", "--low", "300"], status: 64, "--low must be at most --high")
    #expect(try scratch.files() == before)
  }

  // MARK: Following pictures

  private var followed: [String] {
    [
      "a face", "--control", path("control/controlnet-first"), "--control-image", "canny:photo.png",
      "--control-scale", "0.8", "--control", path("control/t2i-full"), "--control-image", "edges.png",
      "--control-scale", "0.5", "--image-prompt", "photo.png", "--ip-adapter", "ip-adapter.safetensors",
      "--ip-scale", "0.6", "-W", "16", "-H", "16",
    ]
  }

  @Test(arguments: ["cpu", "pocl"]) func aPictureSaysWhatItFollowsAndIsRepeated(device: String) throws {
    let device = try device == "pocl" ? Tool.pocl() : device
    let outcome = try generate(followed + ["-o", "out.png"], device: device)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(
      outcome.errorLines.contains {
        $0.hasSuffix("the control image of 20x16 is cropped and resized to 16x16")
      }, "\(outcome.errors)")
    let text = try #require(try read("out.png").texts["parameters"])
    for words in [
      "Control: controlnet-first, Control: t2i-full",
      #"Control image: "canny:photo.png", Control image: edges.png"#,
      "Control scale: 0.8, Control scale: 0.5", "IP-Adapter: ip-adapter.safetensors", "IP-Adapter scale: 0.6",
      "Image prompt: photo.png",
    ] {
      #expect(text.contains(words), "\(text)")
    }
    #expect(!text.contains("Image encoder:"))

    // The networks' folders have no name that says where they are.
    let refused = try generate(["--from", "out.png", "-o", "again.png"], device: device)
    #expect(refused.status == 1, "\(refused.errors)")
    #expect(
      refused.errors.contains(
        "it followed a picture by 'controlnet-first'; say where that is with --control"),
      "\(refused.errors)")
    let controls = ["controlnet-first", "t2i-full"].flatMap { ["--control", path("control/\($0)")] }
    let again = try generate(["--from", "out.png", "-o", "again.png"] + controls, device: device)
    #expect(again.status == 0, "\(again.errors)")
    #expect(try read("again.png").picture == read("out.png").picture)
    #expect(try read("again.png").texts == read("out.png").texts)

    // Each of them has an effect.
    for change in [["--control-scale", "0", "--control-scale", "0.5"], ["--ip-scale", "0"]] {
      let other = try generate(["--from", "out.png", "-o", "other.png"] + controls + change, device: device)
      #expect(other.status == 0, "\(other.errors)")
      #expect(try read("other.png").picture != read("out.png").picture)
    }
    // A picture that was changed is not the one that was followed.
    try read("edges.png").picture.edges().write(to: scratch.url("photo.png"))
    let changed = try generate(["--from", "out.png", "-o", "no.png"] + controls, device: device)
    #expect(changed.status == 1 && changed.errors.contains("'photo.png', which is not beside it unchanged"))
    #expect(!FileManager.default.fileExists(atPath: scratch.url("no.png").path))
  }

  /// Without a size a picture is as large as what it follows.
  @Test func theSizeIsTheControlPictures() throws {
    let outcome = try generate([
      "a face", "--control", path("control/controlnet-first"), "--control-image", path("control/wide.png"),
      "-o",
      "out.png", "--json",
    ])
    #expect(outcome.status == 0, "\(outcome.errors)")
    let picture = try read("out.png").picture
    #expect(picture.width == 24 && picture.height == 16)
    #expect(outcome.output.contains("\"controlnet-first\""))
  }

  @Test func whatCannotBeFollowedIsOneLine() throws {
    func refuse(_ arguments: [String], status: Int32, _ words: String) throws {
      let outcome = try generate(["a face", "-o", "out.png"] + arguments)
      #expect(outcome.status == status && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
    let first = path("control/controlnet-first")
    try refuse(["--control-image", "edges.png"], status: 64, "--control-image needs --control")
    try refuse(
      ["--control", first, "--control-image", "edges.png", "--control-image", "edges.png"], status: 64,
      "each --control needs one --control-image: there are 1 and 2")
    try refuse(
      ["--control", first, "--control-image", "edges.png", "--control-scale", "1", "--control-scale", "2"],
      status: 64, "--control-scale is given once for each --control or not at all")
    try refuse(
      ["--control", first, "--control-image", "edges.png", "--control-scale", "1000"], status: 64,
      "a picture's scale must be -100 to 100, got 1000")
    try refuse(["--control", first, "--control-image", "no.png"], status: 1, "no.png: no such file")
    try refuse(
      ["--control", first, "--control-image", "ip-adapter.safetensors"], status: 1,
      "not a PNG, JPEG or WebP file")
    try refuse(
      ["--control", path("control/controlnet-xl"), "--control-image", "edges.png"], status: 1,
      "this ControlNet was made for another base model: its cross_attention_dim is 24, the model needs 64")
    try refuse(
      ["--control", path("tiny-sd/unet"), "--control-image", "edges.png"], status: 1,
      "the control network UNet2DConditionModel is not supported")
    try refuse(["--image-prompt", "photo.png"], status: 64, "--image-prompt needs --ip-adapter")
    try refuse(["--ip-adapter", "ip-adapter.safetensors"], status: 64, "--ip-adapter needs --image-prompt")
    try refuse(["--ip-scale", "1"], status: 64, "--ip-scale needs --ip-adapter")
    try refuse(
      ["--image-prompt", "photo.png", "--ip-adapter", path("control/ip-adapter-xl.safetensors")], status: 1,
      "this IP-Adapter was made for another base model: its cross_attention_dim is 24, the model needs 64")
    try refuse(
      ["--image-prompt", "photo.png", "--ip-adapter", path("adapters/peft.safetensors")], status: 1,
      "is no IP-Adapter")
    #expect(!FileManager.default.fileExists(atPath: scratch.url("out.png").path))
  }
}
