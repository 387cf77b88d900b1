import Foundation
import Langevin
import LangevinTestSupport
import Testing

/// A picture can be made again from what it carries, whatever options made it.
@Suite struct RepeatTests {
  private static let fixtures = Fixtures.url

  /// How an option is tried.
  private enum Trial {
    /// These arguments, after those of `base`, give another picture.
    case changes([String])
    /// The same of another model, whose pictures are of no prompt or of this one.
    case changesOf(String, [String], prompt: Bool = true)
    /// It does not change a picture, or `specials` tries it.
    case none(String)
  }

  /// Every option of `generate`. One that is missing here fails the first test.
  private static let trials: [String: Trial] = [
    "prompts": .none("each of the others has one"),
    "prompt-file": .changes(["--prompt-file", "prompts.txt"]),
    "model": .none("a special"),
    "negative": .changes(["--negative", "round, \"yellow\": a\nb"]),
    "prompt-syntax": .changes(["--prompt-syntax", "a1111"]),
    "guidance": .changes(["--guidance", "1.75"]),
    "steps": .changes(["--steps", "4"]),
    "sampler": .changes(["--sampler", "dpmpp-2m-sde"]),
    "spacing": .changes(["--spacing", "karras"]),
    "sigmas": .changes(["--sigmas", "9.25,4,0.75"]),
    "guidance-rescale": .changes(["--guidance-rescale", "0.7"]),
    "guidance-interval": .changes(["--guidance-interval", "0.3,2.5"]),
    "eta": .changes(["--sampler", "ddim", "--eta", "0.5"]),
    "seed": .changes(["--seed", "18446744073709551615"]),
    "rng": .changes(["--rng", "torch-cuda"]),
    "width": .changes(["--width", "72"]),
    "height": .changes(["--height", "80"]),
    "count": .none("a special"), "batch": .none("each picture is what it would be alone"),
    "image": .changes(["--image", "in put.png", "--strength", "0.6"]),
    "strength": .changes(["--image", "in put.png", "--strength", "0.9"]),
    "image-fit": .changes([
      "--image", "in put.png", "--strength", "0.5", "--width", "96", "--image-fit", "pad",
    ]),
    "mask": .changes(["--image", "in put.png", "--mask", "half.png"]),
    "canvas": .changes(["--image", "in put.png", "--canvas", "80x72"]),
    "prior-steps": .changesOf("tiny-unclip", ["--prior-steps", "3"]),
    "prior-guidance": .changesOf("tiny-unclip", ["--prior-steps", "2", "--prior-guidance", "7"]),
    "super-resolution-steps": .changesOf(
      "tiny-unclip", ["--prior-steps", "2", "--super-resolution-steps", "3"]),
    "noise-level": .changesOf("tiny-stable-unclip", ["--prior-steps", "2", "--noise-level", "3"]),
    "lora": .changesOf(
      "tiny-sd", ["--lora", "peft.safetensors:0.5", "--lora", "processors.safetensors:-1"]),
    "lora-dir": .none("a special"),
    "embedding": .changesOf(
      "tiny-sd", ["--embedding", "cat.safetensors", "--embedding", "my-style.safetensors:grinning"]),
    "image-prompt": .changesOf(
      "tiny-sd",
      ["--image-prompt", "in put.png", "--ip-adapter", "ip-adapter.safetensors", "--ip-scale", "0.5"]),
    "ip-adapter": .none("of --image-prompt"), "ip-scale": .none("with --image-prompt"),
    "control": .none("a folder without a name: ControlToolTests"),
    "control-image": .none("of --control"), "control-scale": .none("of --control"),
    "image-encoder": .none("a folder without a name, and beside the adapter it is found"),
    "frames": .changesOf("tiny-wan", ["--width", "32", "--height", "32", "--frames", "5"]),
    "fps": .none("PNG frames carry it, and have no rate"),
    "precision": .changes(["--precision", "f16"]),
    "encoding": .changes(["--encoding", "q8_0"]),
    "arithmetic": .changes(["--encoding", "q8_0", "--arithmetic", "int8"]),
    "unet": .changes(["--unet", "unet.gguf"]),
    "tile": .changes(["--tile", "8"]),
    "init-latents": .none("a special"),
    "init-latents-index": .none("of --init-latents"),
    "cache": .changes(["--cache", "deepcache:2"]),
    "hires": .changes(["--hires", "1.5"]),
    "hires-strength": .changes(["--hires", "2", "--hires-strength", "0.7"]),
    "hires-by": .changes(["--hires", "2", "--hires-by", "small.safetensors"]),
    "upscale": .changes(["--upscale", "2", "--upscaler", "small.safetensors"]),
    "upscaler": .none("of --upscale"),
    "prediction": .changes(["--prediction", "epsilon"]),
    "from": .none("what is tested"),
    "device": .none("said by the picture, for the user to choose"),
    "devices": .none("each picture is what its device draws alone: SeveralDevicesTests"),
    "device-memory": .none("only what is tiled follows, which --tile is about"),
    "no-fallback": .none("an error or nothing"), "low-memory": .none("only the order of the work"),
    "output": .none("where"), "save-latents": .none("beside"), "preview": .none("beside"),
    "preview-folder": .none("beside"), "plan": .none("no picture"), "list-prompts": .none("no picture"),
    "shard": .none("which pictures, not how: ShardTests"),
    "quiet": .none("words"), "json": .none("words"), "jsonl": .none("words"), "verbose": .none("words"),
    "version": .none("no picture"),
    "help": .none("no picture"),
  ]

