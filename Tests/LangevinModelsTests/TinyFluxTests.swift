import Foundation
import LangevinModels
import LangevinTensor
import Testing

@testable import Langevin

/// Fixtures/tiny-flux and tiny-schnell from prompt to latents, as diffusers' pipelines do it; Tests/Golden/make_flux.py
/// makes them.
@Suite struct TinyFluxTests {
  static let dev = Fixture.root.appending(path: "tiny-flux")
  static let schnell = Fixture.root.appending(path: "tiny-schnell")
  /// Both were made for pictures of 256x256 with this autoencoder.
  static let side = 16

  private func request(_ run: JointRun, in folder: URL) throws -> GenerationRequest {
    var request = try run.request(in: folder)
    (request.width, request.height) = (run.width ?? Self.side, run.height ?? Self.side)
    return request
  }

  @Test(
    arguments: Setting.all,
    [
      "tiny-flux text", "tiny-flux wide", "tiny-flux image", "tiny-flux mask", "tiny-flux part",
      "tiny-schnell text", "tiny-schnell one",
    ])
  func latentsAreTheReferences(setting: Setting, run: String) throws {
    let words = run.split(separator: " ").map(String.init)
    let (folder, name) = (Fixture.root.appending(path: words[0]), words[1])
    let pipeline = try Flux(Checkpoint.open(folder), on: setting.device, precision: setting.dtype)
    let settings = try JointRun.all(in: folder, name)
    let result = try pipeline.generate(request(settings, in: folder))
    try JointRun.expect(result, name, in: folder, setting)
    #expect(result.pictures.map(\.width) == [settings.width ?? Self.side])
  }

  @Test func defaultsAreTheReferences() throws {
    let dev = try Flux(Checkpoint.open(Self.dev), on: devices[0])
    var small = GenerationRequest(prompt: "a fox")
    (small.width, small.height) = (16, 16)
    let resolved = try dev.resolved(small)
    let request = resolved.request
    #expect(request.steps == 28)
    #expect(request.guidance == 3.5 && request.sampler == .euler)
    // Only of the small size.
    #expect(resolved.warnings.count == 1 && resolved.warnings[0].hasPrefix("16x16 is far from the 256x256"))

    let schnell = try Flux(Checkpoint.open(Self.schnell), on: devices[0])
    let quick = try schnell.resolved(GenerationRequest(prompt: "a fox"))
    #expect(quick.request.width == 256 && quick.request.height == 256 && quick.request.steps == 4)
    #expect(quick.request.guidance == 1 && quick.warnings.isEmpty)
    #expect(quick.sampling.schedule.steps.map(\.from.sigma) == [1, 0.75, 0.5, 0.25])
  }

  /// A larger picture's steps are at more noise; `calculate_shift` of diffusers gives exp(0.5) at 4 tokens and exp(1.15)
  /// at 24.
  @Test func theShiftGrowsWithThePicture() throws {
    let pipeline = try Flux(Checkpoint.open(Self.dev), on: devices[0])
    func second(_ width: Int, _ height: Int) throws -> Double {
      var request = GenerationRequest(prompt: "a fox")
      (request.width, request.height, request.steps) = (width, height, 2)
      return try pipeline.resolved(request).sampling.schedule.steps[1].from.sigma
    }
    // Of one half, e / (e + 1).
    func shifted(_ mu: Double) -> Double { exp(mu) / (exp(mu) + 1) }
    #expect(abs(try second(8, 8) - shifted(0.5)) < 1e-6)
    #expect(abs(try second(24, 16) - shifted(1.15)) < 1e-6)
    #expect(abs(try second(16, 16) - shifted(0.5 + 0.65 * 12 / 20)) < 1e-6)
  }

