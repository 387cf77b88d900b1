import Foundation
import Langevin
import LangevinModels
import LangevinTensor
import Testing

/// Fixtures/tiny-wan-image from picture and prompt to video, as diffusers' WanImageToVideoPipeline does it.
@Suite struct TinyWanImageTests {
  private struct Run: Decodable {
    let prompt, negativePrompt: String
    let steps, width, height, frames: Int
    let guidance: Double
    let seed: UInt64
  }

  private static let folder = Fixture.root.appending(path: "tiny-wan-image")

  private func picture() throws -> Picture {
    try Picture.read(Self.folder.appending(path: "image.png")).picture
  }

  private func standard() throws -> GenerationRequest {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let run = try decoder.decode(
      Run.self, from: Data(contentsOf: Self.folder.appending(path: "trajectory.json")))
    var request = GenerationRequest(prompt: run.prompt)
    request.negativePrompt = run.negativePrompt
    (request.guidance, request.steps, request.seed) = (run.guidance, run.steps, run.seed)
    (request.width, request.height, request.frames) = (run.width, run.height, run.frames)
    (request.noise, request.image) = (.torch, try picture())
    return request
  }

  @Test(arguments: Setting.all)
  func fromPictureToVideo(setting: Setting) throws {
    let io = try SafetensorsFile(url: Self.folder.appending(path: "io.safetensors"))
    let pipeline = try Pipelines.open(
      Checkpoint.open(Self.folder), on: setting.device, precision: setting.dtype)
    let result = try pipeline.generate(standard())
    let expected = try io.load("expected_latents", on: setting.device)
    #expect(result.latents.shape == expected.shape)
    let error = relativeError(result.latents.values, try expected.floats())
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print("\(setting.testDescription) tiny-wan-image latents: \(error)")
    }
    #expect(error < (setting.dtype == .float32 ? 1e-3 : 2e-2), "latents differ by \(error)")
    #expect(result.clips[0].frames.count == 9 && result.clips[0].framesPerSecond == 16)
  }

  /// Another picture gives another video; and both ways to the network are used.
  @Test func thePictureCounts() throws {
    let pipeline = try WanImageToVideo(Checkpoint.open(Self.folder), on: devices[0])
    var request = try standard()
    (request.steps, request.frames) = (1, 5)
    let first = try pipeline.generate(request).latents
    request.image = try Picture(
      width: 48, height: 32, pixels: Array(try picture().pixels.reversed()))
    #expect(try pipeline.generate(request).latents != first)
  }

  /// As many pixels as text to video, in the picture's proportions.
  @Test func sizesAreThePictures() throws {
    let pipeline = try WanImageToVideo(Checkpoint.open(Self.folder), on: devices[0])
    func size(_ width: Int, _ height: Int) throws -> [Int?] {
      var request = GenerationRequest(prompt: "a fox")
      request.image = try Picture(
        width: width, height: height, pixels: [UInt8](repeating: 9, count: 3 * width * height))
      let resolved = try pipeline.resolved(request)
      #expect(resolved.request.steps == 50 && resolved.request.frames == 81)
      return [resolved.request.width, resolved.request.height]
    }
    #expect(try size(48, 48) == [624, 624])
    #expect(try size(832, 480) == [832, 480])
    #expect(try size(10, 40) == [304, 1264])
  }

  @Test func whatIsWrongIsNamed() throws {
    let pipeline = try WanImageToVideo(Checkpoint.open(Self.folder), on: devices[0])
    func expect(_ words: String, _ change: (inout GenerationRequest) throws -> Void) throws {
      var request = try standard()
      try change(&request)
      #expect { try pipeline.resolved(request) } throws: { "\($0)".contains(words) }
    }
    try expect("makes a video of an image: it needs one") { $0.image = nil }
    try expect("2 images; this model starts from one") { $0.images.append(try picture()) }
    try expect("no use for the setting 'strength'") { $0.strength = 0.5 }
    var request = try standard()
    (request.width, request.height) = (32, 32)
    #expect(
      try pipeline.resolved(request).warnings == ["the image of 48x32 is cropped and resized to 32x32"])

    for part in ["image_encoder", "image_processor"] {
      let copy = try FolderCopy(of: Self.folder, without: [part])
      #expect {
        try WanImageToVideo(Checkpoint.open(copy.url), on: devices[0])
      } throws: { "\($0)".contains("the component \(part) is missing") }
    }
    let copy = try FolderCopy(of: Self.folder, without: ["transformer"])
    try copy.add("transformer", replacing: #""in_channels": 12"#, with: #""in_channels": 8"#)
    #expect {
      try WanImageToVideo(Checkpoint.open(copy.url), on: devices[0])
    } throws: { "\($0)".contains("in_channels = 8") }
    // Each of the two folders under the other's class.
    let text = try FolderCopy(of: Fixture.root.appending(path: "tiny-wan"), without: ["transformer"])
    try text.add("transformer", replacing: #""image_dim": null"#, with: #""image_dim": 16"#)
    #expect {
      try WanTextToVideo(Checkpoint.open(text.url), on: devices[0])
    } throws: { "\($0)".contains("image_dim = 16") || "\($0)".contains("added_kv_proj_dim") }
  }

  @Test(arguments: devices) func memoryIsKnownBefore(device: Device) throws {
    try JointRun.expectPlan(of: Self.folder, on: device) { request in
      request.image = try picture()
      (request.width, request.height, request.frames) = (32, 32, 5)
    }
  }
}
