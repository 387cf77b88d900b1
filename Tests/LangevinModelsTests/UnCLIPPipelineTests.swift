import Foundation
import LangevinTensor
import Testing

@testable import Langevin

/// Whole pipelines of unCLIP against diffusers, stage by stage and from the same torch noise; the folders and what the
/// reference made of them are made by Tests/Golden/make_unclip_pipelines.py.
@Suite struct UnCLIPPipelineTests {
  private struct Run: Decodable {
    let prompt, negativePrompt: String
    let priorSteps, steps, superResolutionSteps: Int
    let priorGuidance, guidance: Double
    let noiseLevel, frames: Int
    let seed: UInt64
  }

  private static let folder = Fixture.root.appending(path: "unclip-pipelines")
  private let run: Run
  private let io: SafetensorsFile

  init() throws {
    run = try JSONDecoder().decode(
      Run.self, from: Data(contentsOf: Self.folder.appending(path: "settings.json")))
    io = try SafetensorsFile(url: Self.folder.appending(path: "io.safetensors"))
  }

  // MARK: Karlo's layout
  // In float32: what float16 rounds in the network, 5e-4, guidance and the first steps make 5e-3 of in the reference
  // too, and a whole trajectory is then over 2e-2.

  @Test(
    arguments: [("text", true, true), ("text-prior-alone", false, true), ("text-unguided", false, false)],
    Setting.float32)
  func textToImage(case: (name: String, prior: Bool, decoder: Bool), setting: Setting) throws {
    var request = request(prompts: [run.prompt])
    request.priorSteps = run.priorSteps
    request.priorGuidance = `case`.prior ? run.priorGuidance : 1
    request.guidance = `case`.decoder ? run.guidance : 1
    try expectStages(
      UnCLIP(open("tiny-unclip"), on: setting.device, precision: setting.dtype), request, `case`.name, setting
    )
  }

  @Test(arguments: Setting.float32) func imageVariation(setting: Setting) throws {
    var request = request(prompts: [])
    request.images = [try picture("a")]
    try expectStages(
      UnCLIPImageVariation(open("tiny-unclip-variation"), on: setting.device, precision: setting.dtype),
      request, "variation", setting)
  }

  @Test(arguments: devices) func interpolation(device: Device) throws {
    let setting = Setting(device: device, dtype: .float32)
    var request = request(prompts: [])
    request.images = [try picture("a"), try picture("b")]
    request.count = run.frames
    let pipeline = try UnCLIPImageVariation(open("tiny-unclip-variation"), on: device)
    let plan = try pipeline.resolved(request)
    let stages = GenerationRun(plan.request, on: device) { _ in }
    #expect(stages.seeds == [UInt64](repeating: run.seed, count: run.frames))
    let conditioning = try pipeline.condition(plan, stages)
    let denoiser = try pipeline.denoiser(plan, conditioning, stages)
    let decoder = try pipeline.decoder(plan, conditioning, stages)
    for frame in 0..<run.frames {
      let name = "interpolation.\(frame)"
      try expect(conditioning.embeddings[frame], "\(name).embedding", setting)
      let small = try stages.sample(denoiser(frame..<frame + 1))
      try expect(small, "\(name).small", setting)
      try expect(decoder(small, frame), "\(name).picture", setting)
    }
  }