  private static let base = [
    "--device", "cpu", "--steps", "3", "--seed", "11", "--sampler", "euler", "--guidance", "3",
  ]

  private let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    try Data("a (red:1.4) heart\n".utf8).write(to: scratch.url("prompts.txt"))
    for name in ["peft", "processors", "cat", "my-style"] {
      let file = "\(name).safetensors"
      try FileManager.default.copyItem(
        at: Self.fixtures.appending(path: "adapters/\(file)"), to: scratch.url(file))
    }
    for name in ["ip-adapter.safetensors", "image_encoder"] {
      try FileManager.default.copyItem(
        at: Self.fixtures.appending(path: "control/\(name)"), to: scratch.url(name))
    }
    try FileManager.default.copyItem(
      at: Self.fixtures.appending(path: "upscaler_compact_x4/weights.safetensors"),
      to: scratch.url("small.safetensors"))
    let pixels = (0..<64 * 64 * 3).map { UInt8(truncatingIfNeeded: $0 * 7 + $0 / 64) }
    try Picture(width: 64, height: 64, pixels: pixels).writePNG(to: scratch.url("in put.png"))
    let half = (0..<64 * 64 * 3).map { $0 / 3 % 64 < 32 ? UInt8(255) : 0 }
    try Picture(width: 64, height: 64, pixels: half).writePNG(to: scratch.url("half.png"))
  }

  private func generate(_ arguments: [String]) throws {
    let outcome = try Tool.run(["generate", "--quiet"] + arguments, in: scratch.folder)
    #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
  }

  private func picture(_ name: String) throws -> Picture { try Picture.read(scratch.url(name)).picture }

  private func expectRepeated(_ name: String, _ arguments: [String] = [], as copy: String = "again.png")
    throws
  {
    try generate(["--from", name, "--device", "cpu", "--output", "again.png"] + arguments)
    #expect(try picture(copy) == picture(name), "\(name)")
    let texts = try [name, copy].map { try Picture.read(scratch.url($0)).texts["parameters"] }
    #expect(texts[0] != nil && texts[0] == texts[1])
  }

  /// The names by which the parser knows `generate`'s options.
  private func optionNames() throws -> [String] {
    struct Dump: Decodable {
      struct Argument: Decodable {
        struct Name: Decodable { var kind, name: String }
        var valueName: String?
        var names: [Name]?
      }
      struct Command: Decodable { var arguments: [Argument] }
      var command: Command
    }
    let text = try Tool.run(["generate", "--experimental-dump-help"], in: scratch.folder).output
    return try JSONDecoder().decode(Dump.self, from: Data(text.utf8)).command.arguments.map { argument in
      let names = argument.names?.filter { $0.kind == "long" } ?? []
      return try #require(names.first?.name ?? argument.valueName)
    }
  }

  @Test func everyOptionIsTried() throws {
    let names = try optionNames()
    #expect(names.count > 35)
    for name in names { #expect(Self.trials[name] != nil, "no trial of --\(name)") }
  }

  @Test func everyOptionThatChangesThePictureIsRepeated() throws {
    let prompt = ["a (grinning:1.5) face"]
    let unet = try DefaultModel.url.appending(path: "unet/diffusion_pytorch_model.safetensors").path
    let converted = try Tool.run(
      ["convert", unet, "unet.gguf", "--encoding", "q4_0"], in: scratch.folder)
    #expect(converted.status == 0, "\(converted.errors)")
    try generate(prompt + Self.base + ["--output", "base.png"])
    try expectRepeated("base.png")
    let base = try picture("base.png")
    for (name, trial) in Self.trials.sorted(by: { $0.key < $1.key }) {
      switch trial {
      case .none: continue
      case .changes(let arguments):
        try generate(
          (name == "prompt-file" ? [] : prompt) + Self.base + arguments + ["--output", "\(name).png"])
        #expect(try picture("\(name).png") != base, "--\(name) changes nothing")
        try expectRepeated("\(name).png")
      case .changesOf(let model, let arguments, let hasPrompt):
        let model = ["--model", Self.fixtures.appending(path: model).path]
        let common = (hasPrompt ? prompt : []) + ["--device", "cpu", "--steps", "2", "--seed", "5"] + model
        let isVideo = name == "frames"
        let ending = isVideo ? "-0001.png" : ".png"
        try generate(common + arguments + ["--output", "\(name).png"])
        // The model is only known by its name.
        try expectRepeated("\(name)\(ending)", model, as: "again\(ending)")
      }
    }
  }

  /// Each from its own text, without the others.
  @Test func everyPictureOfABatchIsRepeated() throws {
    try generate(
      ["a face", "a heart"] + Self.base + [
        "--count", "2", "--output", "b.png", "--save-latents", "l.safetensors",
      ])
    let names = try scratch.files().filter { $0.hasPrefix("b-") }
    #expect(names.count == 4)
    for name in names { try expectRepeated(name) }
    try generate(
      ["a face", "a heart"] + Self.base + [
        "--count", "2", "--init-latents", "l.safetensors", "--output", "c.png",
      ])
    let others = try scratch.files().filter { $0.hasPrefix("c-") }
    #expect(others.count == 4)
    for name in others { try expectRepeated(name) }
  }

  @Test func anotherModelMustBeNamed() throws {
    let model = try scratch.model()
    try generate(["a face"] + Self.base + ["--model", model.path, "--output", "a.png"])
    let outcome = try Tool.run(["generate", "--from", "a.png"], in: scratch.folder)
    #expect(outcome.status == 1 && outcome.errors.contains("the model 'model'"), "\(outcome.errors)")
    try expectRepeated("a.png", ["--model", model.path])
  }

  @Test func theCommandLineComesFirst() throws {
    try generate(["a face"] + Self.base + ["--spacing", "karras", "--negative", "red", "--output", "a.png"])
    let changes: [[String]] = [
      ["a heart"], ["--steps", "2"], ["--seed", "1"], ["--sampler", "ddim"], ["--sigmas", "9,3,1"],
      ["--spacing", "beta"], ["--guidance", "2"], ["--negative", "blue"], ["--width", "72"],
      ["--rng", "torch"],
    ]
    var seen = [try picture("a.png")]
    for (index, change) in changes.enumerated() {
      try generate(["--from", "a.png", "--device", "cpu", "--output", "\(index).png"] + change)
      let changed = try picture("\(index).png")
      #expect(!seen.contains(changed), "\(change)")
      seen.append(changed)
    }
  }

  @Test func anInputThatIsAnotherIsNotTaken() throws {
    let common = ["a face"] + Self.base + ["--image", "in put.png", "--strength", "0.5"]
    try generate(common + ["--output", "a.png"])
    let grey = try Picture(width: 64, height: 64, pixels: [UInt8](repeating: 99, count: 64 * 64 * 3))
    try FileManager.default.moveItem(at: scratch.url("in put.png"), to: scratch.url("moved.png"))
    try grey.writePNG(to: scratch.url("in put.png"))
    let outcome = try Tool.run(["generate", "--from", "a.png"], in: scratch.folder)
    #expect(outcome.status == 1 && outcome.errors.contains("'in put.png'"), "\(outcome.errors)")
    try generate(["--from", "a.png", "--image", "moved.png", "--device", "cpu", "--output", "b.png"])
    #expect(try picture("a.png") == picture("b.png"))
  }

  @Test func aLoRAThatIsAnotherIsNotTaken() throws {
    let model = ["--model", Self.fixtures.appending(path: "tiny-sd").path, "--device", "cpu"]
    let common = ["a <s> face", "--steps", "2", "--seed", "5"] + model
    try generate(common + ["--output", "plain.png"])
    try generate(
      common + [
        "--lora", "peft.safetensors:0.5", "--embedding", "my-style.safetensors:<s>", "--output", "a.png",
      ])
    try expectRepeated("a.png", model)
    #expect(try picture("a.png") != picture("plain.png"))
    // The command line comes first.
    try generate(["--from", "a.png", "--lora", "peft.safetensors:2", "--output", "b.png"] + model)
    #expect(try picture("b.png") != picture("a.png"))

    let file = scratch.url("peft.safetensors")
    try FileManager.default.moveItem(at: file, to: scratch.url("moved.safetensors"))
    for _ in 0..<2 {
      let outcome = try Tool.run(["generate", "--from", "a.png"] + model, in: scratch.folder)
      #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(
        outcome.errors.contains("'peft.safetensors'") && outcome.errors.contains("--lora FILE:0.5"),
        "\(outcome.errors)")
      // Missing, then changed.
      try? FileManager.default.copyItem(at: scratch.url("processors.safetensors"), to: file)
    }
    try generate(["--from", "a.png", "--lora", "moved.safetensors:0.5", "--output", "c.png"] + model)
    #expect(try picture("a.png") == picture("c.png"))
  }

  /// Tags of the prompt are words of the picture's text, and none that the model sees.
  @Test func aLoRAThatThePromptNamesIsRepeated() throws {
    let model = ["--model", Self.fixtures.appending(path: "tiny-sd").path, "--device", "cpu"]
    let common = ["--steps", "2", "--seed", "5"] + model
    let folder = scratch.url("loras")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      at: scratch.url("peft.safetensors"), to: folder.appending(path: "ink.safetensors"))
    let prompt = "a face <lora:ink:0.5>"
    try generate([prompt, "--lora-dir", "loras", "--output", "loras/a.png"] + common)
    try generate(["a face ", "--lora", "peft.safetensors:0.5", "--output", "b.png"] + common)
    #expect(try picture("loras/a.png") == picture("b.png"))
    let text = try #require(try Picture.read(scratch.url("loras/a.png")).texts["parameters"])
    #expect(text.hasPrefix(prompt + "\n") && text.contains("Lora hashes: \"ink: "), "\(text)")
    try expectRepeated("loras/a.png", model)

    // Changed, and elsewhere.
    let file = folder.appending(path: "ink.safetensors")
    try FileManager.default.removeItem(at: file)
    try FileManager.default.copyItem(at: scratch.url("processors.safetensors"), to: file)
    let outcome = try Tool.run(["generate", "--from", "loras/a.png"] + model, in: scratch.folder)
    #expect(outcome.status == 1 && outcome.errors.contains("'ink'"), "\(outcome.errors)")
    #expect(outcome.errors.contains("--lora-dir"), "\(outcome.errors)")
    let other = try Tool.run(
      ["generate", "--from", "loras/a.png", "--lora-dir", "loras", "--output", "c.png"] + model,
      in: scratch.folder)
    #expect(other.status == 0 && other.errors.contains("is not the one of the picture"), "\(other.errors)")

    for (arguments, words) in [
      ([prompt], "--lora-dir"), (["a <lora:inc:1>", "--lora-dir", "loras"], "did you mean 'ink'?"),
      (["a <lora:ink:1>", "b <lora:ink:2>", "--lora-dir", "loras"], "the same LoRAs"),
      (["a <lora:ink:1:2>", "--lora-dir", "loras"], "<lora:NAME:SCALE>"),
    ] {
      let outcome = try Tool.run(["generate", "--output", "d.png"] + arguments + common, in: scratch.folder)
      #expect(outcome.status != 0 && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
    #expect(try !scratch.files().contains("d.png"))
  }

  @Test func picturesWithoutSettingsAreRefused() throws {
    try Data("no picture".utf8).write(to: scratch.url("x.png"))
    let damaged = try Picture.read(scratch.url("in put.png")).picture
    try damaged.writePNG(to: scratch.url("y.png"), texts: [("parameters", "a\nSteps: many, Sampler: Euler")])
    for (name, words) in [("in put.png", "no settings"), ("x.png", "x.png"), ("y.png", "Steps: many")] {
      let outcome = try Tool.run(["generate", "--from", name, "--device", "cpu"], in: scratch.folder)
      #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
  }

  /// The report has the same, and every setting by itself.
  @Test func theReportHasTheTextToo() throws {
    let outcome = try Tool.run(
      ["generate", "a face", "--quiet", "--json", "--spacing", "karras", "--output", "a.png"] + Self.base,
      in: scratch.folder)
    let report = try #require(
      try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
    let outputs = try #require(report["outputs"] as? [[String: Any]])
    #expect(outputs.count == 1)
    #expect(
      try outputs[0]["parameters"] as? String == Picture.read(scratch.url("a.png")).texts["parameters"])
    #expect((report["settings"] as? [String: Any])?["spacing"] as? String == "karras")
    #expect(report["version"] as? String != nil)
  }
}
