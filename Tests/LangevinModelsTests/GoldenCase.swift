import Foundation
import Langevin
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// A loss of a model as a function of its parameters and inputs; Tests/Golden/make_gradients.py defines each, and
/// stores what PyTorch computes of it in float64.
struct GoldenCase {
  /// What lies beside the tensors.
  struct Description: Decodable {
    let config: String
    let weights: String
    /// The file of frozen parameters.
    let base: String?
    let loss: Double
    /// Parameters that the loss does not depend on.
    let unreached: Set<String>
    /// Tensors whose gradient is zero but for rounding, stored as zeros: errors there are relative to the case's
    /// largest gradient.
    let vanishing: Set<String>
    /// By how much a float16 loss is to be multiplied before its backward pass.
    let float16Scale: Float
  }

  static let names = [
    "tiny_sd_unet", "unet_scale_shift", "tiny_ddpm_unet", "vae", "tiny_clip", "prior_karlo", "lora",
  ]

  let name: String
  let description: Description
  let file: SafetensorsFile
  private let config: ConfigObject
  private let weights: SafetensorsFile
  private let base: SafetensorsFile?

  init(_ name: String) throws {
    self.name = name
    let url = Fixture.root.appending(path: "gradients/\(name)")
    description = try JSONDecoder().decode(
      Description.self, from: Data(contentsOf: url.appendingPathExtension("json")))
    file = try SafetensorsFile(url: url.appendingPathExtension("safetensors"))
    config = try ConfigObject(json: Data(contentsOf: Fixture.root.appending(path: description.config)))
    weights = try SafetensorsFile(url: Fixture.root.appending(path: description.weights))
    base = try description.base.map { try SafetensorsFile(url: Fixture.root.appending(path: $0)) }
  }

  /// Whatever has a gradient, in float32, under the name that its gradient has in the file: `gradient.PARAMETER` and
  /// `inputGradient.NAME`.
  func leaves(on device: Device) throws -> [String: Tensor] {
    var leaves: [String: Tensor] = [:]
    for name in weights.names {
      leaves["gradient.\(name)"] = try weights.load(name, on: device).cast(to: .float32)
    }
    for name in file.names where name.hasPrefix("inputGradient.") {
      leaves[name] = try file.load("input.\(name.dropFirst("inputGradient.".count))", on: device)
    }
    return leaves
  }

  /// What the model computes of the leaves in `dtype`, under PyTorch's names, and the float32 loss [1].
  func evaluate(_ leaves: [String: Tensor], on device: Device, as dtype: DType) throws
    -> (outputs: [String: Tensor], loss: Tensor)
  {
    let parameters = leaves.filter { $0.key.hasPrefix("gradient.") }.map { ($0.key.dropFirst(9), $0.value) }
    let source = TensorSource(
      try base.map { try merged($0, parameters, on: device) }
        ?? Dictionary(uniqueKeysWithValues: parameters.map { (String($0), $1) }))
    let weights = Weights(source, on: device, as: dtype)

    func input(_ name: String) throws -> Tensor {
      try #require(leaves["inputGradient.\(name)"]).cast(to: dtype)
    }
    func picture(_ name: String) throws -> Tensor { try input(name).transposed([0, 2, 3, 1]) }
    func rows(_ name: String) throws -> [[Int32]] {
      let tensor = try file.load("input.\(name)", on: device)
      let (numbers, length) = (try tensor.int32s(), tensor.shape[1])
      return (0..<tensor.shape[0]).map { Array(numbers[$0 * length..<($0 + 1) * length]) }
    }
    func timesteps() throws -> [Float] { try file.load("input.timesteps", on: device).floats() }

    switch name {
    case "tiny_sd_unet", "unet_scale_shift", "lora":
      let model = try UNet2DConditionModel(UNet2DConditionConfig(config), weights)
      var conditioning = UNetConditioning(context: try input("context"))
      if name == "unet_scale_shift" { conditioning.classLabels = .vectors(try input("class_labels")) }
      let output = try model(picture("sample"), timesteps: timesteps(), conditioning: conditioning)
      return (["sample": output], try meanSquare(output, picture("noise")))

    case "tiny_ddpm_unet":
      let model = try UNet2DModel(UNet2DConfig(config), weights)
      let output = try model(picture("sample"), timesteps: timesteps())
      return (["sample": output], try meanSquare(output, picture("noise")))

    case "vae":
      let model = try AutoencoderKL(AutoencoderKLConfig(config), weights)
      let posterior = try model.encode(picture("picture"))
      let decoded = try model.decode(posterior.sample(noise: picture("noise")))
      let (mean, logVariance) = (posterior.mean, posterior.logVariance)
      let loss = try meanAbsolute(decoded, picture("target")) + meanDivergence(mean, logVariance) * 0.5
      return (["mean": mean, "logvar": logVariance, "decoded": decoded], loss)

    case "tiny_clip":
      let model = try CLIPModel(CLIPConfig(config), weights)
      let images = try model.imageFeatures(picture("pictures"))
      let texts = try model.textFeatures(rows("ids"))
      let scale = try #require(leaves["gradient.logit_scale"])
      return (["images": images, "texts": texts], try contrastive(images, texts, logitScale: scale))

    case "prior_karlo":
      let model = try PriorTransformer(PriorTransformerConfig(config), weights)
      let mask = try model.attentionMask(visible: rows("mask").map { $0.map { $0 != 0 } })
      let output = try model(
        input("sample"), timesteps: timesteps(), embedding: input("embedding"), text: input("text"),
        mask: mask)
      return (["embedding": output], try meanSquare(output, input("target")))

    default:
      throw ModelError.invalidInput(model: name, reason: "there is no such case")
    }
  }

