import Foundation
import LangevinTensor
import Testing

@testable import Langevin

/// Pictures that are computed together are what each would be alone.
@Suite struct BatchTests {
  private static let models = [
    "tiny-sd", "tiny-xl", "tiny-inpainting", "tiny-ddpm", "tiny-stable-unclip-img2img",
  ]

  /// Four pictures, of two prompts where there are prompts, with noise in each step where the model's samplers take any.
  private func request(_ model: String) throws -> GenerationRequest {
    let inpainting = Fixture.root.appending(path: "inpainting")
    let image = try Picture.read(inpainting.appending(path: "image.png")).picture
    var request = GenerationRequest(prompts: ["a cat", "a red heart"])
    (request.steps, request.count, request.seed) = (4, 2, 9)
    request.sampler = .eulerAncestral
    switch model {
    case "tiny-sd": (request.negativePrompt, request.guidanceRescale) = ("blurry", 0.5)
    case "tiny-xl": (request.image, request.strength) = (image, 0.8)
    case "tiny-inpainting":
      request.mask = try Picture.read(inpainting.appending(path: "mask.png")).picture
      (request.image, request.noise) = (image, .torch)
    case "tiny-ddpm":
      // The first guesses divide by what little signal there is; the chain forgets them.
      (request.prompts, request.count, request.sampler, request.steps) = ([], 4, .ddpm, 20)
    default: (request.image, request.sampler) = (image, .ddim)
    }
    return request
  }

  @Test(arguments: devices) func eachPictureIsWhatItWouldBeAlone(device: Device) throws {
    for model in Self.models {
      let pipeline = try Pipelines.open(
        Checkpoint.open(Fixture.root.appending(path: model)), on: device)
      var request = try request(model)
      func run() throws -> (latents: HostLatents, pictures: [Picture], batches: [Int]) {
        var batches: [Int] = []
        let result = try pipeline.generate(request) { event in
          if case .sampling(_, let image, _) = event { batches.append(image) }
        }
        return (result.latents, result.pictures, batches)
      }
      let alone = try run()
      request.batch = 3
      let together = try run()
      #expect(alone.batches == [0, 1, 2, 3] && together.batches == [0, 3], "\(model)")
      #expect(alone.latents.shape == together.latents.shape && alone.latents.shape[0] == 4)
      let size = alone.latents.values.count / 4
      for image in 0..<4 {
        let values = image * size..<(image + 1) * size
        let error = relativeError(
          Array(together.latents.values[values]), Array(alone.latents.values[values]))
        #expect(error < 1e-5, "\(model), picture \(image): \(error) on \(device.name)")
        let levels = zip(together.pictures[image].pixels, alone.pictures[image].pixels).map {
          abs(Int($0) - Int($1))
        }
        #expect(try #require(levels.max()) <= 1)
        if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
          print("batch \(device.name) \(model) \(image): \(error)")
        }
      }
      #expect(alone.latents.values[0..<size] != alone.latents.values[size..<2 * size])
    }
  }

  /// With emphasis and chunks, prompts may be of several lengths: a batch is then of one prompt.
  @Test func promptsOfSeveralLengthsAreNotJoined() throws {
    let pipeline = try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: "tiny-sd")), on: devices[0])
    var request = GenerationRequest(prompts: ["a (red:1.2) cat", String(repeating: "heart ", count: 100)])
    (request.promptSyntax, request.count, request.batch, request.steps) = (.a1111, 3, 2, 1)
    var batches: [Int] = []
    _ = try pipeline.generate(request) { event in
      if case .sampling(_, let image, _) = event { batches.append(image) }
    }
    #expect(batches == [0, 2, 3, 5])
  }

  @Test func everyPictureOfABatchIsPreviewedAndKeepsItsSeed() throws {
    let pipeline = try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: "tiny-sd")), on: devices[0])
    var request = GenerationRequest(prompt: "a cat")
    (request.count, request.batch, request.steps, request.previewEvery, request.seed) = (2, 2, 2, 1, 5)
    request.lowMemory = true
    var (previews, finished): ([String: Picture], [UInt64]) = ([:], [])
    try pipeline.stream(request) { event in
      switch event {
      case .preview(let picture, let step, let image): previews["\(image) \(step)"] = picture
      case .finished(_, _, let seed): finished.append(seed)
      default: break
      }
    }
    #expect(previews.keys.sorted() == ["0 1", "0 2", "1 1", "1 2"] && finished == [5, 6])
    #expect(previews["0 2"] != previews["1 2"])
  }

  /// What works image by image says so.
  @Test(arguments: ["tiny-wan", "tiny-unclip"]) func somePipelinesTakeNoBatch(model: String) throws {
    let pipeline = try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: model)), on: devices[0])
    var request = GenerationRequest(prompt: "a cat")
    request.batch = 2
    let error = #expect(throws: GenerationError.self) { try pipeline.resolved(request) }
    #expect(error?.description.contains("no use for the setting 'batch'") == true)
  }
}
