import Foundation
import Langevin
import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTestSupport
import Testing

/// What LoRA and textual inversion begin from, and that gradients reach it.
@Suite struct AdapterParametersTests {
  private static let fixtures = Fixtures.url
  private let device = Device(CPUBackend())

  private func model() throws -> Checkpoint { try Checkpoint.open(Self.fixtures.appending(path: "tiny-sd")) }

  @Test func theProjectionsOfAttentionAreTheDefault() throws {
    let unet = try model().unet.weights
    let lora = try LoRAParameters(of: unet, rank: 4, alpha: 8, seed: 1)
    // Two attentions in each of four transformers.
    #expect(lora.layers.count == 4 * 2 * 4 && lora.names.count == 64)
    for name in lora.names {
      let shape = try #require(lora.spec(of: name)?.shape)
      let layer = name.replacing(".lora_A.weight", with: "").replacing(".lora_B.weight", with: "")
      let weight = try #require(unet.spec(of: "\(layer).weight")?.shape)
      #expect(shape == (name.hasSuffix("lora_A.weight") ? [4, weight[1]] : [weight[0], 4]))
    }
    let text = try LoRAParameters(
      of: model().textEncoder.weights, targets: LoRAParameters.textTargets, rank: 2, seed: 1)
    #expect(text.layers.count == 8 && text.alpha == 2)
  }

  @Test func initialValuesAreAFunctionOfSeedAndLayer() throws {
    let unet = try model().unet.weights
    func values(_ targets: [String], _ seed: UInt64, _ name: String) throws -> [Float] {
      try LoRAParameters(of: unet, targets: targets, rank: 16, seed: seed).load(name, on: device).floats()
    }
    let layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    let (down, up) = ("\(layer).lora_A.weight", "\(layer).lora_B.weight")
    let first = try values(["to_k"], 7, down)
    #expect(try values(["to_q", "attn2.to_k"], 7, down) == first)
    #expect(try values(["to_k"], 8, down) != first)
    #expect(try values(["to_k"], 7, down.replacing("mid_block", with: "up_blocks.1")) != first)
    #expect(try values(["to_k"], 7, up).allSatisfy { $0 == 0 })
    // Uniform within 1 / sqrt(64): 1024 values have the mean 0 and the variance bound^2 / 3, to five deviations.
    let bound: Float = 1 / 8
    #expect(first.count == 16 * 64 && first.allSatisfy { abs($0) < bound })
    let mean = first.reduce(0, +) / Float(first.count)
    let variance = first.reduce(0) { $0 + $1 * $1 } / Float(first.count)
    #expect(abs(mean) < 5 * bound / (3 * 1024).squareRoot())
    #expect(abs(variance / (bound * bound / 3) - 1) < 5 * 0.9 / 32)
    #expect((first.max() ?? 0) > 0.99 * bound && (first.min() ?? 0) < -0.99 * bound)
  }

  @Test func targetsThatAreNoLinearLayersAreNamed() throws {
    let unet = try model().unet.weights
    func error(_ targets: [String]) throws -> AdapterError {
      try #require(throws: AdapterError.self) {
        try LoRAParameters(of: unet, targets: targets, rank: 4, seed: 1)
      }
    }
    #expect(try error(["to_k", "to_z"]) == .noLayer(pattern: "to_z", source: unet.description))
    // An end of a name is whole words.
    #expect(try error(["o_k"]) == .noLayer(pattern: "o_k", source: unet.description))
    guard case .notLinear("conv_in", [32, 4, 3, 3], _) = try error(["conv_in"]) else {
      Issue.record("a convolution was taken")
      return
    }
    guard case .notLinear = try error(["norm1"]) else {
      Issue.record("a norm was taken")
      return
    }
    // A 1x1 convolution is linear.
    #expect(try LoRAParameters(of: unet, targets: ["proj_in"], rank: 4, seed: 1).layers.count == 4)
  }

  /// At the start B is zero: the network is as it was, the gradient of B is not zero and that of A is.
  @Test func gradientsReachNewAdapters() throws {
    let unet = try model().unet
    let lora = try LoRAParameters(
      of: unet.weights, targets: LoRAParameters.unetTargets + ["proj_in"], rank: 4, seed: 3)
    let config = try UNet2DConditionConfig(unet.configuration)
    func output(_ source: any WeightSource) throws -> Tensor {
      let model = try UNet2DConditionModel(config, Weights(source, on: device))
      let sample = try Tensor.normal([1, 8, 8, 4], seed: 1, on: device)
      let context = try Tensor.normal([1, 5, 64], seed: 2, on: device)
      return try model(sample, timesteps: [500], context: context)
    }
    let tape = Tape()
    let watched = WatchedWeights(lora, by: tape)
    let result = try output(AdaptedWeights(unet.weights, adapters: watched, alpha: lora.alpha))
    #expect(try result.floats() == output(unet.weights).floats())
    let loss = try result.map(.square).reduced(.mean, axes: [0, 1, 2, 3]).reshaped([1])
    let names = watched.parameters.keys.sorted()
    #expect(names == lora.names.sorted())
    let gradients = try tape.gradients(of: loss, at: names.compactMap { watched.parameters[$0] })
    for (name, gradient) in zip(names, gradients) {
      let largest = try #require(try gradient?.floats().map(abs).max())
      #expect((largest > 0) == name.hasSuffix("lora_B.weight"), "\(name): \(largest)")
    }
  }

  @Test func aNewTokenBeginsAsACopyAndIsReachedByGradients() throws {
    let model = try model()
    let (text, tokenizer) = (try model.textEncoder, try model.tokenizer.load())
    let parameters = try InversionParameters(of: text.weights, initializer: "face", tokenizer, count: 2)
    let table = try #require(ExtendedTable.tableName(in: text.weights))
    let id = try #require(tokenizer.encode("face").first)
    let row = try text.weights.load(table, on: device).rows(Int(id)..<Int(id) + 1).floats()
    #expect(try parameters.load(InversionParameters.name, on: device).floats() == row + row)

    let tape = Tape()
    let watched = WatchedWeights(parameters, by: tape)
    var config = try CLIPTextConfig(text.configuration)
    let first = Int32(config.vocabularySize)
    config.vocabularySize += 2
    let source = ExtendedTable(text.weights, adding: [(source: watched, name: InversionParameters.name)])
    let encoder = try CLIPTextModel(config, Weights(source, on: device))
    let ids = [tokenizer.startToken, first, tokenizer.endToken]
    let states = try encoder([ids]).lastHiddenState
    let known = try CLIPTextModel(CLIPTextConfig(text.configuration), Weights(text.weights, on: device))
    #expect(
      try states.floats() == known([[tokenizer.startToken, id, tokenizer.endToken]]).lastHiddenState.floats())
    let loss = try states.map(.square).reduced(.mean, axes: [0, 1, 2]).reshaped([1])
    let leaf = try #require(watched.parameters[InversionParameters.name])
    let gradient = try #require(try tape.gradients(of: loss, at: [leaf])[0]).floats()
    #expect(gradient.prefix(64).contains { $0 != 0 } && gradient.dropFirst(64).allSatisfy { $0 == 0 })

    for initializer in ["", "a face"] {
      #expect(throws: AdapterError.self) {
        try InversionParameters(of: text.weights, initializer: initializer, tokenizer)
      }
    }
  }
}
