import Foundation
import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining
import Testing

@testable import Langevin

@Suite struct PriorTaskTests {
  let scratch: RunScratch
  let folder: URL
  private let device = Device(CPUBackend())

  /// tiny-unclip with a prior from nothing, and a CLIP whose embeddings it can guess.
  init() throws {
    scratch = try RunScratch()
    folder = scratch.url("unclip")
    try FileManager.default.copyItem(at: RunScratch.fixtures.appending(path: "tiny-unclip"), to: folder)
    // A link that leads out of its folder.
    try FileManager.default.removeItem(at: folder.appending(path: "tokenizer"))
    try FileManager.default.copyItem(
      at: RunScratch.fixtures.appending(path: "tiny-sd/tokenizer"), to: folder.appending(path: "tokenizer"))
    for name in try scratch.files("unclip/prior") where name.hasSuffix(".safetensors") {
      try FileManager.default.removeItem(at: folder.appending(path: "prior/\(name)"))
    }
    let clip = try scratch.copy(
      "tiny-sd/tokenizer", to: "clip-start",
      ["tokenizer.json": "tokenizer.json", "tokenizer_config.json": "tokenizer_config.json"])
    let config = try JSONFile.read(RunScratch.fixtures.appending(path: "tiny-clip/config.json"))
    try config.replacing("projection_dim", with: .integer(16)).data.write(
      to: clip.appending(path: "config.json"))
    let context = scratch.context(clip, DrawnPictures(size: 16), settings(steps: 1), on: device)
    let task = try CLIPTask(context, CLIPTask.defaults)
    let trainer = try Trainer(task, settings(steps: 1).trainer(), on: device)
    try task.model(trainer.averages).write(to: scratch.url("clip"))
  }

  private func settings(steps: Int) -> TrainingSettings {
    var settings = TrainingSettings()
    (settings.batch, settings.steps, settings.learningRate) = (8, steps, 3e-3)
    settings.seed = 5
    return settings
  }

  private func task(
    _ settings: TrainingSettings, on device: Device, _ change: (inout PriorSettings) -> Void = { _ in }
  ) throws -> PriorTask {
    var own = PriorTask.defaults
    own.clip = scratch.url("clip").path
    change(&own)
    return try PriorTask(scratch.context(folder, DrawnPictures(size: 16), settings, on: device), own)
  }

  @Test(arguments: devices) func aSmallPriorLearnsFromNothing(on device: Device) throws {
    let settings = settings(steps: 80)
    let task = try task(settings, on: device) { $0.withheld = 2 }
    let before = try task.figures(Trainer(task, settings.trainer(), on: device).averages)
    let (trainer, losses) = try scratch.trained(task, settings, on: device)
    #expect(mean(losses.suffix(8)) < 0.6 * mean(losses.prefix(3)), "\(losses)")
    let after = try task.figures(trainer.averages)
    #expect(before.map(\.name) == ["cosine"] && after[0].value > before[0].value, "\(before) \(after)")
  }

  @Test func embeddingsAreMeasuredWhereThePriorStartsFromNothing() throws {
    let settings = settings(steps: 2)
    let task = try task(settings, on: device)
    let (trainer, _) = try scratch.trained(task, settings, on: device)
    #expect(!trainer.parameters.entries.contains { $0.name.hasPrefix("clip_") })
    try task.model(trainer.averages).write(to: scratch.url("model"))
    let written = try Checkpoint.open(scratch.url("model")).component("prior")
    let embedder = try Embedder(scratch.url("clip"), on: device)
    let pictures = try (0..<16).map { try DrawnPictures(size: 16).picture($0) }
    let all = try pictures.map { picture in
      try embedder.model.imageFeatures(embedder.preparation([picture], on: device)).floats()
    }
    let (means, deviations) = (
      try written.weights.load("clip_mean", on: device).floats(),
      try written.weights.load("clip_std", on: device).floats()
    )
    for channel in 0..<16 {
      let values = all.map { $0[channel] }
      let average = mean(values)
      let deviation = mean(values.map { ($0 - average) * ($0 - average) }).squareRoot()
      #expect(abs(means[channel] - average) < 1e-4 && abs(deviations[channel] - deviation) < 1e-4)
    }
    // What was written computes what was trained.
    let config = try PriorTransformerConfig(written.configuration)
    let own = try PriorTransformer(config, Weights(trainer.averages("prior"), on: device))
    let again = try PriorTransformer(config, Weights(written.weights, on: device))
    let (x, text) = (
      try Tensor.normal([1, 16], seed: 1, on: device), try Tensor.normal([1, 77, 16], seed: 2, on: device)
    )
    #expect(
      try own(x, timesteps: [9], embedding: x, text: text).floats()
        == again(x, timesteps: [9], embedding: x, text: text).floats())
  }

  @Test func aPriorOfAFolderKeepsItsMeasures() throws {
    let context = scratch.context(
      RunScratch.fixtures.appending(path: "tiny-unclip"), DrawnPictures(size: 16), settings(steps: 1),
      on: device)
    var own = PriorTask.defaults
    own.clip = scratch.url("clip").path
    let task = try PriorTask(context, own)
    let start = try Checkpoint.open(context.model).component("prior").weights
    let trainer = try Trainer(task, settings(steps: 1).trainer(), on: device)
    for name in ["clip_mean", "clip_std"] {
      #expect(
        try trainer.averages("prior").load(name, on: device).floats() == start.load(name, on: device).floats()
      )
    }
  }

  @Test func theSameRunTwiceHasTheSameBits() throws {
    let runs = try (0..<2).map { _ in
      try scratch.trained(task(settings(steps: 3), on: device), settings(steps: 3), on: device)
    }
    for (a, b) in zip(runs[0].trainer.parameters.entries, runs[1].trainer.parameters.entries) {
      #expect(try a.state.floats().map(\.bitPattern) == b.state.floats().map(\.bitPattern), "\(a.fullName)")
    }
  }

  @Test func aCLIPOfAnotherWidthIsRefused() throws {
    #expect(throws: SettingsError.missing(key: "clip")) {
      try task(settings(steps: 1), on: device) { $0.clip = nil }
    }
    _ = try scratch.copy(
      "tiny-clip", to: "narrow",
      [
        "config.json": "config.json", "model.safetensors": "model.safetensors",
        "preprocessor_config.json": "preprocessor_config.json",
      ])
    _ = try scratch.copy(
      "tiny-sd/tokenizer", to: "narrow",
      ["tokenizer.json": "tokenizer.json", "tokenizer_config.json": "tokenizer_config.json"])
    #expect {
      try task(settings(steps: 1), on: device) { $0.clip = scratch.url("narrow").path }
    } throws: { "\($0)".contains("its prior makes embeddings of 16 channels, the CLIP's have 12") }
  }
}
