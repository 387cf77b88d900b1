import Foundation
import LangevinDiffusion
import LangevinModels
import LangevinTensor
import Testing

@testable import Langevin

/// Pictures of which a part is drawn anew, against diffusers' inpainting pipelines; the folders and what the reference
/// made of them are made by Tests/Golden/make_inpainting.py.
@Suite struct InpaintingTests {
  private struct Run: Decodable {
    let model, sampler, prompt, negativePrompt: String
    let steps: Int
    let strength, eta, guidance: Double
    let seed: UInt64
  }

  private static let folder = Fixture.root.appending(path: "inpainting")
  private let image: Picture
  private let mask: Picture

  init() throws {
    image = try Picture.read(Self.folder.appending(path: "image.png")).picture
    mask = try Picture.read(Self.folder.appending(path: "mask.png")).picture
  }

  private func open(_ model: String, _ setting: Setting) throws -> any Pipeline {
    try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: model)), on: setting.device, precision: setting.dtype)
  }

  /// With any checkpoint what is kept is put back after each step; an inpainting checkpoint sees it.
  @Test(arguments: Setting.all) func latentsAgreeWithDiffusers(setting: Setting) throws {
    let runs = try JSONDecoder().decode(
      [String: Run].self, from: Data(contentsOf: Self.folder.appending(path: "runs.json")))
    let golden = try SafetensorsFile(url: Self.folder.appending(path: "latents.safetensors"))
    #expect(Set(runs.values.map(\.model)) == ["tiny-sd", "tiny-inpainting", "tiny-xl"])
    for (name, run) in runs.sorted(by: { $0.key < $1.key }) {
      var request = GenerationRequest(prompt: run.prompt)
      request.negativePrompt = run.negativePrompt
      (request.image, request.mask, request.strength) = (image, mask, run.strength)
      (request.steps, request.guidance, request.eta) = (run.steps, run.guidance, run.eta)
      (request.seed, request.noise) = (run.seed, .torch)
      request.sampler = SamplerChoice(named: run.sampler)
      let latents = try open(run.model, setting).generate(request).latents
      let expected = try golden.load(name, on: setting.device)
      #expect(latents.shape == expected.shape)
      let error = relativeError(latents.values, try expected.floats())
      #expect(error < (setting.dtype == .float32 ? 2e-3 : 2e-2), "\(name) differs by \(error)")
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(name): \(error)")
      }
    }
  }

  /// Latents where the mask is black are those of the picture, whatever is drawn elsewhere.
  @Test func whatIsKeptIsThePictures() throws {
    let pipeline = try open("tiny-sd", Setting(device: devices[0], dtype: .float32))
    func latents(_ prompt: String, strength: Double?, seed: UInt64 = 3) throws -> [Float] {
      var request = GenerationRequest(prompt: prompt)
      (request.image, request.mask, request.strength) = (image, mask, strength)
      (request.steps, request.seed, request.sampler) = (4, seed, .euler)
      return try pipeline.generate(request).latents.values
    }
    let (a, b) = (try latents("a cat", strength: nil), try latents("a red heart", strength: 0.5))
    let drawn = try Mask(mask).tensor(scale: 2, on: devices[0]).floats()
    #expect(drawn.contains(0) && drawn.contains(1) && a.count == 4 * drawn.count)
    for (place, pair) in zip(a, b).enumerated() where drawn[place % drawn.count] == 0 {
      #expect(abs(pair.0 - pair.1) < 1e-6)
    }
    #expect(zip(a, b).contains { abs($0 - $1) > 0.05 })
  }

  /// A canvas is a mask around the picture, and is joined with a mask within it.
  @Test func aCanvasIsDrawnAroundThePicture() throws {
    var request = GenerationRequest(prompt: "a cat")
    (request.image, request.canvas) = (image, CanvasSize(width: 32, height: 24))
    let pipeline = try StableDiffusion(
      Checkpoint.open(Fixture.root.appending(path: "tiny-sd")), on: devices[0])
    for inner in [nil, mask] {
      request.mask = inner
      let resolved = try pipeline.resolved(request)
      guard case .repainting(let repainting) = resolved.start else {
        Issue.record("nothing is drawn anew")
        return
      }
      #expect(resolved.width == 32 && resolved.height == 24 && resolved.request.strength == 1)
      for y in 0..<24 {
        for x in 0..<32 {
          let inside = (4..<28).contains(x) && (4..<20).contains(y)
          let place = (y - 4) * 24 + x - 4
          let drawn = inside ? inner.map { Mask($0).isDrawn[place] } ?? false : true
          #expect(repainting.mask.isDrawn[y * 32 + x] == drawn)
          let (row, column) = (min(max(y - 4, 0), 15), min(max(x - 4, 0), 23))
          #expect(repainting.picture.pixels[3 * (y * 32 + x)] == image.pixels[3 * (row * 24 + column)])
        }
      }
    }
    request.steps = 2
    let picture = try pipeline.generate(request).pictures[0]
    #expect(picture.width == 32 && picture.height == 24)
  }

  @Test func whatFitsNoMaskIsRefused() throws {
    func refusal(_ model: String, _ change: (inout GenerationRequest) -> Void) throws -> String? {
      var request = GenerationRequest(prompt: "a cat")
      change(&request)
      let pipeline = try open(model, Setting(device: devices[0], dtype: .float32))
      return #expect(throws: GenerationError.self) { try pipeline.generate(request) }?.description
    }
    #expect(try refusal("tiny-sd") { $0.mask = mask } == "a mask needs an image of which a part is kept")
    #expect(
      try refusal("tiny-sd") { $0.canvas = CanvasSize(width: 32, height: 32) }
        == "a canvas needs an image to put on it")
    #expect(
      try refusal("tiny-sd") { ($0.image, $0.mask) = (image, image.resized(width: 24, height: 24)) }
        == "the mask is 24x24 and the image 24x16; they must be of one size")
    let needed = "this checkpoint is for inpainting: it needs an image and a mask of what is drawn anew"
    #expect(try refusal("tiny-inpainting") { _ in } == needed)
    #expect(try refusal("tiny-inpainting") { $0.image = image } == needed)
    #expect(try refusal("tiny-ddpm") { ($0.prompts, $0.mask) = ([], mask) }?.contains("'mask'") == true)
  }

  /// Other input channels are of no kind that is known; a mask without white is said to do nothing.
  @Test func otherInputsAreNamedAndIdleMasksToo() throws {
    let checkpoint = try Checkpoint.open(Fixture.root.appending(path: "tiny-inpainting"))
    let unet = try checkpoint.unet
    guard case .object(var members) = unet.config else { return }
    members.removeAll { $0.key == "in_channels" }
    members.append(.init("in_channels", .number("8")))
    let other = checkpoint.replacing(components: [
      "unet": Checkpoint.Component(unet.className, config: .object(members), weights: unet.weights)
    ])
    let error = #expect(throws: ModelError.self) { try StableDiffusion(other, on: devices[0]) }
    #expect(error?.description.contains("9 (inpainting)") == true)
    var request = GenerationRequest(prompt: "a cat")
    (request.image, request.mask) = (image, image.black)
    let warnings = try StableDiffusion(checkpoint, on: devices[0]).resolved(request).warnings
    #expect(warnings.contains("the mask has no white: nothing is drawn anew"))
    request.mask = mask
    #expect(
      try StableDiffusion(checkpoint, on: devices[0]).resolved(request).warnings.allSatisfy {
        !$0.contains("mask")
      })
  }
}