  /// The scale is an input of the network; no second call is made for it.
  @Test func guidanceIsWhatTheNetworkIsTold() throws {
    func run(_ folder: URL, _ guidance: Double) throws -> (latents: [Float], warnings: [String]) {
      let pipeline = try Flux(Checkpoint.open(folder), on: devices[0])
      var request = GenerationRequest(prompt: "a fox")
      (request.steps, request.width, request.height) = (1, 8, 8)
      request.guidance = guidance
      var lines: [String] = []
      let result = try pipeline.generate(request) { if case .warning(let line) = $0 { lines.append(line) } }
      return (result.latents.values, lines.filter { $0.contains("guidance") })
    }
    let (one, four) = (try run(Self.dev, 1), try run(Self.dev, 4))
    #expect(one.latents != four.latents && one.warnings.isEmpty && four.warnings.isEmpty)
    let (plain, told) = (try run(Self.schnell, 1), try run(Self.schnell, 4))
    #expect(plain.latents == told.latents && plain.warnings.isEmpty)
    #expect(told.warnings == ["guidance has no effect: this model was distilled to do without it"])
  }

  @Test func picturesOfABatchAreWhatTheyAreAlone() throws {
    let pipeline = try Flux(Checkpoint.open(Self.dev), on: devices[0])
    var request = GenerationRequest(prompts: ["a face", "a red heart"])
    (request.width, request.height, request.steps, request.seed) = (16, 16, 2, 4)
    let alone = try pipeline.generate(request).latents
    request.batch = 2
    let together = try pipeline.generate(request).latents
    #expect(relativeError(together.values, alone.values) < 1e-5)
    #expect(alone.values.prefix(1024) != alone.values.suffix(1024))
  }

  @Test func badFoldersAreNamed() throws {
    for part in ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer", "vae"] {
      let copy = try FolderCopy(of: Self.dev, without: [part])
      #expect {
        try Flux(Checkpoint.open(copy.url), on: devices[0])
      } throws: { "\($0)".contains("the component \(part) is missing") }
    }
  }

  /// Parts that do not fit each other are named by the key that says so; FLUX's relatives have more channels.
  @Test(arguments: [
    ("transformer", #""in_channels": 64"#, #""in_channels": 384"#, "in_channels = 384"),
    (
      "transformer", #""pooled_projection_dim": 8"#, #""pooled_projection_dim": 12"#,
      "pooled_projection_dim = 12"
    ),
    ("transformer", #""joint_attention_dim": 24"#, #""joint_attention_dim": 32"#, "joint_attention_dim = 32"),
    ("scheduler", #""shift_terminal": null"#, #""shift_terminal": 0.1"#, "shift_terminal"),
    ("scheduler", #""max_image_seq_len": 24"#, #""max_image_seq_len": 4"#, "max_image_seq_len"),
    ("scheduler", #""time_shift_type": "exponential""#, #""time_shift_type": "cubic""#, "time_shift_type"),
  ])
  func whatDoesNotFitIsNamed(part: String, old: String, new: String, words: String) throws {
    let copy = try FolderCopy(of: Self.dev, without: [part])
    try copy.add(part, replacing: old, with: new)
    #expect {
      let pipeline = try Flux(Checkpoint.open(copy.url), on: devices[0])
      var request = GenerationRequest(prompt: "a fox")
      (request.width, request.height) = (16, 16)
      _ = try pipeline.resolved(request)
    } throws: { "\($0)".contains(words) }
  }

  @Test func settingsWithoutPlaceAreNamed() throws {
    let pipeline = try Flux(Checkpoint.open(Self.dev), on: devices[0])
    func expect(_ words: String, _ change: (inout GenerationRequest) -> Void) {
      var request = GenerationRequest(prompt: "a fox")
      change(&request)
      #expect { try pipeline.resolved(request) } throws: { "\($0)".contains(words) }
    }
    expect("no use for the setting 'negative prompt'") { $0.negativePrompt = "blurry" }
    expect("no use for the setting 'guidance rescale'") { $0.guidanceRescale = 0.5 }
    expect("width must be a multiple of 4") { $0.width = 18 }
  }

  @Test(arguments: devices) func memoryIsKnownBefore(device: Device) throws {
    try JointRun.expectPlan(of: Self.dev, on: device) { ($0.width, $0.height) = (16, 16) }
  }

  @Test(arguments: Setting.all) func theTransformerIsTheReferences(setting: Setting) throws {
    try JointRun.expectComponent("transformer", of: Self.dev, setting)
  }
}
