import Foundation
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// Stable Diffusion 3's transformer against diffusers.
@Suite struct SD3Tests {
  @Test(arguments: ["sd3_transformer", "sd3_transformer_dual"], Setting.all)
  func transformer(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try SD3Transformer2DModel(
      SD3Transformer2DConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let output = try model(
      inputs.picture("latent"), timesteps: inputs.floats("timesteps"), text: inputs("text"),
      pooled: inputs("pooled"))
    try inputs.expect(output, is: "output")
  }

  /// Each image of a batch is what it is alone.
  @Test(arguments: devices) func imagesAreIndependent(device: Device) throws {
    let fixture = try Fixture("sd3_transformer_dual")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let model = try SD3Transformer2DModel(
      SD3Transformer2DConfig(fixture.config), fixture.weights(on: device, as: .float32))
    let (latent, text, pooled) = (try inputs.picture("latent"), try inputs("text"), try inputs("pooled"))
    let both = try model(latent, timesteps: [431, 12.5], text: text, pooled: pooled).floats()
    let second = try model(
      latent.rows(1..<2), timesteps: [12.5], text: text.rows(1..<2), pooled: pooled.rows(1..<2)
    ).floats()
    #expect(relativeError(second, Array(both.suffix(both.count / 2))) < 1e-5)
  }

  @Test func defaultsAreTheReferences() throws {
    let config = try SD3Transformer2DConfig(
      ConfigObject(json: Data(#"{"caption_projection_dim": 1152}"#.utf8)))
    #expect(config.channels == 1152 && config.layerCount == 18 && config.maximumPositions == 96)
    #expect(config.sampleSize == 128 && config.patch == 2 && config.outChannels == 16)
    #expect(!config.normalizesHeads && config.dualAttentionLayers.isEmpty)
  }

  @Test(arguments: [
    (#"{"qk_norm": "layer_norm"}"#, #"qk_norm = "layer_norm""#),
    (#"{"_class_name": "SD3ControlNetModel"}"#, "SD3ControlNetModel"),
    (#"{"dual_attention_layers": [0, 18]}"#, "dual_attention_layers = [0,18]"),
    (#"{"dual_attention_layers": [0.5]}"#, "dual_attention_layers = [0.5]"),
    (#"{"dual_attention_layers": 3}"#, "dual_attention_layers = 3"),
    (#"{"caption_projection_dim": 1536}"#, "caption_projection_dim = 1536"),
    (#"{"sample_size": 127}"#, "sample_size = 127"),
    (#"{"sample_size": 256, "pos_embed_max_size": 96}"#, "sample_size = 256"),
    (#"{"pos_embed_max_size": null, "sample_size": 400}"#, "sample_size = 400"),
  ])
  func isRefused(text: String, words: String) {
    #expect {
      try SD3Transformer2DConfig(ConfigObject(json: Data(text.utf8)))
    } throws: { "\($0)".contains(words) }
  }

  @Test func badInputsAreNamed() throws {
    let device = devices[0]
    let fixture = try Fixture("sd3_transformer")
    let model = try SD3Transformer2DModel(
      SD3Transformer2DConfig(fixture.config), fixture.weights(on: device, as: .float32))
    func zeros(_ shape: Shape) throws -> Tensor { try .fill(0, shape, on: device) }
    let (latent, text, pooled) = (try zeros([1, 4, 4, 4]), try zeros([1, 7, 20]), try zeros([1, 14]))
    let bad: [(Tensor, [Float], Tensor, Tensor, String)] = [
      (try zeros([4, 4, 4]), [1], text, pooled, "takes [N, H, W, 4]"),
      (try zeros([1, 4, 5, 4]), [1], text, pooled, "4x5: its extents must be multiples of 2"),
      (try zeros([1, 4, 20, 4]), [1], text, pooled, "10 tokens along an axis, the network has 9"),
      (latent, [1, 2], text, pooled, "2 timesteps for 1 images"),
      (latent, [1], try zeros([1, 7, 19]), pooled, "takes [1, T, 20]"),
      (latent, [1], text, try zeros([2, 14]), "takes [1, 14]"),
    ]
    for (latent, timesteps, text, pooled, words) in bad {
      #expect {
        try model(latent, timesteps: timesteps, text: text, pooled: pooled)
      } throws: { "\($0)".contains(words) }
    }
  }
}
