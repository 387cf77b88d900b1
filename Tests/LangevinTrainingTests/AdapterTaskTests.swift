import Foundation
import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining
import Synchronization
import Testing

@testable import Langevin

/// Pictures of stripes, in memory.
private struct Stripes: TrainingData {
  let pictures: [CaptionedPicture]

  init(captions: [String]) {
    pictures = captions.enumerated().map {
      CaptionedPicture(name: "\($0)", byteCount: 768, captions: $1.isEmpty ? [] : [Caption($1)])
    }
  }

  func picture(_ index: Int) throws -> Picture {
    try Picture(width: 16, height: 16, pixels: (0..<768).map { UInt8(($0 / 3 % 16) * (index + 1) * 5 % 256) })
  }
}

/// A few steps of LoRA and textual inversion, and what they leave.
@Suite struct AdapterTaskTests {
  private static let model = RunScratch.fixtures.appending(path: "tiny-sd")

  private func context(
    _ model: URL = Self.model, captions: [String] = ["a face", "red heart", "a cat"], on device: Device
  ) -> TaskContext {
    var settings = TrainingSettings()
    (settings.batch, settings.steps, settings.seed, settings.learningRate) = (2, 100, 11, 0.02)
    return TaskContext(
      settings: settings, model: model, data: Stripes(captions: captions), device: device,
      notice: { Issue.record("\($0)") })
  }

  /// What the samples of a run are, of a model.
  private func drawn(_ checkpoint: Checkpoint, _ prompts: [String], on device: Device) throws -> Picture {
    var request = GenerationRequest(prompts: prompts, recommended: checkpoint.recommended)
    (request.steps, request.seed, request.sharesSeed) = (2, 1, true)
    return try .grid(Pipelines.open(checkpoint, on: device).generate(request).pictures, columns: 1)
  }