  /// From the command line's side: the folder says which pipeline, and every image has its own noise.
  @Test(arguments: devices) func batchOfTexts(device: Device) throws {
    var request = request(prompts: [run.prompt, "red heart"])
    request.priorSteps = run.priorSteps
    request.priorGuidance = run.priorGuidance
    request.seed = run.seed
    let pipeline = try Pipelines.open(open("tiny-unclip"), on: device)
    var sampled: [String] = []
    let result = try pipeline.generate(request) { event in
      if case .sampling(let name, let image, _) = event { sampled.append("\(name) \(image)") }
    }
    #expect(result.seeds == [run.seed, run.seed + 1])
    #expect(
      sampled == [
        "prior 0", "prior 1", "decoder 0", "super-resolution 0", "decoder 1", "super-resolution 1",
      ])
    let count = result.latents.shape.count / 2
    let expected = try io.load("text.small", on: device).floats()
    #expect(relativeError(Array(result.latents.values[0..<count]), expected) < 1e-3)
    #expect(relativeError(Array(result.latents.values[count...]), expected) > 0.1)
    let large = try io.load("text.picture", on: device).transposed([0, 2, 3, 1])
    let levels = try zip(result.pictures[0].pixels, Picture(large).pixels).map { abs(Int($0) - Int($1)) }
    #expect(try #require(levels.max()) <= 1)
  }

  /// Philox's numbers of an image's three trajectories differ, and repeat.
  @Test func philoxNoise() throws {
    var request = request(prompts: [run.prompt])
    request.noise = .philox
    let pipeline = try UnCLIP(open("tiny-unclip"), on: devices[0])
    let first = try pipeline.generate(request)
    #expect(try pipeline.generate(request).latents == first.latents)
    request.seed += 1
    #expect(try pipeline.generate(request).latents != first.latents)
  }

  // MARK: Stable unCLIP

  @Test(arguments: Setting.all) func stableTextToImage(setting: Setting) throws {
    var request = stableRequest(prompts: [run.prompt])
    request.priorSteps = run.priorSteps
    request.priorGuidance = run.priorGuidance
    let pipeline = try StableUnCLIP(
      open("tiny-stable-unclip"), on: setting.device, precision: setting.dtype)
    try expectLatents(pipeline.generate(request), "stable.latents", setting)
    let plan = try pipeline.resolved(request)
    let stages = GenerationRun(plan.request, on: setting.device) { _ in }
    let conditioning = LatentConditioning(inputs: [], start: .noise)
    let latent = try io.load("stable.latents", on: setting.device).transposed([0, 2, 3, 1])
    try expect(pipeline.decoder(plan, conditioning, stages)(latent, 0), "stable.picture", setting)
  }

  @Test(arguments: [("stable-image", true), ("stable-image-alone", false)], Setting.all)
  func stableImageVariation(case: (name: String, prompted: Bool), setting: Setting) throws {
    var request = stableRequest(prompts: `case`.prompted ? [run.prompt] : [])
    request.images = [try picture("a")]
    let pipeline = try StableUnCLIPImageVariation(
      open("tiny-stable-unclip-img2img"), on: setting.device, precision: setting.dtype)
    try expectLatents(pipeline.generate(request), "\(`case`.name).latents", setting)
  }

  /// More noise on the embedding changes the picture; one that the schedule does not have is refused.
  @Test func noiseLevels() throws {
    var request = stableRequest(prompts: [])
    request.images = [try picture("a")]
    request.noiseLevel = 999
    let pipeline = try StableUnCLIPImageVariation(open("tiny-stable-unclip-img2img"), on: devices[0])
    let expected = try io.load("stable-image-alone.latents", on: devices[0]).floats()
    #expect(try relativeError(pipeline.generate(request).latents.values, expected) > 0.01)
    request.noiseLevel = 1000
    let error = #expect(throws: GenerationError.self) { try pipeline.generate(request) }
    #expect(error?.description.contains("0 to 999") == true)
  }

  // MARK: Refusals

  @Test func refusals() throws {
    let variation = try UnCLIPImageVariation(open("tiny-unclip-variation"), on: devices[0])
    func refuse(_ message: String, _ change: (inout GenerationRequest) throws -> Void) rethrows {
      var request = GenerationRequest(prompts: [])
      try change(&request)
      let error = #expect(throws: GenerationError.self) { try variation.generate(request) }
      #expect(error?.description.contains(message) == true, "\(String(describing: error))")
    }
    let (a, b) = (try picture("a"), try picture("b"))
    refuse("there is none") { _ in }
    refuse("3 images") { $0.images = [a, b, a] }
    refuse("a count of at least 2") { $0.images = [a, b] }
    refuse("'prompt'") { ($0.images, $0.prompts) = ([a], ["a face"]) }
    refuse("'noise level'") { ($0.images, $0.noiseLevel) = ([a], 3) }
  }

  // MARK: Comparing

  private func open(_ name: String) throws -> Checkpoint {
    try Checkpoint.open(Fixture.root.appending(path: name))
  }

  private func picture(_ name: String) throws -> Picture {
    try Picture.read(Self.folder.appending(path: "\(name).png")).picture
  }

  private func request(prompts: [String]) -> GenerationRequest {
    var request = GenerationRequest(prompts: prompts)
    request.steps = run.steps
    request.superResolutionSteps = run.superResolutionSteps
    request.guidance = run.guidance
    request.seed = run.seed
    request.noise = .torch
    return request
  }

  private func stableRequest(prompts: [String]) -> GenerationRequest {
    var request = request(prompts: prompts)
    request.superResolutionSteps = nil
    request.negativePrompt = run.negativePrompt
    request.noiseLevel = run.noiseLevel
    return request
  }

  private func expectStages(
    _ pipeline: some UnCLIPPipeline, _ request: GenerationRequest, _ name: String, _ setting: Setting
  ) throws {
    let plan = try pipeline.resolved(request)
    let stages = GenerationRun(plan.request, on: setting.device) { _ in }
    let conditioning = try pipeline.condition(plan, stages)
    try expect(conditioning.embeddings[0], "\(name).embedding", setting)
    let small = try stages.sample(pipeline.denoiser(plan, conditioning, stages)(0..<1))
    try expect(small, "\(name).small", setting)
    try expect(pipeline.decoder(plan, conditioning, stages)(small, 0), "\(name).picture", setting)
  }

  private func expectLatents(_ result: GenerationResult, _ name: String, _ setting: Setting) throws {
    try expect(result.latents.tensor(on: setting.device), name, setting)
  }

  /// Rounding is multiplied by the guidance and carried through the steps of up to three trajectories.
  private func expect(_ result: Tensor, _ name: String, _ setting: Setting) throws {
    let expected = try io.load(name, on: setting.device)
    let got = expected.shape.rank == 4 ? try result.transposed([0, 3, 1, 2]) : result
    #expect(got.shape == expected.shape)
    let error = relativeError(try got.floats(), try expected.floats())
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print("\(setting.device.name) \(setting.dtype) \(name): \(error)")
    }
    let limit: Float = setting.dtype == .float32 ? 1e-3 : 2e-2
    #expect(error < limit, "\(name) differs by \(error) on \(setting.device.name)")
  }
}
