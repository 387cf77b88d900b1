import ClassPictures
import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import Testing

/// A pipeline of another package, by the library's public face alone.
@Suite(.serialized) struct ClassPicturesTests {
  let device = Device(CPUBackend())

  /// A model whose guess is a colour for each class, whatever the noise: x is multiplied by zero.
  private func model(_ colours: [[Float]], in folder: URL) throws {
    func write(_ text: String, _ path: String) throws {
      let file = folder.appending(path: path)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    }
    try write(
      #"""
      {"_class_name": "ClassPicturesPipeline", "network": ["mine", "ClassNetwork"],
       "scheduler": ["diffusers", "DDIMScheduler"]}
      """#, "model_index.json")
    try write(#"{"_class_name": "ClassNetwork", "class_count": \#(colours.count)}"#, "network/config.json")
    try write(
      #"{"_class_name": "DDIMScheduler", "prediction_type": "sample", "clip_sample": false}"#,
      "scheduler/scheduler_config.json")
    func tensor(_ shape: Shape, _ value: (Int) -> Float = { _ in 0 }) throws -> Tensor {
      try Tensor((0..<shape.count).map(value), shape, on: device)
    }
    let table = colours.flatMap { $0 + [Float](repeating: 0, count: 5) }
    try SafetensorsWriter.write(
      [
        ("table.weight", tensor([colours.count, 8]) { table[$0] }),
        ("first.weight", tensor([8, 3, 3, 3])), ("first.bias", tensor([8])),
        // Channel k of the picture is feature k.
        ("second.weight", tensor([3, 8, 1, 1]) { $0 / 8 == $0 % 8 ? 1 : 0 }), ("second.bias", tensor([3])),
      ], to: folder.appending(path: "network/model.safetensors"))
  }

  private func withModel(_ colours: [[Float]], _ body: (URL) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "class-pictures-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try model(colours, in: folder)
    try body(folder)
  }

  @Test func itsModelsOpenOnceItIsRegisteredAndGuidanceGoesBeyondTheClass() throws {
    let colours: [[Float]] = [[0.1, 0.2, 0.3], [0.5, 0.4, 0.2], [0.9, 0.1, 0.6]]
    try withModel(colours) { folder in
      #expect(throws: CheckpointError.self) { try Checkpoint.open(folder) }
      try Pipelines.register(ClassPictures.self)
      #expect(throws: GenerationError.self) { try Pipelines.register(ClassPictures.self) }
      let pipeline = try Pipelines.open(Checkpoint.open(folder), on: device)
      func silu(_ x: Float) -> Float { x / (1 + exp(-x)) }
      for (scale, negative) in [(1.0, ""), (3, ""), (3, "1")] {
        var request = GenerationRequest(prompts: ["2", "1"])
        (request.guidance, request.negativePrompt, request.steps) = (scale, negative, 5)
        (request.width, request.height) = (6, 4)
        let result = try pipeline.generate(request)
        #expect(result.pictures.map(\.width) == [6, 6] && result.latents.shape == [2, 3, 4, 6])
        for (image, number) in [2, 1].enumerated() {
          for channel in 0..<3 {
            let (own, other) = (silu(colours[number][channel]), silu(colours[Int(negative) ?? 0][channel]))
            let expected = other + Float(scale) * (own - other)
            let place = (image * 3 + channel) * 24
            #expect(result.latents.values[place..<place + 24].allSatisfy { abs($0 - expected) < 1e-5 })
          }
        }
      }
      var bad = GenerationRequest(prompt: "7")
      #expect(throws: GenerationError.badRequest("'7' is no class; there are 0 to 2")) {
        try pipeline.generate(bad)
      }
      (bad.prompt, bad.strength) = ("1", 0.5)
      #expect(throws: GenerationError.self) { try pipeline.generate(bad) }
    }
  }

  /// The article shows this very file.
  @Test func theArticleShowsIt() throws {
    let root = URL(filePath: #filePath).appending(path: "../../../../..").standardized
    let source = try String(
      contentsOf: root.appending(path: "Tests/Outside/Sources/ClassPictures/ClassPictures.swift"),
      encoding: .utf8)
    let article = try String(
      contentsOf: root.appending(path: "Sources/Langevin/Langevin.docc/WritingAPipeline.md"), encoding: .utf8)
    #expect(article.contains("```swift\n\(source)```"))
  }
}
