import Foundation
import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining
import Synchronization
import Testing

@testable import Langevin

@Suite struct CLIPTaskTests {
  let scratch: RunScratch
  let folder: URL

  init() throws {
    scratch = try RunScratch()
    // Without weights: from nothing.
    folder = try scratch.copy("tiny-clip", to: "clip", ["config.json": "config.json"])
    _ = try scratch.copy(
      "tiny-sd/tokenizer", to: "clip",
      ["tokenizer.json": "tokenizer.json", "tokenizer_config.json": "tokenizer_config.json"])
  }

  private func settings(steps: Int) -> TrainingSettings {
    var settings = TrainingSettings()
    (settings.batch, settings.steps, settings.learningRate) = (8, steps, 3e-3)
    (settings.seed, settings.beta2) = (5, 0.98)
    return settings
  }

  private func task(_ settings: TrainingSettings, on device: Device, withheld: Int = 0) throws -> CLIPTask {
    var own = CLIPTask.defaults
    own.withheld = withheld
    return try CLIPTask(
      scratch.context(folder, DrawnPictures(size: 16, count: 48), settings, on: device), own)
  }

  @Test(arguments: devices) func aSmallCLIPLearnsFromNothing(on device: Device) throws {
    let settings = settings(steps: 100)
    let task = try task(settings, on: device, withheld: 8)
    let (trainer, losses) = try scratch.trained(task, settings, on: device)
    // Before, every caption is as likely as any other: ln 8.
    #expect(losses[0] > 1.9 && mean(losses.suffix(5)) < 0.5 * losses[0], "\(losses)")
    let figures = try task.figures(trainer.averages)
    // By chance, one of eight.
    #expect(figures.map(\.name) == ["top1", "scale"] && figures[0].value >= 0.5, "\(figures)")
  }

