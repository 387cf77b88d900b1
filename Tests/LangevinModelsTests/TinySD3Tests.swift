import Foundation
import LangevinModels
import LangevinTensor
import Testing

@testable import Langevin

/// Fixtures/tiny-sd3 from prompt to latents, as diffusers' pipelines do it; Tests/Golden/make_sd3.py makes it.
@Suite struct TinySD3Tests {
  static let folder = Fixture.root.appending(path: "tiny-sd3")

  @Test(arguments: Setting.all, ["text", "negative", "unguided", "wide", "image", "mask", "part"])
  func latentsAreTheReferences(setting: Setting, name: String) throws {
    let pipeline = try StableDiffusion3(
      Checkpoint.open(Self.folder), on: setting.device, precision: setting.dtype)
    let run = try JointRun.all(in: Self.folder, name)
    let result = try pipeline.generate(run.request(in: Self.folder))
    try JointRun.expect(result, name, in: Self.folder, setting)
    #expect(result.pictures.map(\.width) == [run.width ?? 16])
  }

  /// What diffusers puts in the place of the largest text encoder, where a folder has none.
  @Test(arguments: devices) func theLargestTextEncoderMayBeMissing(device: Device) throws {
    let run = try JointRun.all(in: Self.folder, "without")
    let left = try FolderCopy(of: Self.folder, without: ["text_encoder_3", "tokenizer_3"])
    let never = try FolderCopy(of: Self.folder, without: ["text_encoder_3", "tokenizer_3"]) { index in
      index.replacing(/"(text_encoder_3|tokenizer_3)": \[[^\]]*\]/) { "\"\($0.1)\": [null, null]" }
    }
    for copy in [left, never] {
      let pipeline = try StableDiffusion3(Checkpoint.open(copy.url), on: device)
      var lines: [String] = []
      let result = try pipeline.generate(run.request(in: Self.folder)) {
        if case .warning(let line) = $0 { lines.append(line) }
      }
      try JointRun.expect(
        result, "without", in: Self.folder, Setting(device: device, dtype: .float32))
      #expect(lines.count == 1 && lines[0].contains("no text_encoder_3"), "\(lines)")
    }
  }

  @Test func picturesOfABatchAreWhatTheyAreAlone() throws {
    let pipeline = try StableDiffusion3(Checkpoint.open(Self.folder), on: devices[0])
    var request = GenerationRequest(prompts: ["a face", "a red heart"])
    (request.negativePrompt, request.steps, request.seed) = ("blurry", 2, 4)
    let alone = try pipeline.generate(request).latents
    request.batch = 2
    // Both prompts in one batch.
    let together = try pipeline.generate(request).latents
    #expect(relativeError(together.values, alone.values) < 1e-5)
    #expect(alone.values.prefix(1024) != alone.values.suffix(1024))
  }

  @Test func defaultsAreTheReferences() throws {
    let pipeline = try StableDiffusion3(Checkpoint.open(Self.folder), on: devices[0])
    let resolved = try pipeline.resolved(GenerationRequest(prompt: "a fox"))
    let request = resolved.request
    #expect(request.width == 16 && request.height == 16 && request.steps == 28)
    #expect(request.guidance == 7 && request.sampler == .euler && resolved.warnings.isEmpty)
    // Shifted once where the training's least sigma was, and then all of them.
    let levels = resolved.sampling.schedule.steps.map(\.from)
    #expect(levels[0].sigma == 1 && levels.count == 28 && abs(levels[27].sigma - 0.0089) < 1e-4)
  }

  /// As many steps as the reference takes of a picture.
  @Test func aShareOfStepsIsRoundedUp() throws {
    let pipeline = try StableDiffusion3(Checkpoint.open(Self.folder), on: devices[0])
    var request = GenerationRequest(prompt: "a cat")
    request.image = try Picture.read(Self.folder.appending(path: "image.png")).picture
    for (steps, strength, count) in [(9, 0.6, 6), (10, 0.6, 6), (5, 0.5, 3), (4, 1, 4), (10, 0.01, 1)] {
      (request.steps, request.strength) = (steps, strength)
      #expect(try pipeline.resolved(request).sampling.schedule.steps.count == count, "\(steps) \(strength)")
    }
  }

  /// CLIP's encoders cut alike, and say so once; T5 reads on.
  @Test func whatIsCutOffIsSaidOnce() throws {
    let pipeline = try StableDiffusion3(Checkpoint.open(Self.folder), on: devices[0])
    func cut(_ word: String, _ count: Int) throws -> [String] {
      var request = GenerationRequest(prompt: Array(repeating: word, count: count).joined(separator: " "))
      (request.steps, request.guidance) = (1, 1)
      var rests: [String] = []
      _ = try pipeline.generate(request) { if case .truncated(_, let rest) = $0 { rests.append(rest) } }
      return rests
    }
    #expect(try cut("a", 20).isEmpty)
    #expect(try cut("a", 80).count == 1)
    #expect(try cut("face", 300).count == 2)
  }

  @Test func badFoldersAreNamed() throws {
    let cases: [([String], (String) -> String, String)] = [
      (["tokenizer_3"], { $0 }, "the component tokenizer_3 is missing"),
      (["text_encoder_3"], { $0 }, "the component text_encoder_3 is missing"),
      (["text_encoder_2"], { $0 }, "the component text_encoder_2 is missing"),
      (["transformer"], { $0 }, "the component transformer is missing"),
      (
        [], { $0.replacing("SD3Transformer2DModel", with: "FluxTransformer2DModel") },
        "transformer FluxTransformer2DModel"
      ),
    ]
    for (parts, edit, words) in cases {
      let copy = try FolderCopy(of: Self.folder, without: parts, edit: edit)
      #expect {
        try StableDiffusion3(Checkpoint.open(copy.url), on: devices[0])
      } throws: { "\($0)".contains(words) }
    }
  }

  /// Parts that do not fit each other are named by the key that says so.
  @Test(arguments: [
    ("transformer", #""in_channels": 16"#, #""in_channels": 8"#, "in_channels = 8"),
    (
      "transformer", #""pooled_projection_dim": 22"#, #""pooled_projection_dim": 20"#,
      "pooled_projection_dim = 20"
    ),
    ("transformer", #""joint_attention_dim": 24"#, #""joint_attention_dim": 32"#, "joint_attention_dim = 32"),
    ("transformer", #""qk_norm": "rms_norm""#, #""qk_norm": "l2""#, #"qk_norm = "l2""#),
    ("scheduler", #""invert_sigmas": false"#, #""invert_sigmas": true"#, "invert_sigmas"),
    (
      "scheduler", "FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler", #"prediction_type = epsilon"#
    ),
  ])
  func whatDoesNotFitIsNamed(part: String, old: String, new: String, words: String) throws {
    let copy = try FolderCopy(of: Self.folder, without: [part])
    try copy.add(part, replacing: old, with: new)
    #expect {
      let pipeline = try StableDiffusion3(Checkpoint.open(copy.url), on: devices[0])
      _ = try pipeline.resolved(GenerationRequest(prompt: "a fox"))
    } throws: { "\($0)".contains(words) }
  }

  @Test func settingsWithoutPlaceAreNamed() throws {
    let pipeline = try StableDiffusion3(Checkpoint.open(Self.folder), on: devices[0])
    func expect(_ words: String, _ change: (inout GenerationRequest) -> Void) {
      var request = GenerationRequest(prompt: "a fox")
      change(&request)
      #expect { try pipeline.resolved(request) } throws: { "\($0)".contains(words) }
    }
    expect("width and height must be at most 48 for this model, got 52x16") { $0.width = 52 }
    expect("width must be a multiple of 4") { $0.width = 18 }
    expect("no use for the setting 'prompt syntax'") { $0.promptSyntax = .a1111 }
    expect("no use for the setting 'eta'") { $0.eta = 1 }
    expect("pndm") { $0.sampler = .pndm }
  }

  @Test(arguments: devices) func memoryIsKnownBefore(device: Device) throws {
    try JointRun.expectPlan(of: Self.folder, on: device)
  }

  @Test(arguments: Setting.all, ["transformer", "text_encoder_3", "vae.encode", "vae.decode"])
  func componentsAreTheReferences(setting: Setting, name: String) throws {
    try JointRun.expectComponent(name, of: Self.folder, setting)
  }
}
