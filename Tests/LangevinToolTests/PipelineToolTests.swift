import Foundation
import Langevin
import LangevinTestSupport
import Testing

/// What the tool says of pipelines other than Stable Diffusion, and of prompts and components.
struct PipelineToolTests {
  let scratch: Scratch
  private let fixtures = Fixtures.url

  init() throws { scratch = try Scratch() }

  private func fail(_ arguments: [String], status: Int32 = 1, words: [String]) throws {
    let before = try scratch.files()
    let outcome = try Tool.run(
      ["generate"] + arguments + ["--device", "cpu", "--quiet", "--output", "p.png"], in: scratch.folder)
    #expect(outcome.status == status && outcome.errorLines.count == 1, "\(outcome.errors)")
    for word in words { #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)") }
    #expect(try scratch.files() == before)
  }

  @Test func anUnsupportedPipelineIsNamedWithThoseThatAre() throws {
    let model = try scratch.model()
    let index = model.appendingPathComponent("model_index.json")
    let text = try String(contentsOf: index, encoding: .utf8)
    try text.replacingOccurrences(of: "StableDiffusionPipeline", with: "FluxFillPipeline")
      .write(to: index, atomically: true, encoding: .utf8)
    try fail(
      ["a cat", "--model", model.path],
      words: ["FluxFillPipeline is not supported"] + Pipelines.all.compactMap { $0.classes.first })
  }

  @Test(arguments: ["vae", "unet", "tokenizer"])
  func aMissingComponentIsNamed(name: String) throws {
    let model = try scratch.model()
    try FileManager.default.removeItem(at: model.appendingPathComponent(name))
    try fail(["a cat", "--model", model.path], words: ["the component \(name) is missing"])
  }

  @Test func aSettingWithoutUseIsNamed() throws {
    let model = fixtures.appending(path: "tiny-ddpm").path
    try fail(
      ["--model", model, "--negative", "red"], status: 64,
      words: ["DDPMPipeline", "'negative prompt'", "steps"])
    try fail(["--model", model, "--guidance", "3"], status: 64, words: ["DDPMPipeline", "'guidance'"])
    try fail(["a cat", "--model", model], status: 64, words: ["DDPMPipeline", "'prompt'"])
  }

  @Test func withoutAPromptThereIsNoPicture() throws {
    try fail([], status: 64, words: ["there is no prompt", "StableDiffusionPipeline"])
    let file = scratch.url("prompts.txt")
    try Data("# nothing\n\n  \n".utf8).write(to: file)
    try fail(["--prompt-file", file.path], words: ["prompts.txt", "no prompt"])
    try fail(["--prompt-file", "/nonexistent.txt"], words: ["/nonexistent.txt: no such file"])
  }

  @Test(arguments: [[], ["red apple", "--steps", "0"], ["red apple", "--frames", "5"]])
  func noDeviceIsTriedForWhatCannotBeDrawn(arguments: [String]) throws {
    let outcome = try Tool.run(["generate"] + arguments, in: scratch.folder)
    #expect(outcome.status == 64 && outcome.errorLines.count == 1, "\(outcome.errors)")
  }

  @Test func anUnconditionalModelDraws() throws {
    let outcome = try Tool.run(
      [
        "generate", "--model", fixtures.appending(path: "tiny-ddpm").path, "--device", "cpu", "--quiet",
        "--steps", "4", "--seed", "3", "--output", "p.png",
      ], in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    let written = try Picture.read(scratch.url("p.png"))
    #expect(written.picture.width == 16)
    let parameters = PictureParameters(parsing: try #require(written.texts["parameters"]))
    #expect(parameters["Sampler"] == "DDPM" && parameters["CFG scale"] == nil)
  }

  /// Picture k has seed + k, counted over all prompts, whether they come from the command line or from a file.
  @Test func severalPromptsGivePicturesOfEach() throws {
    let file = scratch.url("prompts.txt")
    try Data("red heart\n# a comment\ncat\n".utf8).write(to: file)
    let common = ["--device", "cpu", "--quiet", "--steps", "2"]
    func run(_ arguments: [String]) throws {
      let outcome = try Tool.run(["generate"] + arguments + common, in: scratch.folder)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    }
    func picture(_ name: String) throws -> Picture.File {
      try Picture.read(scratch.url(name))
    }
    try run([
      "grinning face", "--prompt-file", file.path, "--count", "2", "--seed", "10", "--output", "a.png",
    ])
    let single = [("grinning face", 0), ("grinning face", 1), ("red heart", 2), ("red heart", 3), ("cat", 5)]
    for (prompt, index) in single {
      try run([prompt, "--seed", "\(10 + index)", "--output", "s.png"])
      let (one, many) = (try picture("s.png"), try picture("a-\(index).png"))
      #expect(one.picture == many.picture && one.texts == many.texts)
      #expect(many.texts["parameters"]?.hasPrefix(prompt) == true)
    }
    #expect(try picture("a-0.png").picture != picture("a-2.png").picture)
  }

  /// The same request, whether everything is decoded at the end or not.
  @Test func lowMemoryChangesNoPicture() throws {
    let common = ["--device", "cpu", "--steps", "2", "--seed", "1", "--count", "3"]
    for (name, more) in [("a", [String]()), ("b", ["--low-memory"])] {
      let outcome = try Tool.generate(common + ["--output", "\(name).png"] + more, in: scratch.folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
    }
    for index in 0..<3 {
      let (a, b) = (scratch.url("a-\(index).png"), scratch.url("b-\(index).png"))
      #expect(try Picture.read(a).picture == Picture.read(b).picture)
    }
  }

  @Test func aPlanGeneratesNothing() throws {
    for device in ["cpu", try Tool.pocl()] {
      let outcome = try Tool.generate(["--device", device, "--plan"], in: scratch.folder)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      for word in ["text encoder", "unet", "autoencoder", "peak", "MiB", "offers"] {
        #expect(outcome.output.contains(word), "no '\(word)' in: \(outcome.output)")
      }
      #expect(try scratch.files().isEmpty)
    }
  }

  /// A folder of Stable Diffusion 3 is one as any other; what it can do without is said to be missing.
  @Test func stableDiffusion3Draws() throws {
    let model = scratch.url("model")
    try FileManager.default.copyItem(at: fixtures.appending(path: "tiny-sd3"), to: model)
    for name in ["text_encoder_3", "tokenizer_3"] {
      try FileManager.default.removeItem(at: model.appending(path: name))
    }
    for name in ["tokenizer", "tokenizer_2"] {
      let file = model.appending(path: "\(name)/tokenizer.json")
      try FileManager.default.removeItem(at: file)
      try FileManager.default.copyItem(
        at: fixtures.appending(path: "tiny-sd/tokenizer/tokenizer.json"), to: file)
    }
    let common = ["generate", "a red heart", "--model", model.path, "--device", "cpu", "--quiet"]
    let outcome = try Tool.run(
      common + ["--steps", "3", "--seed", "1", "--output", "p.png"], in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.contains("warning: the folder has no text_encoder_3"), "\(outcome.errors)")
    let written = try Picture.read(scratch.url("p.png"))
    #expect(written.picture.width == 16 && Set(written.picture.pixels).count > 16)
    #expect(written.texts["parameters"]?.contains("Sampler: Euler, CFG scale: 7") == true)
    let plan = try Tool.run(common + ["--plan"], in: scratch.folder)
    #expect(plan.status == 0 && plan.output.contains("text encoder 2") && plan.output.contains("transformer"))
    #expect(!plan.output.contains("text encoder 3"))
  }

  @Test func previewsLieInTheirFolder() throws {
    let outcome = try Tool.generate(
      [
        "--device", "cpu", "--steps", "5", "--preview", "every:2", "--preview-folder", "seen", "--output",
        "p.png",
      ], in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    let names = try FileManager.default.contentsOfDirectory(atPath: scratch.url("seen").path).sorted()
    #expect(names == ["p-step-0002.png", "p-step-0004.png"])
    #expect(try Picture.read(scratch.url("seen/p-step-0004.png")).picture.width == 64)
    try fail(["a cat", "--preview-folder", "x"], status: 64, words: ["--preview-folder needs --preview"])
  }

  @Test func aSecondPassIsChecked() throws {
    for (arguments, words) in [
      (["--hires", "1"], "hires must be above 1 and at most 8, got 1"), (["--hires", "x"], "--hires"),
      (["--hires-strength", "0.5"], "--hires-strength needs --hires"),
      (["--hires-by", "latent"], "--hires-by needs --hires"),
      (["--hires", "2", "--hires-strength", "2"], "hires strength must be above 0 and at most 1, got 2"),
      (["--hires", "2", "--hires-by", "latents"], "must be latent, pixels or a file"),
    ] {
      try fail(["a cat"] + arguments, status: 64, words: [words])
    }
  }

  @Test func aComponentRunsOnAFile() throws {
    let model = fixtures.appending(path: "tiny-xl")
    let inputs = model.appending(path: "components/text_encoder_2.inputs.safetensors").path
    let common = [
      "--model", model.path, "--inputs", inputs, "--device", "cpu", "--output", "out.safetensors",
    ]
    let outcome = try Tool.run(["run", "text_encoder_2"] + common, in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    #expect(outcome.output.contains("text_embeds [2, 24]"))
    let file = try SafetensorsFile(url: scratch.url("out.safetensors"))
    #expect(Set(file.names) == ["text_embeds", "last_hidden_state", "hidden_states.-2"])
    let timed = try Tool.run(
      ["run", "text_encoder_2", "--json", "--repeat", "3", "--no-fallback"] + common, in: scratch.folder)
    let report = try JSONSerialization.jsonObject(with: Data(timed.output.utf8)) as? [String: Any]
    let seconds = report?["seconds"] as? [String: Any]
    #expect((seconds?["calls"] as? [Double])?.filter { $0 > 0 }.count == 3, "\(timed.output)")
    #expect((report?["outputs"] as? [String: [Int]])?["text_embeds"] == [2, 24], "\(timed.output)")
    for (component, words) in [
      ("prior", "the component prior is missing"), ("unet", "no tensor 'sample'"), ("vae", "vae.encode"),
    ] {
      let failure = try Tool.run(["run", component] + common, in: scratch.folder)
      #expect(failure.status == 1 && failure.errorLines.count == 1 && failure.output.isEmpty)
      #expect(failure.errors.contains(words), "\(failure.errors)")
    }
  }

  /// Weights change the picture; plain, the same text is only text.
  @Test func promptSyntaxIsOptional() throws {
    func picture(_ prompt: String, _ arguments: [String]) throws -> Picture {
      let outcome = try Tool.run(
        [
          "generate", prompt, "--device", "cpu", "--quiet", "--steps", "2", "--seed", "1", "--output",
          "p.png",
        ]
          + arguments, in: scratch.folder)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      return try Picture.read(scratch.url("p.png")).picture
    }
    let plain = try picture("red heart", [])
    #expect(try picture("red heart", ["--prompt-syntax", "a1111"]) == plain)
    #expect(try picture("red (heart:1.5)", ["--prompt-syntax", "a1111"]) != plain)
    #expect(
      try picture("red (heart:1.5)", []) != picture("red (heart:1.5)", ["--prompt-syntax", "a1111"]))
    // Nothing is cut off.
    let words = [String](repeating: "face", count: 90).joined(separator: " ")
    _ = try picture(words, ["--prompt-syntax", "a1111"])
  }
}
