import Foundation
import LangevinCPU
import LangevinModels
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin

private let cpu = Device(CPUBackend())

/// A transformer's file that takes the place of a model's own. Fixtures/single-file has those of three models under their
/// authors' names, by Tests/Golden/make_sd3.py, make_flux.py and make_wan.py: what diffusers' conversion makes the models' own of.
@Suite struct TransformerFileTests {
  enum Kind: String, CaseIterable, CustomTestStringConvertible {
    case flux = "tiny-flux"
    case sd3 = "tiny-sd3"
    case wan = "tiny-wan-image"

    var testDescription: String { rawValue }
  }

  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  private func model(_ name: String) throws -> Checkpoint {
    try Checkpoint.open(fixtures.appendingPathComponent(name))
  }

  /// The file's tensors, with every number doubled and something before their keys.
  private func write(
    _ kind: Kind, _ prefix: String = "",
    changing change: (inout [(name: String, tensor: Tensor)]) throws -> Void = { _ in }
  ) throws -> URL {
    let file = try SafetensorsFile(url: fixtures.appendingPathComponent("single-file/\(kind).safetensors"))
    var tensors = try file.names.map { name in
      (name: prefix + name, tensor: try file.load(name, on: cpu).affine(scale: 2, offset: 0))
    }
    try change(&tensors)
    let url = temporary.url.appendingPathComponent("\(UUID().uuidString).safetensors")
    try SafetensorsWriter.write(tensors, metadata: [:], to: url)
    return url
  }

  private func expectDoubled(_ kind: Kind, by url: URL) throws {
    let own = try model(kind.rawValue).component("transformer")
    let other = try model(kind.rawValue).replacingDenoiser(with: url).component("transformer")
    #expect(Set(other.weights.names) == Set(own.weights.names))
    #expect(other.config == own.config)
    for name in own.weights.names {
      let (found, expected) = (try other.weights.load(name, on: cpu), try own.weights.load(name, on: cpu))
      #expect(found.shape == expected.shape && other.weights.spec(of: name)?.shape == expected.shape)
      #expect(try found.floats() == expected.floats().map { $0 * 2 }, "\(name)")
    }
  }

  @Test(arguments: Kind.allCases, ["model.diffusion_model.", "diffusion_model.", ""])
  func theAuthorsNamesAreTheSameTransformer(kind: Kind, prefix: String) throws {
    try expectDoubled(kind, by: write(kind, prefix))
  }

  @Test(arguments: Kind.allCases) func diffusersNamesAreToo(kind: Kind) throws {
    let weights = try model(kind.rawValue).component("transformer").weights
    let url = temporary.url.appendingPathComponent("diffusers.safetensors")
    try SafetensorsWriter.write(
      try weights.names.map { ($0, try weights.load($0, on: cpu).affine(scale: 2, offset: 0)) },
      metadata: [:],
      to: url)
    try expectDoubled(kind, by: url)
  }

  /// A model without a picture has neither its encoder's layers nor a norm's.
  @Test func aVideoOfTextAloneHasLess() throws {
    let config = try WanTransformer3DConfig(model("tiny-wan").component("transformer").configuration)
    let names = SingleFileWan(config).table.rows.map(\.name)
    #expect(Set(names) == Set(try model("tiny-wan").component("transformer").weights.names))
  }

  @Test(arguments: Kind.allCases) func blocksOfAFileStayBlocks(kind: Kind) throws {
    let file = temporary.url.appendingPathComponent("blocks.gguf")
    _ = try GGUFConversion(write(kind), encoding: .q8, convolutions: true).write(to: file)
    let component = try model(kind.rawValue).replacingDenoiser(with: file).component("transformer")
    let (own, found) = (try model(kind.rawValue).component("transformer").weights, component.weights)
    let inBlocks = found.names.filter { found.encoding(of: $0) == .q8 }
    let part =
      switch kind {
      case .flux: "single_transformer_blocks.1.proj_mlp"
      case .sd3: "transformer_blocks.1.attn2.to_v"
      case .wan: "blocks.1.attn2.add_k_proj"
      }
    #expect(inBlocks.count > 20 && inBlocks.contains("\(part).weight"))
    for name in inBlocks {
      let numbers = try own.load(name, on: cpu).floats().map { $0 * 2 }
      let largest = numbers.map(abs).max() ?? 0
      let blocks = try found.loadBlocks(name, on: cpu)
      let loaded = try blocks.dequantized(.q8).floats()
      #expect(zip(loaded, numbers).allSatisfy { abs($0 - $1) <= largest / 200 }, "\(name)")
    }
    // The model reads all there is.
    let weights = Weights(found, on: cpu)
    switch kind {
    case .flux: _ = try FluxTransformer2DModel(FluxTransformer2DConfig(component.configuration), weights)
    case .sd3: _ = try SD3Transformer2DModel(SD3Transformer2DConfig(component.configuration), weights)
    case .wan: _ = try WanTransformer3DModel(WanTransformer3DConfig(component.configuration), weights)
    }
    try weights.finish()
  }

  /// stable-diffusion.cpp lays WAN's first convolution out along four axes.
  @Test func aConvolutionMayHaveFourAxes() throws {
    try expectDoubled(
      .wan,
      by: write(.wan) { tensors in
        for index in tensors.indices where tensors[index].name == "patch_embedding.weight" {
          let shape = tensors[index].tensor.shape
          tensors[index].tensor = try tensors[index].tensor.reshaped([
            shape[0] * shape[1], shape[2], shape[3], shape[4],
          ])
        }
      })
  }

  @Test(arguments: [(Kind.flux, "FLUX.1"), (.sd3, "Stable Diffusion 3"), (.wan, "WAN")])
  func aloneTheyAreNoModel(kind: Kind, family: String) throws {
    let error = try #require(throws: CheckpointError.self) {
      try Checkpoint.open(fixtures.appendingPathComponent("single-file/\(kind).safetensors"))
    }
    #expect("\(error)".contains("\(family) in one file is not supported"), "\(error)")
    #expect("\(error)".contains("its transformer in the place of a folder's own: --unet"), "\(error)")
  }

  @Test func whatDoesNotFitIsOneLine() throws {
    func refusal(_ url: URL, _ name: String) throws -> String {
      let error = try #require(throws: CheckpointError.self) { try model(name).replacingDenoiser(with: url) }
      #expect("\(error)".hasPrefix(url.path) && !"\(error)".contains("\n"), "\(error)")
      return "\(error)"
    }
    // Of a picture for a model of a text, and of dev for schnell.
    let other = try refusal(write(.wan), "tiny-wan")
    #expect(other.contains("and 12 input channels is not supported (supported: this model's"), "\(other)")
    let schnell = try refusal(write(.flux), "tiny-schnell")
    #expect(schnell.contains("and a scale of guidance is not supported"), "\(schnell)")
    #expect(try refusal(write(.wan), "tiny-flux").contains("a file with keys such as"))
    let few = try write(.wan) { $0.removeAll { $0.name == "head.head.bias" } }
    #expect(try refusal(few, "tiny-wan-image").contains("'head.head.bias'"))
    let extra = try write(.flux) { $0.append(("double_blocks.0.lora", $0[0].tensor)) }
    #expect(try refusal(extra, "tiny-flux").contains("double_blocks.0.lora"))
    let narrow = try write(.flux) { tensors in
      for index in tensors.indices where tensors[index].name == "single_blocks.0.linear1.bias" {
        tensors[index].tensor = try tensors[index].tensor.rows(0..<8)
      }
    }
    #expect(try refusal(narrow, "tiny-flux").contains("does not divide into 7 parts"))
  }
}
