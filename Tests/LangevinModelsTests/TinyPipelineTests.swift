import Foundation
import Langevin
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// The networks of Fixtures/tiny-sd together: prompt to latent to picture, as StableDiffusionPipeline does it.
@Suite struct TinyPipelineTests {
  private struct Run: Decodable {
    let prompt, negativePrompt: String
    let steps: Int
    let guidance: Double
    let seed: UInt64
  }

  private let folder = Fixture.root.appending(path: "tiny-sd")

  @Test(arguments: Setting.all)
  func guidedTrajectory(setting: Setting) throws {
    let (device, dtype) = (setting.device, setting.dtype)
    let io = try SafetensorsFile(url: folder.appending(path: "io.safetensors"))
    let run = try trajectory
    // Rounding is multiplied by the guidance and carried through the steps.
    let tolerance: Float = dtype == .float32 ? 1e-3 : 2e-2
    func expect(_ result: Tensor, _ name: String) throws {
      let picture = try result.shape.rank == 4 ? result.transposed([0, 3, 1, 2]) : result
      let error = relativeError(try picture.floats(), try io.load(name, on: device).floats())
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(device.name) \(dtype) \(name): \(error)")
      }
      #expect(error < tolerance, "\(name) differs by \(error)")
    }

    let text = try CLIPTextModel(
      CLIPTextConfig(config("text_encoder")), weights("text_encoder/model", setting))
    let ids = try ["negative_prompt_ids", "prompt_ids"].map { try io.load($0, on: device).int32s() }
    let context = try text(ids).lastHiddenState
    try expect(context.rows(0..<1), "negative_prompt_embeds")
    try expect(context.rows(1..<2), "prompt_embeds")

    let unet = try UNet2DConditionModel(
      UNet2DConditionConfig(config("unet")), weights("unet/diffusion_pytorch_model", setting))
    var latent = try io.load("initial_latents", on: device).transposed([0, 2, 3, 1])
    let ratio = 1000 / run.steps
    for step in (0..<run.steps).reversed() {
      let t = step * ratio + 1
      let pair = try Tensor.concatenated([latent, latent], axis: 0).cast(to: dtype)
      let both = try unet(pair, timesteps: [Float(t), Float(t)], context: context).cast(to: .float32)
      let noise = try Tensor.combination([
        (Float(1 - run.guidance), both.rows(0..<1)), (Float(run.guidance), both.rows(1..<2)),
      ])
      latent = try ddim(latent, noise, from: alphas[t], to: alphas[max(t - ratio, 0)])
    }
    try expect(latent, "expected_latents")

    let vae = try AutoencoderKL(
      AutoencoderKLConfig(config("vae")), weights("vae/diffusion_pytorch_model", setting), withEncoder: false)
    let expected = try io.load("expected_latents", on: device).transposed([0, 2, 3, 1])
    try expect(vae.decode((expected / vae.config.scalingFactor).cast(to: dtype)), "expected_picture")
  }

  /// The same through the pipeline: folder, tokenizer, scheduler_config.json, torch's noise, sampler and picture.
  @Test(arguments: Setting.all)
  func pipelineFromPromptToPicture(setting: Setting) throws {
    let io = try SafetensorsFile(url: folder.appending(path: "io.safetensors"))
    let run = try trajectory
    var request = GenerationRequest(prompt: run.prompt)
    request.negativePrompt = run.negativePrompt
    request.guidance = run.guidance
    request.steps = run.steps
    request.seed = run.seed
    request.noise = .torch
    let pipeline = try StableDiffusion(
      Checkpoint.open(folder), on: setting.device, precision: setting.dtype)
    let result = try pipeline.generate(request)

    let isSingle = setting.dtype == .float32
    let expected = try io.load("expected_latents", on: setting.device)
    #expect(result.latents.shape == expected.shape)
    let error = relativeError(result.latents.values, try expected.floats())
    #expect(error < (isSingle ? 1e-3 : 2e-2), "latents differ by \(error)")
    let picture = try Picture(io.load("expected_picture", on: setting.device).transposed([0, 2, 3, 1]))
    let levels = zip(result.pictures[0].pixels, picture.pixels).map { abs(Int($0) - Int($1)) }
    // A rounding at the edge of a grey level; 2e-2 of the range from black to white.
    #expect(try #require(levels.max()) <= (isSingle ? 1 : 5))
  }

  /// arXiv:2010.02502, eq. 12, with eta 0.
  private func ddim(_ x: Tensor, _ noise: Tensor, from alpha: Double, to next: Double) throws -> Tensor {
    let scale = (next / alpha).squareRoot()
    return try Tensor.combination([
      (Float(scale), x), (Float((1 - next).squareRoot() - scale * (1 - alpha).squareRoot()), noise),
    ])
  }

  /// Of betas whose square roots are linear from 0.00085 to 0.012.
  private var alphas: [Double] {
    let (first, last) = (0.00085.squareRoot(), 0.012.squareRoot())
    var product = 1.0
    return (0..<1000).map { i in
      let root = first + (last - first) * Double(i) / 999
      product *= 1 - root * root
      return product
    }
  }

  private var trajectory: Run {
    get throws {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      return try decoder.decode(Run.self, from: data("trajectory.json"))
    }
  }

  private func data(_ path: String) throws -> Data { try Data(contentsOf: folder.appending(path: path)) }

  private func config(_ part: String) throws -> ConfigObject {
    try ConfigObject(json: data("\(part)/config.json"))
  }

  private func weights(_ path: String, _ setting: Setting) throws -> Weights {
    let file = try SafetensorsFile(url: folder.appending(path: path + ".safetensors"))
    return Weights(file, on: setting.device, as: setting.dtype)
  }
}
