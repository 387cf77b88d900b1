import Foundation
import Langevin
import LangevinNN
import LangevinTensor
import Synchronization
import Testing

@testable import LangevinModels

/// Gradients of whole models against PyTorch in float64, by Tests/Golden/make_gradients.py.
@Suite struct GoldenGradientTests {
  private struct Index: Decodable {
    let config: String
    let weights: String
    /// Of adapters, what they are added to.
    let base: String?
    let loss: Double
    let unreached: [String]
    let vanishing: [String]
  }

  /// What a loss is computed from: inputs that are watched, in the dtype of the model.
  private final class Model: Sendable {
    let file: SafetensorsFile
    let config: ConfigObject
    let weights: Weights
    let tape: Tape
    let leaves = Mutex<[String: Tensor]>([:])
    let dtype: DType
    let device: Device

    init(
      _ file: SafetensorsFile, config: ConfigObject, weights: Weights, tape: Tape, _ setting: Setting
    ) {
      (self.file, self.config, self.weights, self.tape) = (file, config, weights, tape)
      (dtype, device) = (setting.dtype, setting.device)
    }

    /// A watched input in PyTorch's layout, as the model takes it.
    func callAsFunction(_ name: String) throws -> Tensor {
      let leaf = tape.watch(try file.load("input.\(name)", on: device).cast(to: .float32))
      leaves.withLock { $0[name] = leaf }
      return try leaf.cast(to: dtype)
    }

    func picture(_ name: String) throws -> Tensor { try self(name).transposed([0, 2, 3, 1]) }

    func floats(_ name: String) throws -> [Float] { try file.load("input.\(name)", on: device).floats() }

    func rows(_ name: String) throws -> [[Int32]] {
      let ids = try file.load("input.\(name)", on: device)
      let width = ids.shape[1]
      let all = try ids.int32s()
      return (0..<ids.shape[0]).map { Array(all[$0 * width..<($0 + 1) * width]) }
    }
  }

  private static func mean(_ x: Tensor) throws -> Tensor {
    try x.reduced(.mean, axes: Array(0..<x.shape.rank)).reshaped([1])
  }

  /// In float32, whatever the storage.
  private static func meanSquare(_ a: Tensor, _ b: Tensor) throws -> Tensor {
    try mean((a.cast(to: .float32) - b.cast(to: .float32)).map(.square))
  }

  /// `log sum exp` of each row.
  private static func logSumExp(_ x: Tensor) throws -> Tensor {
    let maximum = try x.untraced.reduced(.maximum, axes: [1])
    return try (x - maximum).map(.exp).reduced(.sum, axes: [1]).map(.log) + maximum
  }

  private static let losses: [String: @Sendable (Model) throws -> Tensor] = [
    "tiny_sd_unet": { model in
      let unet = try UNet2DConditionModel(UNet2DConditionConfig(model.config), model.weights)
      let output = try unet(
        model.picture("sample"), timesteps: model.floats("timesteps"), context: model("context"))
      return try meanSquare(output, model.picture("noise"))
    },
    "lora": { model in
      let unet = try UNet2DConditionModel(UNet2DConditionConfig(model.config), model.weights)
      let output = try unet(
        model.picture("sample"), timesteps: model.floats("timesteps"), context: model("context"))
      return try meanSquare(output, model.picture("noise"))
    },
    "unet_scale_shift": { model in
      let unet = try UNet2DConditionModel(UNet2DConditionConfig(model.config), model.weights)
      let conditioning = UNetConditioning(
        context: try model("context"), classLabels: .vectors(try model("class_labels")))
      let output = try unet(
        model.picture("sample"), timesteps: model.floats("timesteps"), conditioning: conditioning)
      return try meanSquare(output, model.picture("noise"))
    },
    "tiny_ddpm_unet": { model in
      let unet = try UNet2DModel(UNet2DConfig(model.config), model.weights)
      let output = try unet(model.picture("sample"), timesteps: model.floats("timesteps"))
      return try meanSquare(output, model.picture("noise"))
    },
    "vae": { model in
      let vae = try AutoencoderKL(AutoencoderKLConfig(model.config), model.weights)
      let latent = try vae.encode(model.picture("picture"))
      let decoded = try vae.decode(latent.sample(noise: model.picture("noise"))).cast(to: .float32)
      let difference = try decoded - model.picture("target").cast(to: .float32)
      let (mean, logVariance) = (
        try latent.mean.cast(to: .float32), try latent.logVariance.cast(to: .float32)
      )
      let divergence = try (mean.map(.square) + logVariance.map(.exp) - 1 - logVariance) * 0.5
      return try Self.mean(difference.map(.abs)) + Self.mean(divergence) * 0.5
    },
    "tiny_clip": { model in
      let clip = try CLIPModel(CLIPConfig(model.config), model.weights)
      let images = try clip.imageEmbeds(model.picture("pictures"))
      let texts = try clip.textEmbeds(model.rows("ids"))
      let scale = try clip.logScale.cast(to: .float32).map(.exp)
      let scores = try images.matmul(texts, right: .transposed) * scale
      let own = try (images * texts).reduced(.sum, axes: [1]) * scale
      let rows = try mean(logSumExp(scores) - own)
      let columns = try mean(logSumExp(scores.transposed([1, 0])) - own)
      return try (rows + columns) * 0.5
    },
    "prior_karlo": { model in
      let prior = try PriorTransformer(PriorTransformerConfig(model.config), model.weights)
      let mask = try prior.attentionMask(visible: model.rows("mask").map { $0.map { $0 != 0 } })
      let output = try prior(
        model("sample"), timesteps: model.floats("timesteps"), embedding: model("embedding"),
        text: model("text"), mask: mask)
      return try meanSquare(output, model("target"))
    },
  ]