  @Test(arguments: devices) func partsOfABatchAreComparedAsTheWhole(on device: Device) throws {
    var settings = settings(steps: 3)
    settings.batch = 16
    let whole = try scratch.trained(task(settings, on: device), settings, on: device)
    settings.accumulation = 4
    let parts = try scratch.trained(task(settings, on: device), settings, on: device)
    for (a, b) in zip(whole.losses, parts.losses) { #expect(abs(a - b) < 1e-5 * a, "\(a) \(b)") }
    // Compared piece by piece, each caption would have three others instead of fifteen.
    #expect(whole.losses[0] > 2.5)
  }

  @Test func gradientsOfPartsAreThoseOfTheWhole() throws {
    let device = Device(CPUBackend())
    func moments(_ accumulation: Int) throws -> [(name: String, values: [Float])] {
      var settings = settings(steps: 1)
      (settings.batch, settings.accumulation, settings.maxGradNorm) = (16, accumulation, 0)
      let (trainer, _) = try scratch.trained(task(settings, on: device), settings, on: device)
      return try trainer.parameters.entries.map { ($0.name, try $0.state.rows(1..<2).floats()) }
    }
    for (whole, parts) in zip(try moments(1), try moments(4)) {
      // A softmax does not change when all scores do: what arrives at the keys' biases is rounding.
      if whole.name.hasSuffix("k_proj.bias") { continue }
      let largest = whole.values.map(abs).max() ?? 0
      let error = zip(whole.values, parts.values).map { abs($0 - $1) }.max() ?? 0
      #expect(largest > 0 && error <= 1e-5 * largest, "\(whole.name): \(error) of \(largest)")
    }
  }

  @Test func twoRanksCompareAsOne() throws {
    let device = Device(CPUBackend())
    var settings = settings(steps: 3)
    settings.batch = 16
    let one = try scratch.trained(task(settings, on: device), settings, on: device)
    settings.accumulation = 2
    let losses = try ThreadCollective.run(2) { [settings] rank in
      let device = Device(CPUBackend())
      var trainer = try Trainer(
        task(settings, on: device), settings.trainer(), on: device, collective: rank)
      return try (0..<settings.steps).map { _ in try trainer.step().loss }
    }
    #expect(losses.count == 2 && losses[0] == losses[1])
    for (a, b) in zip(one.losses, losses[0]) { #expect(abs(a - b) < 1e-5 * a, "\(a) \(b)") }
  }

  @Test func theSameRunTwiceHasTheSameBits() throws {
    let device = Device(CPUBackend())
    var settings = settings(steps: 3)
    settings.accumulation = 2
    let runs = try (0..<2).map { _ in try scratch.trained(task(settings, on: device), settings, on: device) }
    for (a, b) in zip(runs[0].trainer.parameters.entries, runs[1].trainer.parameters.entries) {
      #expect(try a.state.floats().map(\.bitPattern) == b.state.floats().map(\.bitPattern), "\(a.fullName)")
    }
  }

  @Test func cosinesAreMultipliedByAHundredAtMost() throws {
    let device = Device(CPUBackend())
    var settings = settings(steps: 12)
    // From 14 to 100 are 2 in the logarithm.
    (settings.learningRate, settings.maxGradNorm, settings.ema) = (0.4, 0, 0.9)
    let (trainer, _) = try scratch.trained(task(settings, on: device), settings, on: device)
    let scale = try #require(trainer.parameters.entries.first { $0.name == "logit_scale" })
    let (value, average) = (try scale.value.floats()[0], try scale.average.floats()[0])
    #expect(value <= Float(log(100.0)) && average <= Float(log(100.0)))
  }

  @Test func theWrittenFolderEmbedsAsTheTrainedModel() throws {
    let device = Device(CPUBackend())
    let settings = settings(steps: 2)
    let task = try task(settings, on: device)
    let (trainer, _) = try scratch.trained(task, settings, on: device)
    try task.model(trainer.averages).write(to: scratch.url("model"))
    let embedder = try Embedder(scratch.url("model"), on: device)
    let config = try CLIPConfig(ModelFolder.component(folder) { InitialWeights(seed: 0) }.configuration)
    let own = try CLIPModel(config, Weights(trainer.averages("clip"), on: device))
    let text = try embedder.embed(texts: ["red circle"]).floats()
    let ids = try CLIPTokenizer(folder: folder)("red circle", length: 32).ids
    for (a, b) in zip(text, try own.textEmbeds([ids]).floats()) { #expect(abs(a - b) < 1e-5) }
    #expect(try embedder.embed(pictures: [DrawnPictures(size: 16).picture(0)]).shape == [1, 12])
  }

  @Test func initialWeightsAreTransformers() throws {
    let device = Device(CPUBackend())
    let golden = try SafetensorsFile(
      url: RunScratch.fixtures.appending(path: "training/task_losses.safetensors"))
    let json = try JSONFile.read(RunScratch.fixtures.appending(path: "training/clip_start.json"))
    let weights = Weights(InitialWeights(seed: 3, rule: try InitialWeights.clip(json)), on: device)
    _ = try CLIPModel(CLIPConfig(ConfigObject(json)), weights)
    let names = golden.names.filter { $0.hasPrefix("deviation.") }.map { String($0.dropFirst(10)) }
    #expect(Set(names) == Set(weights.parameters.names))
    for name in names {
      let expected = try golden.load("deviation." + name, on: device).floats()[0]
      let values = try weights.parameters.load(name, on: device).floats()
      let deviation = (values.reduce(0) { $0 + $1 * $1 } / Float(values.count)).squareRoot()
      // Both are drawn: five deviations of what two draws of so many numbers differ by.
      let tolerance = expected == 0 ? 0 : max(5 / Float(values.count).squareRoot(), 1e-6) * expected
      let isDrawn = Set(values).count > 1
      #expect(
        abs(deviation - expected) <= (isDrawn ? tolerance : 1e-6), "\(name): \(deviation), \(expected)")
    }
  }

  @Test func picturesOfAnotherSizeThanTheEncodersAreRefused() throws {
    let device = Device(CPUBackend())
    var settings = settings(steps: 1)
    // Resized to the shorter side of 16 and cut: any size comes out right.
    (settings.width, settings.height) = (20, 32)
    #expect(throws: Never.self) { try task(settings, on: device) }
    try scratch.write(
      Array(
        #"{"image_processor_type": "CLIPImageProcessor", "do_resize": false, "do_center_crop": false}"#.utf8),
      to: "clip/preprocessor_config.json")
    #expect(throws: SettingsError.self) { try task(settings, on: device) }
    (settings.width, settings.height) = (16, 16)
    #expect(throws: Never.self) { try task(settings, on: device) }
  }

  @Test func captionsThatAreCutAreCountedOnce() throws {
    struct Wordy: TrainingData {
      let pictures = (0..<3).map { index in
        CaptionedPicture(
          name: "\(index)", byteCount: 1,
          captions: [Caption(Array(repeating: "red", count: index == 0 ? 3 : 40).joined(separator: " "))])
      }
      func picture(_ index: Int) throws -> Picture { try DrawnPictures(size: 16).picture(index) }
    }
    let lines = Lines()
    let context = TaskContext(
      settings: settings(steps: 1), model: folder, data: Wordy(), device: Device(CPUBackend())
    ) { lines.add($0) }
    _ = try CLIPTask(context, CLIPTask.defaults)
    #expect(lines.all.count == 1 && lines.all[0].hasPrefix("1 of 2 captions"), "\(lines.all)")
  }
}

/// What a task had to say.
final class Lines: Sendable {
  private let lines = Mutex<[String]>([])
  func add(_ line: String) { lines.withLock { $0.append(line) } }
  var all: [String] { lines.withLock { $0 } }
}
