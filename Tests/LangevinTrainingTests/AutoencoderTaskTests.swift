import Foundation
import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining
import Testing

@testable import Langevin

@Suite struct AutoencoderTaskTests {
  let scratch: RunScratch
  let folder: URL

  init() throws {
    scratch = try RunScratch()
    // Without weights: from nothing.
    folder = try scratch.copy("vae", to: "vae", ["config.json": "config.json"])
  }

  private func settings(steps: Int = 40) -> TrainingSettings {
    var settings = TrainingSettings()
    (settings.batch, settings.steps, settings.learningRate) = (4, steps, 4e-3)
    (settings.seed, settings.beta2) = (5, 0.99)
    return settings
  }

  private func task(
    _ settings: TrainingSettings, on device: Device, _ change: (inout AutoencoderSettings) -> Void = { _ in }
  ) throws -> AutoencoderTask {
    var own = AutoencoderTask.defaults
    change(&own)
    return try AutoencoderTask(
      scratch.context(folder, DrawnPictures(size: 16), settings, on: device), own)
  }

  @Test(arguments: devices) func aSmallAutoencoderLearnsFromNothing(on device: Device) throws {
    let settings = settings(steps: 60)
    let task = try task(settings, on: device) { $0.withheld = 4 }
    let before = try task.figures(Trainer(task, settings.trainer(), on: device).averages)
    let (trainer, losses) = try scratch.trained(task, settings, on: device)
    #expect(mean(losses.suffix(5)) < 0.5 * losses[0], "\(losses)")
    let after = try task.figures(trainer.averages)
    #expect(before.map(\.name) == ["psnr"] && after[0].value > before[0].value + 3, "\(before) \(after)")
    let picture = try #require(try task.samples(trainer.averages, {}))
    #expect((picture.width, picture.height) == (4 * 18 + 2, 2 * 18 + 2))
  }

  @Test func theSameRunTwiceHasTheSameBits() throws {
    let device = Device(CPUBackend())
    let runs = try (0..<2).map { _ in
      try scratch.trained(
        task(settings(steps: 4), on: device) { $0.cropShare = 0.5 }, settings(steps: 4), on: device)
    }
    for (a, b) in zip(runs[0].trainer.parameters.entries, runs[1].trainer.parameters.entries) {
      #expect(try a.state.floats().map(\.bitPattern) == b.state.floats().map(\.bitPattern), "\(a.fullName)")
    }
  }

