import Foundation
import LangevinDiffusion
import LangevinTensor
import Testing

@testable import Langevin

/// Pictures in two passes, against diffusers' pipelines one after the other; what those made is made by
/// Tests/Golden/make_hires.py.
@Suite struct HighResolutionTests {
  private struct Run: Decodable {
    let model, sampler, prompt, negativePrompt, by: String
    let steps, width, height: Int
    let scale, strength, guidance: Double
    let seed: UInt64
  }

  private static let folder = Fixture.root.appending(path: "hires")

  private func open(_ model: String, _ setting: Setting) throws -> any Pipeline {
    try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: model)), on: setting.device, precision: setting.dtype)
  }

  private var plain: Setting { Setting(device: devices[0], dtype: .float32) }

  @Test(arguments: Setting.all) func latentsAgreeWithDiffusers(setting: Setting) throws {
    let runs = try JSONDecoder().decode(
      [String: Run].self, from: Data(contentsOf: Self.folder.appending(path: "runs.json")))
    let golden = try SafetensorsFile(url: Self.folder.appending(path: "latents.safetensors"))
    #expect(runs.count == 4)
    for (name, run) in runs.sorted(by: { $0.key < $1.key }) {
      var request = GenerationRequest(prompt: run.prompt)
      request.negativePrompt = run.negativePrompt
      (request.width, request.height, request.steps) = (run.width, run.height, run.steps)
      (request.guidance, request.seed, request.noise) = (run.guidance, run.seed, .torch)
      request.sampler = SamplerChoice(named: run.sampler)
      request.highResolution = HighResolution(
        scale: run.scale, strength: run.strength, enlarging: run.by == "latent" ? .latent : .pixels)
      let result = try open(run.model, setting).generate(request)
      let expected = try golden.load(name, on: setting.device)
      #expect(result.latents.shape == expected.shape)
      #expect(Double(result.pictures[0].width) == Double(run.width) * run.scale)
      let error = relativeError(result.latents.values, try expected.floats())
      // What goes through the autoencoder twice more, and through 8 bits, is rounded that often.
      let half: Float = run.by == "pixels" ? 5e-2 : 2e-2
      #expect(error < (setting.dtype == .float32 ? 2e-3 : half), "\(name) differs by \(error)")
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(name): \(error)")
      }
    }
  }

  /// A picture of a batch is what it is alone, and one of an upscaler has been enlarged by it.
  @Test func picturesOfABatchAreWhatTheyAreAlone() throws {
    let weights = Fixture.root.appending(path: "upscaler_compact_x4/weights.safetensors")
    let network = HighResolution.Enlarging.network(try UpscalerFile(weights))
    var seen: [[Float]] = []
    for enlarging in [.latent, .pixels, network] as [HighResolution.Enlarging] {
      var request = GenerationRequest(prompt: "a face")
      (request.width, request.height, request.steps, request.seed) = (24, 16, 4, 3)
      request.highResolution = HighResolution(scale: 1.5, strength: 0.5, enlarging: enlarging)
      (request.count, request.batch, request.previewEvery) = (2, 2, 1)
      var steps: [Int] = []
      let both = try open("tiny-sd", plain).generate(request) { event in
        if case .preview(let picture, _, 1) = event { steps.append(picture.width) }
      }
      // Previews are of both passes.
      #expect(steps == [12, 12, 12, 12, 18, 18])
      request.count = 1
      for seed in [3, 4] as [UInt64] {
        request.seed = seed
        let alone = try open("tiny-sd", plain).generate(request).latents.values
        let row = both.latents.values[
          (seed == 3 ? 0 : alone.count)..<(seed == 3 ? alone.count : 2 * alone.count)]
        #expect(relativeError(Array(row), alone) < 1e-5)
        #expect(!seen.contains(alone))
        seen.append(alone)
      }
    }
  }

  /// The larger size is planned, too, and a control picture is seen in both sizes.
  @Test func thePlanAndTheControlsKnowBothSizes() throws {
    let checkpoint = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd"))
    func peak(_ pass: HighResolution?) throws -> Int {
      var request = GenerationRequest(prompt: "a face")
      (request.steps, request.highResolution) = (3, pass)
      return try MemoryPlan(request, with: checkpoint, precision: .float32, on: devices[0]).peak
    }
    #expect(try peak(HighResolution(scale: 4, enlarging: .latent)) > 2 * peak(nil))
    #expect(try peak(HighResolution(scale: 2, strength: 0.34)) > peak(nil))
  }

  @Test func whatCannotBeIsRefused() throws {
    let pipeline = try open("tiny-sd", plain)
    let small = try Picture(width: 24, height: 16, pixels: [UInt8](repeating: 9, count: 24 * 16 * 3))
    let weights = Fixture.root.appending(path: "upscaler_compact_x4/weights.safetensors")
    let network = HighResolution.Enlarging.network(try UpscalerFile(weights))
    for (pass, words) in [
      (HighResolution(scale: 1), "hires must be above 1"), (HighResolution(scale: 9), "at most 8, got 9"),
      (HighResolution(scale: .nan), "hires must be"), (HighResolution(scale: 1.01), "must become larger"),
      (HighResolution(scale: 2, strength: 0), "hires strength must be above 0"),
      (HighResolution(scale: 2, strength: 1.5), "at most 1, got 1.5"),
      (HighResolution(scale: 2, strength: 0.01), "strength"),
      (HighResolution(scale: 5, enlarging: network), "more than the 4"),
    ] {
      var request = GenerationRequest(prompt: "a face")
      (request.width, request.height, request.steps, request.highResolution) = (24, 16, 4, pass)
      let error = #expect(throws: (any Error).self) { try pipeline.resolved(request) }
      #expect("\(error.map { "\($0)" } ?? "")".contains(words), "\(String(describing: error))")
    }
    var request = GenerationRequest(prompt: "a face")
    (request.image, request.mask, request.highResolution) = (small, small, HighResolution(scale: 2))
    #expect(throws: GenerationError.self) { try pipeline.resolved(request) }
    request = GenerationRequest(prompt: "")
    (request.prompts, request.highResolution) = ([], HighResolution(scale: 2))
    let error = #expect(throws: GenerationError.self) {
      try open("tiny-ddpm", plain).resolved(request)
    }
    #expect("\(error.map { "\($0)" } ?? "")".contains("no use for the setting 'hires'"))
  }
}
