import Foundation
import LangevinDiffusion
import LangevinTensor
import LangevinTestSupport
import LangevinTraining
import Testing

@testable import Langevin
@testable import LangevinModels

/// Stable unCLIP's UNet on a tiny model: text, and CLIP's embedding of the picture itself.
@Suite struct ImageConditionTests {
  private static let model = Fixtures.url.appending(path: "tiny-stable-unclip-img2img")
  /// Embeddings of the tiny model.
  private static let channels = 16

  private func context(_ model: URL = model, on device: Device, count: Int = 6) -> TaskContext {
    var settings = TrainingSettings()
    (settings.batch, settings.steps, settings.seed, settings.learningRate) = (4, 40, 5, 3e-3)
    var data = SolidData(count: count)
    (data.width, data.height) = (16, 16)
    return TaskContext(settings: settings, model: model, data: data, device: device) {
      Issue.record("\($0)")
    }
  }

  /// The condition alone, with the embeddings that it is made of.
  private func condition(
    _ context: TaskContext, dropping: Double = 0, maxNoiseLevel: Int? = nil
  ) throws -> (ImageCondition, PictureBatches) {
    let checkpoint = try Checkpoint.open(context.model)
    let batches = try context.batches(width: 16, height: 16)
    let condition = try ImageCondition(
      context, checkpoint, UNet2DConditionConfig(checkpoint.unet.configuration), batches, dropping: dropping,
      maxNoiseLevel: maxNoiseLevel, cacheBytes: 1 << 20)
    return (condition, batches)
  }

  private func rows(_ condition: ImageCondition, _ batches: PictureBatches, _ samples: Range<UInt64>) throws
    -> [[Float]]
  {
    let views = samples.map { batches.framing.view(batches.order.choice($0)) }
    let labels = try condition.labels(views, samples)
    #expect(labels.shape == [samples.count, 2 * Self.channels])
    let values = try labels.floats()
    return stride(from: 0, to: values.count, by: 2 * Self.channels).map {
      Array(values[$0..<$0 + 2 * Self.channels])
    }
  }

  @Test(arguments: devices) func withoutNoiseTheLabelsArePipelines(device: Device) throws {
    let (condition, batches) = try condition(context(on: device), maxNoiseLevel: 0)
    // What the pipeline tells its UNet of the same picture, at level 0 of the same schedule; its noise is its own.
    let alpha = try NoiseSchedule(
      json: Checkpoint.open(Self.model).scheduler(named: "image_noising_scheduler")
    ).alphasCumprod()[0]
    let pipeline = try StableUnCLIPImageVariation(Checkpoint.open(Self.model), on: device)
    for sample in 0..<3 as Range<UInt64> {
      let view = batches.framing.view(batches.order.choice(sample))
      var request = GenerationRequest(prompts: [])
      request.images = [try batches.picture(view)]
      request.steps = 1
      let resolved = try pipeline.resolve(request)
      let run = GenerationRun(resolved.request, on: device) { _ in }
      let input = try pipeline.condition(resolved, run).inputs[0].prompt
      guard case .vectors(let label) = input.classLabels else {
        Issue.record("there are no labels")
        return
      }
      let expected = try label.floats()
      let row = try rows(condition, batches, sample..<sample + 1)[0]
      // The noise of level 0 is small, and all that differs.
      let noise = try condition.normalizer.weights.load("std", on: device).cast(to: .float32).floats()
        .map { $0 * 8 * (1 - alpha).squareRoot() }
      for (place, (a, b)) in zip(row, expected).enumerated() {
        #expect(abs(a - b) <= (place < Self.channels ? noise[place] : 1e-6))
      }
    }
  }

  @Test func labelsDependOnTheSampleAlone() throws {
    let (condition, batches) = try condition(context(on: devices[0]), dropping: 0.3)
    let whole = try rows(condition, batches, 0..<12)
    #expect(try rows(condition, batches, 0..<5) + rows(condition, batches, 5..<12) == whole)
    #expect(Set(whole).count > 6)
  }

  @Test func embeddingsAreLeftOutAsOftenAsAsked() throws {
    let context = context(on: devices[0])
    for (dropping, range) in [(0.0, 0...0), (0.25, 35...65), (1.0, 200...200)] {
      let (condition, batches) = try condition(context, dropping: dropping)
      let zeros = try rows(condition, batches, 0..<200).filter { $0.allSatisfy { $0 == 0 } }
      #expect(range.contains(zeros.count))
    }
  }

  @Test func noiseLevelsAreDrawnUpToTheLimit() throws {
    let (condition, batches) = try condition(context(on: devices[0]), maxNoiseLevel: 3)
    let sinusoid = Sinusoid(channels: Self.channels, flipped: true, shift: 0)
    var seen: [Int: Int] = [:]
    for row in try rows(condition, batches, 0..<200) {
      let level = try #require((0...3).first { sinusoid(Float($0)) == Array(row[Self.channels...]) })
      seen[level, default: 0] += 1
    }
    #expect(seen.keys.sorted() == [0, 1, 2, 3] && seen.values.allSatisfy { $0 > 25 })
  }