  /// W + (alpha / rank) B A where there is an adapter; alpha is 8, the rank 4.
  private func merged(
    _ base: SafetensorsFile, _ adapters: [(Substring, Tensor)], on device: Device
  ) throws -> [String: Tensor] {
    let adapters = Dictionary(uniqueKeysWithValues: adapters)
    var result: [String: Tensor] = [:]
    for name in base.names {
      let weight = try base.load(name, on: device).cast(to: .float32)
      let path = "unet.\(name.hasSuffix(".weight") ? String(name.dropLast(7)) : name)"
      if let down = adapters["\(path).lora_A.weight"], let up = adapters["\(path).lora_B.weight"] {
        result[name] = try up.matmul(down, scale: 8 / 4, residual: weight)
      } else {
        result[name] = weight
      }
    }
    return result
  }
}

/// Tensors by name, as a model's weights.
private final class TensorSource: WeightSource {
  private let tensors: [String: Tensor]

  init(_ tensors: [String: Tensor]) { self.tensors = tensors }

  var description: String { "tensors in memory" }
  var names: [String] { Array(tensors.keys) }
  func spec(of name: String) -> TensorSpec? { tensors[name].map { TensorSpec($0.shape, $0.dtype) } }
  func load(_ name: String, on device: Device) throws -> Tensor {
    guard let tensor = tensors[name] else { throw WeightError.missing(name: name, source: description) }
    return tensor
  }
}

// MARK: Losses, in float32 whatever the model computes in

private func mean(_ x: Tensor) throws -> Tensor {
  try x.reduced(.mean, axes: Array(0..<x.shape.rank)).reshaped([1])
}

private func difference(_ a: Tensor, _ b: Tensor) throws -> Tensor {
  try a.cast(to: .float32) - b.cast(to: .float32)
}

private func meanSquare(_ a: Tensor, _ b: Tensor) throws -> Tensor { try mean(difference(a, b).map(.square)) }

private func meanAbsolute(_ a: Tensor, _ b: Tensor) throws -> Tensor { try mean(difference(a, b).map(.abs)) }

/// Of normal distributions from the standard one.
private func meanDivergence(_ mean: Tensor, _ logVariance: Tensor) throws -> Tensor {
  let (mean, logVariance) = (try mean.cast(to: .float32), try logVariance.cast(to: .float32))
  let terms = try mean.map(.square) + logVariance.map(.exp) - 1 - logVariance
  return try LangevinModelsTests.mean(terms) * 0.5
}

/// Cross entropy of each picture among the texts and of each text among the pictures.
private func contrastive(_ images: Tensor, _ texts: Tensor, logitScale: Tensor) throws -> Tensor {
  let (images, texts) = (try CLIPModel.normalized(images), try CLIPModel.normalized(texts))
  let scores = try images.matmul(texts, right: .transposed) * logitScale.reshaped([1]).map(.exp)
  let count = scores.shape[0]
  let unit = try Tensor(
    (0..<count * count).map { Float($0 % (count + 1) == 0 ? 1 : 0) }, [count, count], on: scores.device)
  let own = try (scores * unit).reduced(.sum, axes: [0, 1]).reshaped([1]) / Float(count)
  // The scores are small enough for exp.
  let sums = try [0, 1].map { try mean(scores.map(.exp).reduced(.sum, axes: [$0]).map(.log)) }
  return try (sums[0] + sums[1]) * 0.5 - own
}
