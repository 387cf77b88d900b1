import Foundation
import Langevin
import LangevinModels
import LangevinTensor
import Testing

/// Fixtures/tiny-wan from prompt to video, as diffusers' WanPipeline does it.
@Suite struct TinyWanTests {
  private struct Run: Decodable {
    let prompt, negativePrompt: String
    let steps, width, height, frames: Int
    let guidance: Double
    let seed: UInt64
  }

  private static let folder = Fixture.root.appending(path: "tiny-wan")

  private static func request() throws -> GenerationRequest {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let run = try decoder.decode(
      Run.self, from: Data(contentsOf: folder.appending(path: "trajectory.json")))
    var request = GenerationRequest(prompt: run.prompt)
    request.negativePrompt = run.negativePrompt
    (request.guidance, request.steps, request.seed) = (run.guidance, run.steps, run.seed)
    (request.width, request.height, request.frames) = (run.width, run.height, run.frames)
    request.noise = .torch
    return request
  }

  @Test(arguments: Setting.all)
  func pipelineFromPromptToVideo(setting: Setting) throws {
    let io = try SafetensorsFile(url: Self.folder.appending(path: "io.safetensors"))
    let pipeline = try WanTextToVideo(
      Checkpoint.open(Self.folder), on: setting.device, precision: setting.dtype)
    let result = try pipeline.generate(Self.request())
    let isSingle = setting.dtype == .float32
    let expected = try io.load("expected_latents", on: setting.device)
    #expect(result.latents.shape == expected.shape)
    let error = relativeError(result.latents.values, try expected.floats())
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print("\(setting.testDescription) tiny-wan latents: \(error)")
    }
    // Rounding is multiplied by the guidance and carried through the steps.
    #expect(error < (isSingle ? 1e-3 : 2e-2), "latents differ by \(error)")

    let clip = result.clips[0]
    let video = try io.load("expected_video", on: setting.device).cast(to: .float32).transposed([
      0, 2, 3, 4, 1,
    ])
    #expect(clip.framesPerSecond == 16 && clip.frames.count == video.shape[1])
    let frames = try video.reshaped(Shape(Array(video.shape.dimensions.dropFirst())))
    for (index, frame) in clip.frames.enumerated() {
      let picture = try Picture(frames.rows(index..<index + 1))
      let levels = zip(frame.pixels, picture.pixels).map { abs(Int($0) - Int($1)) }
      #expect(try #require(levels.max()) <= (isSingle ? 1 : 5), "frame \(index)")
    }
  }

  /// A count of a request gives videos that are what each would be alone.
  @Test func videosOfOneRequestAreIndependent() throws {
    var request = try Self.request()
    (request.steps, request.noise, request.count) = (2, .philox, 2)
    let pipeline = try WanTextToVideo(Checkpoint.open(Self.folder), on: devices[0])
    let both = try pipeline.generate(request)
    (request.count, request.seed) = (1, request.seed + 1)
    let second = try pipeline.generate(request)
    #expect(both.clips[1] == second.clips[0] && both.clips[0] != both.clips[1])
  }

  /// Outside of every interval there is the prompt alone.
  @Test func guidanceKeepsToItsInterval() throws {
    let pipeline = try WanTextToVideo(Checkpoint.open(Self.folder), on: devices[0])
    var request = try Self.request()
    request.steps = 2
    let guided = try pipeline.generate(request).latents
    request.guidanceInterval = 1e9...1e10
    let outside = try pipeline.generate(request).latents
    (request.guidance, request.guidanceInterval) = (1, nil)
    var lines: [String] = []
    let plain = try pipeline.generate(request) { if case .warning(let line) = $0 { lines.append(line) } }
    #expect(outside == plain.latents && outside != guided)
    #expect(lines == ["the negative prompt has no effect without guidance (above 1)"])
  }

  @Test func whatIsRoundedIsNoted() throws {
    var request = try Self.request()
    (request.width, request.height, request.frames, request.steps) = (63, 17, 8, 1)
    let pipeline = try WanTextToVideo(Checkpoint.open(Self.folder), on: devices[0])
    var lines: [String] = []
    let result = try pipeline.generate(request) { if case .warning(let line) = $0 { lines.append(line) } }
    #expect(
      lines == [
        "width 63 became 48: this model needs a multiple of 16",
        "height 17 became 16: this model needs a multiple of 16",
        "frames 8 became 5: this model needs one more than a multiple of 4",
      ])
    #expect(result.clips[0].frames.count == 5)
    #expect(result.clips[0].picture.width == 48 && result.clips[0].picture.height == 16)
    // Resolving again changes nothing.
    let again = try pipeline.resolved(pipeline.resolved(request).request)
    #expect(again.warnings.isEmpty && again.request.width == 48 && again.request.frames == 5)
  }

  @Test func defaultsAreWANs() throws {
    let pipeline = try WanTextToVideo(Checkpoint.open(Self.folder), on: devices[0])
    let resolved = try pipeline.resolved(GenerationRequest(prompt: "a fox"))
    let request = resolved.request
    #expect(request.width == 832 && request.height == 480 && request.frames == 81)
    #expect(request.steps == 50 && request.guidance == 5 && request.sampler == .uniPC)
    #expect(request.framesPerSecond == 16 && resolved.warnings.isEmpty)
  }
}