  @Test(arguments: losses.keys.sorted(), Setting.all)
  func everyParameterAndInput(name: String, setting: Setting) throws {
    let folder = Fixture.root.appending(path: "gradients")
    let index = try JSONDecoder().decode(
      Index.self, from: Data(contentsOf: folder.appending(path: "\(name).json")))
    let file = try SafetensorsFile(url: folder.appending(path: "\(name).safetensors"))
    let tape = Tape()
    let watched = WatchedWeights(
      try SafetensorsFile(url: Fixture.root.appending(path: index.weights)), by: tape)
    // The base of adapters is frozen.
    let source: any WeightSource =
      try index.base.map { base in
        AdaptedWeights(
          try SafetensorsFile(url: Fixture.root.appending(path: base)), adapters: watched, prefix: "unet.",
          alpha: 8)
      } ?? watched
    let model = Model(
      file, config: try ConfigObject(json: Data(contentsOf: Fixture.root.appending(path: index.config))),
      weights: Weights(source, on: setting.device, as: setting.dtype), tape: tape, setting)
    let lossOf = try #require(Self.losses[name])
    let loss = try lossOf(model)
    let expected = Float(index.loss)
    #expect(try abs(loss.floats()[0] - expected) < (setting.dtype == .float32 ? 1e-5 : 1e-2) * expected)

    // Gradients in float16 underflow unless they are scaled up.
    let scale: Float = setting.dtype == .float32 ? 1 : 1024
    let leaves = Dictionary(
      uniqueKeysWithValues: watched.parameters.map { ("gradient.\($0)", $1) }
        + model.leaves.withLock { $0 }.map { ("inputGradient.\($0)", $1) })
    let keys = leaves.keys.sorted()
    let gradients = try tape.gradients(of: loss, scale: scale, at: keys.compactMap { leaves[$0] })
    let found = Dictionary(uniqueKeysWithValues: zip(keys, gradients))

    let names = file.names.filter { $0.hasPrefix("gradient.") || $0.hasPrefix("inputGradient.") }
    #expect(names.count > 10)
    var largest: Float = 0
    for key in names {
      largest = try max(largest, file.load(key, on: setting.device).floats().map(abs).max() ?? 0)
    }
    for key in names where !index.unreached.contains(String(key.dropFirst("gradient.".count))) {
      guard let gradient = found[key] ?? nil else {
        Issue.record("no gradient arrives at \(key)")
        continue
      }
      let expected = try file.load(key, on: setting.device)
      #expect(gradient.shape == expected.shape, "\(key)")
      let got = try gradient.floats().map { $0 / scale }
      let wanted = try expected.floats()
      let size = index.vanishing.contains(key) ? largest : wanted.map(abs).max() ?? 0
      let error = zip(got, wanted).reduce(0) { max($0, abs($1.0 - $1.1)) } / size
      #expect(
        error < (setting.dtype == .float32 ? 1e-4 : 2e-2),
        "\(key) differs by \(error) on \(setting.device.name)")
    }
    for name in index.unreached { #expect((found["gradient.\(name)"] ?? nil) == nil, "\(name)") }
  }
}