  @Test(arguments: devices) func itLearnsAndWhatIsSavedVariesPictures(device: Device) throws {
    var own = DiffusionSettings()
    (own.dropCaption, own.sampleSteps) = (0.5, 2)
    let task = try DiffusionTask(context(on: device), own)
    var trainer = try Trainer(task, task.context.settings.trainer(), on: device)
    let losses = try (0..<40).map { _ in try trainer.step().loss }
    #expect(losses[30...].reduce(0, +) < 0.9 * losses[..<10].reduce(0, +), "\(losses)")

    let weights: NetworkWeights = { try trainer.parameters.source(of: $0, averaged: false) }
    let grid = try #require(try task.samples(weights, {}))
    #expect(grid.width > 4 * 16 && grid.height > 2 * 16)
    let folder = try DataFolder()
    let url = folder.url.appending(path: "model")
    try task.model(weights).write(to: url)
    let pipeline = try Pipelines.open(Checkpoint.open(url), on: device)
    var request = GenerationRequest(prompts: [])
    (request.images, request.steps) = ([try task.context.data.picture(0)], 2)
    #expect(try pipeline.generate(request) { _ in }.pictures.count == 1)
    // The saved UNet is the trained one.
    let name = "class_embedding.linear_1.weight"
    let saved = try Checkpoint.open(url).unet.weights.load(name, on: device).floats()
    #expect(try saved == weights("unet").load(name, on: device).floats())
    #expect(try saved != Checkpoint.open(Self.model).unet.weights.load(name, on: device).floats())
  }

  @Test func aNormalizerWithoutWeightsIsMadeFromTheData() throws {
    let folder = try DataFolder()
    try copyModel(to: folder)
    let weights = folder.url.appending(path: "image_normalizer/diffusion_pytorch_model.safetensors")
    try FileManager.default.removeItem(at: weights)
    let context = context(folder.url, on: devices[0])
    let (condition, batches) = try condition(context)
    let views = (0..<6).map { batches.framing.middle(of: $0) }
    let values = try condition.embeddings(views).floats()
    let mean = try condition.normalizer.weights.load("mean", on: devices[0]).floats()
    let deviation = try condition.normalizer.weights.load("std", on: devices[0]).floats()
    for channel in 0..<Self.channels {
      let column = (0..<6).map { values[$0 * Self.channels + channel] }
      let expected = column.reduce(0, +) / 6
      let spread = (column.reduce(0) { $0 + ($1 - expected) * ($1 - expected) } / 6).squareRoot()
      #expect(abs(mean[channel] - expected) < 1e-5 && abs(deviation[channel] - spread) < 1e-5)
    }
    // The saved folder has them.
    let task = try DiffusionTask(context, DiffusionSettings())
    let parameters = try Trainer(task, context.settings.trainer(), on: devices[0]).parameters
    let saved = folder.url.appending(path: "saved")
    try task.model { try parameters.source(of: $0, averaged: false) }.write(to: saved)
    let normalizer = try Checkpoint.open(saved).component("image_normalizer")
    #expect(try normalizer.weights.load("mean", on: devices[0]).floats() == mean)
  }

  /// Embeddings say enough of a picture; Stable Diffusion has nothing but its text.
  @Test func onlyAModelOfTextsNeedsCaptions() throws {
    var bare = context(on: devices[0])
    bare.data = SolidData(count: 4, captions: 0)
    let task = try DiffusionTask(bare, DiffusionSettings())
    var trainer = try Trainer(task, bare.settings.trainer(), on: devices[0])
    #expect(try trainer.step().loss.isFinite)
    for (model, isNeeded) in [("tiny-ddpm", false), ("tiny-sd", true), ("tiny-stable-unclip-img2img", false)]
    {
      let url = Self.model.deletingLastPathComponent().appending(path: model)
      #expect(try DiffusionTask.needsCaptions(for: url) == isNeeded)
    }
  }

  @Test func partsThatDoNotFitAreRefused() throws {
    let context = context(on: devices[0])
    #expect(throws: SettingsError.value(key: "drop_image", expected: "0 to 1")) {
      try condition(context, dropping: 1.5)
    }
    #expect(throws: SettingsError.value(key: "max_noise_level", expected: "0 to 999")) {
      try condition(context, maxNoiseLevel: 1000)
    }
    let folder = try DataFolder()
    try copyModel(to: folder)
    let file = folder.url.appending(path: "unet/config.json")
    let config = try String(contentsOf: file, encoding: .utf8)
    try folder.write(
      "unet/config.json",
      config.replacing(
        "\"projection_class_embeddings_input_dim\": 32", with: "\"projection_class_embeddings_input_dim\": 24"
      ))
    let error = #expect(throws: CheckpointError.self) {
      try condition(self.context(folder.url, on: devices[0]))
    }
    #expect(error?.description.contains("projection_class_embeddings_input_dim 32") == true)
  }

  /// With regular files in the place of links.
  private func copyModel(to folder: DataFolder) throws {
    let manager = FileManager.default
    for part in try manager.contentsOfDirectory(atPath: Self.model.path) {
      let source = Self.model.appending(path: part).resolvingSymlinksInPath()
      try manager.copyItem(at: source, to: folder.url.appending(path: part))
    }
    for case let url as URL in manager.enumerator(at: folder.url, includingPropertiesForKeys: nil) ?? .init()
    {
      let real = url.resolvingSymlinksInPath()
      guard real != url, !real.hasDirectoryPath else { continue }
      let bytes = try Data(contentsOf: real)
      try manager.removeItem(at: url)
      try bytes.write(to: url)
    }
  }
}
