import Foundation
import Langevin
import LangevinDiffusion
import LangevinTensor
import Testing

/// Whole pipelines against diffusers', by Tests/Golden/make_pipelines.py: folder, tokenizer, scheduler_config.json,
/// torch's noise in the order of diffusers' draws, the encoder for image-to-image, guidance and each sampler.
@Suite struct PipelineTests {
  private struct Settings: Decodable {
    let prompt, negativePrompt: String
    let steps: Int
    let guidance, strength, eta: Double
    let seed: UInt64
  }

  private static let samplers: [SamplerChoice] = [.ddpm, .ddim, .euler, .eulerAncestral, .dpmpp2M]
  private let folder = Fixture.root.appending(path: "pipelines")

  @Test(arguments: Setting.all, ["text", "image"])
  func latentsOfEverySampler(setting: Setting, kind: String) throws {
    let settings = try JSONDecoder().decode(
      Settings.self, from: Data(contentsOf: folder.appending(path: "settings.json")))
    let golden = try SafetensorsFile(url: folder.appending(path: "latents.safetensors"))
    let checkpoint = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd"))
    let pipeline = try StableDiffusion(checkpoint, on: setting.device, precision: setting.dtype)
    var request = GenerationRequest(prompt: settings.prompt)
    request.negativePrompt = settings.negativePrompt
    request.guidance = settings.guidance
    request.steps = settings.steps
    request.seed = settings.seed
    request.noise = .torch
    if kind == "image" {
      request.image = try Picture.read(folder.appending(path: "image.png")).picture
      request.strength = settings.strength
    }
    // Rounding is multiplied by the guidance and carried through the steps.
    let tolerance: Float = setting.dtype == .float32 ? 1e-3 : 2e-2
    for sampler in PipelineTests.samplers {
      request.sampler = sampler
      request.eta = sampler == .ddim ? settings.eta : 0
      let latents = try pipeline.generate(request).latents
      let expected = try golden.load("\(kind).\(sampler.name)", on: setting.device)
      #expect(latents.shape == expected.shape)
      let error = relativeError(latents.values, try expected.floats())
      #expect(error < tolerance, "\(kind) \(sampler) differs by \(error)")
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(kind) \(sampler): \(error)")
      }
    }
  }
}