  private func distance(_ a: Picture, _ b: Picture) -> Int {
    guard a.pixels.count == b.pixels.count else { return 256 }
    return zip(a.pixels, b.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 256
  }

  @Test(arguments: devices) func aLoRAIsSavedAsItWasTrained(device: Device) throws {
    var own = LoRASettings()
    (own.rank, own.alpha, own.trainTextEncoder) = (2, 3, true)
    own.targets.append("proj_in")
    (own.prompts, own.sampleSteps) = (["a face"], 2)
    let context = context(on: device)
    let task = try LoRATask(context, own)
    var trainer = try Trainer(task, context.settings.trainer(), on: device)
    let names = trainer.parameters.entries.map(\.fullName)
    #expect(names.count == 2 * (32 + 4) + 2 * 8)
    #expect(names.allSatisfy { $0.hasSuffix(".lora_A.weight") || $0.hasSuffix(".lora_B.weight") })
    let parameters = trainer.parameters
    let before = try #require(try task.samples({ try parameters.source(of: $0, averaged: false) }, {}))
    let base = try Checkpoint.open(Self.model)
    #expect(try distance(before, drawn(base, own.prompts, on: device)) == 0)
    for _ in 0..<5 { try trainer.step() }

    let learnt = trainer.parameters
    let weights: NetworkWeights = { try learnt.source(of: $0, averaged: false) }
    let scratch = try RunScratch()
    // It is also written in the place of an earlier one.
    for _ in 0..<2 { try task.model(weights).write(to: scratch.url("model")) }
    #expect(try scratch.files("model") == ["kohya_lora.safetensors", LoRAFile.fileName])
    let after = try #require(try task.samples(weights, {}))
    #expect(distance(before, after) > 10)
    for url in [scratch.url("model"), scratch.url("model/kohya_lora.safetensors")] {
      let lora = try LoRAFile(url: url)
      #expect(lora.changes.count == 36 + 8 && lora.changes.allSatisfy { $0.rank == 2 && $0.alpha == 3 })
      // Adapters at run time and merged.
      #expect(try distance(after, drawn(base.merging([(lora, 1)]), own.prompts, on: device)) <= 1)
    }
  }

  @Test(arguments: devices) func aNewWordIsSavedAsItWasTrained(device: Device) throws {
    var own = TextualInversionSettings()
    (own.token, own.initializer, own.vectors) = ("<x>", "face", 2)
    (own.prompts, own.sampleSteps) = (["a <x>"], 2)
    let context = context(captions: ["", "the <x> itself", "a cat"], on: device)
    let task = try TextualInversionTask(context, own)
    let captions = try task.batch(0..<40).captions
    #expect(captions.allSatisfy { $0.contains("<x>") } && captions.contains("the <x> itself"))
    #expect(Set(captions).count > 4)
    #expect(try task.batch(7..<9).captions == Array(captions[7..<9]))

    var trainer = try Trainer(task, context.settings.trainer(), on: device)
    #expect(trainer.parameters.entries.map(\.fullName) == ["embedding/learned_embeds"])
    let start = try trainer.parameters.entries[0].value.floats()
    for _ in 0..<3 { try trainer.step() }
    let learnt = trainer.parameters
    let weights: NetworkWeights = { try learnt.source(of: $0, averaged: false) }
    let vectors = try learnt.entries[0].value.floats()
    // Both vectors were reached, and each on its own.
    #expect(zip(vectors, start).allSatisfy { $0 != $1 } && vectors.prefix(64) != vectors.suffix(64))

    let scratch = try RunScratch()
    try task.model(weights).write(to: scratch.url("model"))
    let inversion = try TextualInversion(url: scratch.url("model"))
    #expect(inversion.token == "<x>" && inversion.size("<x>") == (2, 64))
    let checkpoint = try Checkpoint.open(Self.model).adding([inversion])
    let samples = try #require(try task.samples(weights, {}))
    #expect(try distance(samples, drawn(checkpoint, own.prompts, on: device)) == 0)
  }

  @Test func whatCannotBeTaughtIsSaid() throws {
    let device = Device(CPUBackend())
    func lora(_ model: String = "tiny-sd", _ change: (inout LoRASettings) -> Void) throws {
      var own = LoRASettings()
      change(&own)
      _ = try LoRATask(context(RunScratch.fixtures.appending(path: model), on: device), own)
    }
    func inversion(_ token: String, _ initializer: String, _ change: (inout TextualInversionSettings) -> Void)
      throws
    {
      var own = TextualInversionSettings()
      (own.token, own.initializer) = (token, initializer)
      change(&own)
      _ = try TextualInversionTask(context(on: device), own)
    }
    #expect(throws: AdapterError.self) { try lora { $0.targets = ["to_z"] } }
    #expect(throws: AdapterError.self) { try lora { $0.targets = ["conv1"] } }
    #expect(throws: SettingsError.self) { try lora { $0.rank = 0 } }
    #expect(throws: CheckpointError.self) { try lora("tiny-ddpm") { _ in } }
    #expect(throws: Never.self) { try lora { _ in } }
    #expect(throws: AdapterError.self) { try inversion("<|endoftext|>", "face") { _ in } }
    #expect(throws: AdapterError.initializer(text: "red heart", tokens: 2)) {
      try inversion("<x>", "red heart") { _ in }
    }
    #expect(throws: SettingsError.self) { try inversion(" ", "face") { _ in } }
    #expect(throws: SettingsError.self) { try inversion("<x>", "face") { $0.vectors = 0 } }
    #expect(throws: SettingsError.self) { try inversion("<x>", "face") { $0.templates = ["a photo"] } }
    #expect(throws: Never.self) { try inversion("<x>", "face") { _ in } }
  }

  // MARK: Frozen weights

  /// Says what was read of another source.
  private final class CountingSource: WeightSource {
    private let base: any WeightSource
    let loaded = Mutex<[String]>([])
    init(_ base: any WeightSource) { self.base = base }
    var names: [String] { base.names }
    var description: String { base.description }
    func spec(of name: String) -> TensorSpec? { base.spec(of: name) }
    func load(_ name: String, on device: Device) throws -> Tensor {
      loaded.withLock { $0.append(name) }
      return try base.load(name, on: device)
    }
  }

  @Test(arguments: devices) func keptWeightsAreReadOnce(device: Device) throws {
    let unet = try Checkpoint.open(Self.model).unet
    let config = try UNet2DConditionConfig(unet.configuration)
    let source = CountingSource(unet.weights)
    let kept = KeptWeights { !$0.contains("conv_out") }
    func build() throws -> (read: [String], output: [Float], parameters: Int) {
      source.loaded.withLock { $0 = [] }
      let weights = Weights(source, on: device, keeping: kept)
      let model = try UNet2DConditionModel(config, weights)
      let output = try model(
        Tensor.normal([1, 8, 8, 4], seed: 1, on: device), timesteps: [500],
        context: Tensor.normal([1, 5, 64], seed: 2, on: device))
      return (source.loaded.withLock { $0 }, try output.floats(), weights.parameters.names.count)
    }
    let (first, second) = (try build(), try build())
    #expect(first.read.count == unet.weights.names.count && first.parameters == first.read.count)
    #expect(second.read.sorted() == ["conv_out.bias", "conv_out.weight"])
    #expect(second.parameters == first.parameters && second.output == first.output)
  }
}