  /// A file that would be ignored is refused.
  @Test func nothingIsReplayed() throws {
    let file = scratch.url("replay.safetensors")
    let device = Device(CPUBackend())
    let rows = try Tensor([0, 1, 2, 3] as [Int32], [4], on: device)
    try SafetensorsWriter.write([(name: "picture", tensor: rows)], to: file)
    var context = scratch.context(folder, DrawnPictures(size: 16), settings(), on: device)
    _ = try AutoencoderTask(context, AutoencoderTask.defaults)
    context.replay = try TrainingReplay(file)
    let error = #expect(throws: SettingsError.self) {
      try AutoencoderTask(context, AutoencoderTask.defaults)
    }
    #expect(
      error?.description == "--replay must be left out: train autoencoder draws everything by lot")
    // What other tasks take of it.
    try context.replay?.check(only: ["picture", "caption"], for: "clip")
    let refused = #expect(throws: CheckpointError.self) {
      try context.replay?.check(only: ["caption", "timestep"], for: "prior")
    }
    let words = "it has 'picture', and train prior takes only caption, timestep from a file"
    #expect(refused?.description.contains(words) == true, "\(String(describing: refused))")
  }

  @Test func allPartsOfAStepAreWholeOrSquares() throws {
    let device = Device(CPUBackend())
    var settings = settings()
    settings.batch = 8
    let task = try task(settings, on: device) { $0.cropShare = 0.5 }
    var squares = 0
    for step in 0..<100 {
      let first = UInt64(step * 8)
      let (whole, part) = (try task.batch(first..<first + 8), try task.batch(first + 4..<first + 8))
      #expect(Array(whole.shape.dimensions.dropFirst()) == Array(part.shape.dimensions.dropFirst()))
      #expect(Array(whole.pixels.suffix(part.pixels.count)) == part.pixels)
      #expect([8, 16].contains(whole.shape[1]) && whole.shape[1] == whole.shape[2])
      if whole.shape[1] == 8 { squares += 1 }
    }
    #expect((30...70).contains(squares))
  }

  @Test func accumulatedPartsAreTheWholeBatch() throws {
    let device = Device(CPUBackend())
    var settings = settings(steps: 1)
    settings.batch = 8
    let whole = try scratch.trained(task(settings, on: device), settings, on: device)
    settings.accumulation = 4
    let parts = try scratch.trained(task(settings, on: device), settings, on: device)
    #expect(abs(whole.losses[0] - parts.losses[0]) < 1e-5 * whole.losses[0])
  }

  @Test func withheldPicturesAreNeverLearntFrom() throws {
    let task = try task(settings(), on: Device(CPUBackend())) { $0.withheld = 5 }
    #expect(task.withheld == [11, 12, 13, 14, 15] && task.batches.data.pictures.count == 11)
    let names = Set(task.batches.data.pictures.map(\.name))
    #expect(task.withheld.allSatisfy { !names.contains(task.context.data.pictures[$0].name) })
  }

  @Test func theModelIsWrittenWithTheScaleOfItsLatents() throws {
    let device = Device(CPUBackend())
    let settings = settings(steps: 2)
    let task = try task(settings, on: device)
    let (trainer, _) = try scratch.trained(task, settings, on: device)
    try task.model(trainer.averages).write(to: scratch.url("model"))

    let component = try ModelFolder.component(scratch.url("model"))
    let config = try AutoencoderKLConfig(component.configuration)
    let network = try AutoencoderKL(config, Weights(component.weights, on: device))
    let pictures = try (0..<16).map { try task.context.data.picture($0).tensor(on: device) }
    let posterior = try network.encode(.concatenated(pictures, axis: 0))
    let noise = try Tensor.normal(posterior.mean.shape, seed: 1, on: device)
    let latents = try (posterior.sample(noise: noise) * config.scalingFactor).floats().map(Double.init)
    let average = latents.reduce(0, +) / Double(latents.count)
    let variance = latents.reduce(0) { $0 + ($1 - average) * ($1 - average) } / Double(latents.count)
    #expect(abs(variance.squareRoot() - 1) < 0.05, "\(variance)")
    // What was written computes what was trained.
    let own = try AutoencoderKL(task.config, Weights(trainer.averages("vae"), on: device))
    #expect(try network.decode(posterior.mean).floats() == own.decode(posterior.mean).floats())
  }

  @Test(arguments: devices) func aDecoderAloneLearnsToSeeThroughNoise(on device: Device) throws {
    let settings = settings(steps: 60)
    let first = try task(settings, on: device)
    let (start, _) = try scratch.trained(first, settings, on: device)
    try first.model(start.averages).write(to: scratch.url("start"))

    /// Trains on from there, and reads back what it wrote.
    func trained(_ name: String, noise: Double) throws -> (AutoencoderKL, AutoencoderTask) {
      var own = AutoencoderTask.defaults
      (own.decoderOnly, own.latentNoise) = (true, noise)
      let task = try AutoencoderTask(
        scratch.context(scratch.url("start"), DrawnPictures(size: 16), settings, on: device), own)
      let (trainer, _) = try scratch.trained(task, settings, on: device)
      let names = trainer.parameters.entries.map(\.name)
      #expect(names.contains("post_quant_conv.weight"))
      #expect(!names.contains { $0.hasPrefix("encoder.") || $0.hasPrefix("quant_conv.") })
      try task.model(trainer.averages).write(to: scratch.url(name))
      return (try network(name), task)
    }
    func network(_ name: String) throws -> AutoencoderKL {
      let component = try ModelFolder.component(scratch.url(name))
      return try AutoencoderKL(
        AutoencoderKLConfig(component.configuration), Weights(component.weights, on: device))
    }
    let (clean, _) = try trained("clean", noise: 0)
    let (noisy, task) = try trained("noisy", noise: 2)
    let pictures = try Tensor.concatenated(
      (0..<16).map { try task.context.data.picture($0).tensor(on: device) }, axis: 0)
    let latents = try clean.encode(pictures).mean
    // The encoder and the scale stay.
    for other in [noisy, try network("start")] {
      #expect(other.config.scalingFactor == clean.config.scalingFactor)
      #expect(try other.encode(pictures).mean.floats() == latents.floats())
    }
    let shape = Shape(Array(latents.shape.dimensions.dropFirst()))
    let disturbed = try latents + #require(try task.disturbance(1000..<1016, shape))
    func error(_ network: AutoencoderKL, _ latents: Tensor) throws -> Float {
      try mean((network.decode(latents) - pictures).map(.square).floats())
    }
    // What the noise costs: 0.005 to 0.007 with such training, 0.02 without.
    let costs = try [noisy, clean].map { try error($0, disturbed) - error($0, latents) }
    #expect(costs[0] < 0.6 * costs[1], "\(costs)")
    #expect(try error(noisy, disturbed) < error(clean, disturbed))
  }

  @Test func noiseOnLatentsIsAShareOfItsMost() throws {
    let device = Device(CPUBackend())
    let task = try task(settings(), on: device) { $0.latentNoise = 0.5 }
    let samples: Range<UInt64> = 0..<400
    let noise = try #require(try task.disturbance(samples, [8, 8, 4])).floats()
    let deviations = samples.indices.map { sample in
      let one = noise[Int(sample) * 256..<(Int(sample) + 1) * 256]
      return Double(one.reduce(0) { $0 + $1 * $1 } / 256).squareRoot() * Double(task.config.scalingFactor)
    }
    #expect(deviations.allSatisfy { $0 < 0.5 * 1.3 })
    let average = deviations.reduce(0, +) / 400
    #expect(abs(average - 0.25) < 0.03, "\(average)")
    #expect(try self.task(settings(), on: device).disturbance(samples, [8, 8, 4]) == nil)
  }

  @Test(arguments: devices) func theLossOfABatchIsPyTorchs(on device: Device) throws {
    let golden = try SafetensorsFile(
      url: RunScratch.fixtures.appending(path: "training/task_losses.safetensors"))
    func load(_ name: String) throws -> Tensor { try golden.load(name, on: device).transposed([0, 2, 3, 1]) }
    let model = try scratch.copy(
      "vae", to: "golden",
      ["config.json": "config.json", "weights.safetensors": "diffusion_pytorch_model.safetensors"])
    _ = try scratch.copy(
      "tiny-clip", to: "clip",
      [
        "config.json": "config.json", "model.safetensors": "model.safetensors",
        "preprocessor_config.json": "preprocessor_config.json",
      ])
    _ = try scratch.copy(
      "tiny-sd/tokenizer", to: "clip",
      ["tokenizer.json": "tokenizer.json", "tokenizer_config.json": "tokenizer_config.json"])
    for name in ["autoencoder", "perceptual"] {
      var own = AutoencoderTask.defaults
      own.klWeight = 0.01
      if name == "perceptual" { (own.perceptual, own.perceptualWeight) = (scratch.url("clip").path, 0.3) }
      let task = try AutoencoderTask(
        scratch.context(model, DrawnPictures(size: 16), settings(), on: device), own)
      let network = try AutoencoderKL(task.config, Weights(task.component.weights, on: device))
      let loss = try task.loss(of: load("picture"), noise: load("noise"), network).floats()[0]
      let expected = try golden.load(name, on: device).floats()[0]
      #expect(abs(loss - expected) < 2e-5 * expected, "\(name): \(loss), PyTorch \(expected)")
    }
  }

  @Test func sizesThatTheAutoencoderCannotHalveAreRefused() throws {
    let device = Device(CPUBackend())
    func error(_ key: String, _ change: (inout TrainingSettings, inout AutoencoderSettings) -> Void) {
      var (settings, own) = (settings(), AutoencoderTask.defaults)
      change(&settings, &own)
      #expect {
        try AutoencoderTask(scratch.context(folder, DrawnPictures(size: 16), settings, on: device), own)
      } throws: { error in
        if case .value(let found, _, _)? = error as? SettingsError { found == key } else { false }
      }
    }
    error("width") { settings, _ in settings.width = 15 }
    error("crop_size") { _, own in (own.cropShare, own.cropSize) = (0.5, 7) }
    error("crop_size") { _, own in (own.cropShare, own.cropSize) = (0.5, 32) }
    error("crop_share") { _, own in own.cropShare = 1.5 }
    error("kl_weight") { _, own in own.klWeight = -1 }
    error("withheld") { _, own in own.withheld = 16 }
    // And what is right is taken.
    #expect(throws: Never.self) { try task(settings(), on: device) { ($0.cropShare, $0.cropSize) = (1, 6) } }
  }
}
