import Foundation
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// FLUX's transformer against diffusers.
@Suite struct FluxTests {
  private func model(_ fixture: Fixture, _ setting: Setting) throws -> FluxTransformer2DModel {
    try FluxTransformer2DModel(
      FluxTransformer2DConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
  }

  @Test(arguments: ["flux_transformer", "flux_transformer_plain"], Setting.all)
  func transformer(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let guidance = fixture.io.names.contains("guidance") ? try inputs.floats("guidance")[0] : nil
    let output = try model(fixture, setting)(
      inputs.picture("latent"), timesteps: inputs.floats("timesteps"), text: inputs("text"),
      pooled: inputs("pooled"), guidance: guidance)
    try inputs.expect(output, is: "output")
  }

  /// Each image of a batch is what it is alone.
  @Test(arguments: devices) func imagesAreIndependent(device: Device) throws {
    let fixture = try Fixture("flux_transformer_plain")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let model = try model(fixture, Setting(device: device, dtype: .float32))
    let (latent, text, pooled) = (try inputs.picture("latent"), try inputs("text"), try inputs("pooled"))
    let both = try model(latent, timesteps: [431, 12.5], text: text, pooled: pooled).floats()
    let second = try model(
      latent.rows(1..<2), timesteps: [12.5], text: text.rows(1..<2), pooled: pooled.rows(1..<2)
    ).floats()
    #expect(relativeError(second, Array(both.suffix(both.count / 2))) < 1e-5)
  }

  /// What a block adds past float16's end is kept at it, as the reference does.
  @Test(arguments: devices) func halfPrecisionStaysFinite(device: Device) throws {
    let fixture = try Fixture("flux_transformer_plain")
    let inputs = Inputs(fixture, on: device, as: .float16)
    for layer in ["transformer_blocks.0.ff_context.net.2", "single_transformer_blocks.1.proj_out"] {
      let source = LouderSource(fixture.source, layer: layer + ".weight")
      let model = try FluxTransformer2DModel(
        FluxTransformer2DConfig(fixture.config), Weights(source, on: device, as: .float16))
      let output = try model(
        inputs.picture("latent"), timesteps: [431, 12.5], text: inputs("text"), pooled: inputs("pooled"))
      #expect(try output.nonFiniteCount() == 0, "\(layer)")
    }
  }

  @Test func defaultsAreTheReferences() throws {
    let config = try FluxTransformer2DConfig(ConfigObject(json: Data("{}".utf8)))
    #expect(config.channels == 3072 && config.layerCount == 19 && config.singleLayerCount == 38)
    #expect(config.inChannels == 64 && config.outChannels == 64 && config.axisChannels == [16, 56, 56])
    #expect(config.textChannels == 4096 && config.pooledChannels == 768 && !config.embedsGuidance)
  }

  @Test(arguments: [
    (#"{"_class_name": "Flux2Transformer2DModel"}"#, "Flux2Transformer2DModel"),
    (#"{"patch_size": 2}"#, "patch_size = 2"),
    (#"{"axes_dims_rope": [16, 56]}"#, "axes_dims_rope = [16,56]"),
    (#"{"axes_dims_rope": [15, 57, 56]}"#, "axes_dims_rope = [15,57,56]"),
    (#"{"attention_head_dim": 64}"#, "axes_dims_rope"),
    (#"{"in_channels": 18}"#, "in_channels = 18"),
    (#"{"guidance_embeds": "yes"}"#, "guidance_embeds"),
  ])
  func isRefused(text: String, words: String) {
    #expect {
      try FluxTransformer2DConfig(ConfigObject(json: Data(text.utf8)))
    } throws: { "\($0)".contains(words) }
  }

  @Test func badInputsAreNamed() throws {
    let device = devices[0]
    let model = try model(Fixture("flux_transformer"), Setting(device: device, dtype: .float32))
    func zeros(_ shape: Shape) throws -> Tensor { try .fill(0, shape, on: device) }
    let (latent, text, pooled) = (try zeros([1, 4, 4, 2]), try zeros([1, 7, 20]), try zeros([1, 14]))
    let bad: [(Tensor, [Float], Tensor, Tensor, Float?, String)] = [
      (try zeros([1, 4, 4, 8]), [1], text, pooled, 1, "takes [N, H, W, 2]"),
      (try zeros([1, 4, 5, 2]), [1], text, pooled, 1, "4x5: its extents must be multiples of 2"),
      (latent, [1, 2], text, pooled, 1, "2 timesteps for 1 images"),
      (latent, [1], try zeros([1, 7, 19]), pooled, 1, "takes [1, T, 20]"),
      (latent, [1], text, try zeros([2, 14]), 1, "takes [1, 14]"),
      (latent, [1], text, pooled, nil, "needs a scale of guidance"),
    ]
    for (latent, timesteps, text, pooled, guidance, words) in bad {
      #expect {
        try model(latent, timesteps: timesteps, text: text, pooled: pooled, guidance: guidance)
      } throws: { "\($0)".contains(words) }
    }
  }
}

/// A source with one layer's weights a million times as large, or as large as float16 has them.
private final class LouderSource: WeightSource {
  let base: any WeightSource
  let layer: String

  init(_ base: any WeightSource, layer: String) { (self.base, self.layer) = (base, layer) }

  var names: [String] { base.names }
  var description: String { base.description }
  func spec(of name: String) -> TensorSpec? { base.spec(of: name) }
  func load(_ name: String, on device: Device) throws -> Tensor {
    let tensor = try base.load(name, on: device)
    return name == layer ? try (tensor.cast(to: .float32) * 1e6).clamped(-6e4, 6e4) : tensor
  }
}
