import Foundation
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin

/// LoRAs beside weights in blocks, against the same weights as numbers with the LoRA merged.
@Suite struct QuantizedAdapterTests {
  private static let loras = [
    "adapters/peft.safetensors", "adapters/kohya.safetensors", "lycoris/locon.safetensors",
  ]

  /// tiny-sd's networks in blocks, as if from a file that has them so, or as the numbers of those blocks.
  private func checkpoint(inBlocks: Bool) throws -> Checkpoint {
    let base = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd"))
    return base.replacing(
      components: try Dictionary(
        uniqueKeysWithValues: ["unet", "text_encoder"].map { name in
          let part = try base.component(name)
          let blocks = QuantizedWeights(part.weights, in: .q8)
          return (
            name,
            Checkpoint.Component(
              part.className, config: part.config, weights: inBlocks ? blocks : DecodedBlocks(blocks))
          )
        }))
  }

  private var request: GenerationRequest {
    var request = GenerationRequest(prompt: "a face")
    (request.steps, request.seed, request.guidance) = (4, 3, 3)
    (request.width, request.height) = (64, 64)
    return request
  }

  private func latents(_ checkpoint: Checkpoint, on device: Device) throws -> [Float] {
    try Pipelines.open(checkpoint, on: device).generate(request).latents.values
  }

  /// The sums of a product and of its adapter are rounded apart from each other, as sums in another order are.
  @Test(arguments: devices, loras) func areWhatTheMergedModelDraws(device: Device, name: String) throws {
    let lora = try LoRAFile(url: Fixture.root.appending(path: name))
    let base = try checkpoint(inBlocks: true)
    let beside = try base.merging([(lora, 0.7)])
    let got = try latents(beside, on: device)
    let merged = try latents(checkpoint(inBlocks: false).merging([(lora, 0.7)]), on: device)
    let error = relativeError(got, merged)
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil { print("\(device.name) \(name): \(error)") }
    #expect(error < 1e-4, "off by \(error)")
    #expect(relativeError(got, try latents(base, on: device)) > 1e-2, "the LoRA changes nothing")
    #expect(try beside.layersMadeDense().count == 0)
  }

  @Test func severalAddUpAndStrengthsCount() throws {
    let loras = try Self.loras.map { try LoRAFile(url: Fixture.root.appending(path: $0)) }
    let changes = zip(loras, [Float(0.5), -0.3, 1.2]).map { (file: $0, scale: $1) }
    let got = try latents(checkpoint(inBlocks: true).merging(changes), on: devices[0])
    let merged = try latents(checkpoint(inBlocks: false).merging(changes), on: devices[0])
    #expect(relativeError(got, merged) < 1e-4)
  }

  /// Beside blocks a LoRA costs its own size; merged it would cost the changed weights' as numbers.
  @Test func blocksStayInMemory() throws {
    let device = Device(devices[0].backend)
    func loaded(_ checkpoint: Checkpoint) throws -> Int {
      let plan = try MemoryPlan(request, with: checkpoint, precision: .float32, on: device)
      return try #require(plan.stages.first { $0.name == "unet" }).loaded
    }
    let lora = try LoRAFile(url: Fixture.root.appending(path: "adapters/peft.safetensors"))
    let loha = try LoRAFile(url: Fixture.root.appending(path: "lycoris/loha.safetensors"))
    let base = try checkpoint(inBlocks: true)
    let (plain, beside) = (try loaded(base), try loaded(base.merging([(lora, 1)])))
    // Of 4 channels no weight is in blocks.
    let unet = lora.changes.filter { $0.target.component == "unet" && $0.target.layer != "conv_in" }
      .flatMap(\.names)
    let own = unet.reduce(0) { $0 + (lora.file.spec(of: $1)?.shape.count ?? 0) * 4 }
    #expect(beside == plain + own)
    let dense = try base.merging([(loha, 1)])
    #expect(try loaded(dense) > plain)
    let made = try dense.layersMadeDense()
    #expect(made.count > 0 && made.kinds == ["LoHa"])
  }
}

/// The numbers of blocks, which nobody sees.
private final class DecodedBlocks: WeightSource {
  private let base: any WeightSource

  init(_ base: any WeightSource) { self.base = base }

  var names: [String] { base.names }
  var description: String { base.description }
  func spec(of name: String) -> TensorSpec? { base.spec(of: name) }

  func load(_ name: String, on device: Device) throws -> Tensor {
    // A text encoder's tables are never read as blocks.
    guard !name.contains("embeddings."), let encoding = base.encoding(of: name),
      let shape = base.spec(of: name)?.shape
    else {
      return try base.load(name, on: device)
    }
    return try base.loadBlocks(name, on: device).dequantized(encoding).reshaped(shape)
  }
}
