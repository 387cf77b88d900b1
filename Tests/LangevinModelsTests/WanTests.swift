import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// WAN's transformer against diffusers.
@Suite struct WanTests {
  @Test(arguments: ["wan_transformer", "wan_transformer_patches", "wan_transformer_image"], Setting.all)
  func transformer(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try WanTransformer3DModel(
      WanTransformer3DConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let output = try model(
      inputs.video("latent"), timesteps: inputs.floats("timesteps"), text: inputs("text"),
      image: fixture.io.names.contains("image") ? inputs("image") : nil)
    try inputs.expect(output, is: "output")
  }

  /// Each video of a batch is what it is alone.
  @Test(arguments: devices) func videosAreIndependent(device: Device) throws {
    let fixture = try Fixture("wan_transformer_patches")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let model = try WanTransformer3DModel(
      WanTransformer3DConfig(fixture.config), fixture.weights(on: device, as: .float32))
    let (latent, text) = (try inputs.video("latent"), try inputs("text"))
    let both = try model(latent, timesteps: [431, 12.5], text: text).floats()
    let second = try model(latent.rows(1..<2), timesteps: [12.5], text: text.rows(1..<2)).floats()
    #expect(relativeError(second, Array(both.suffix(both.count / 2))) < 1e-5)
  }

  @Test func defaultsAreTheReferences() throws {
    let config = try WanTransformer3DConfig(ConfigObject(json: Data("{}".utf8)))
    #expect(config.channels == 5120 && config.layerCount == 40 && config.feedForwardChannels == 13824)
    #expect(config.patch == WanTransformer3DConfig.Patch(frames: 1, height: 2, width: 2))
    #expect(config.imageChannels == nil && config.outChannels == 16 && config.maximumPositions == 1024)
  }

  @Test(arguments: [
    (#"{"qk_norm": "layer_norm"}"#, #"qk_norm = "layer_norm""#),
    (#"{"pos_embed_seq_len": 514}"#, "pos_embed_seq_len = 514"),
    (#"{"patch_size": [2, 2]}"#, "patch_size = [2,2]"),
    (#"{"attention_head_dim": 15}"#, "attention_head_dim = 15"),
    (#"{"freq_dim": 7}"#, "freq_dim = 7"),
    (#"{"image_dim": 1280}"#, "added_kv_proj_dim = absent"),
    (#"{"added_kv_proj_dim": 5120}"#, "added_kv_proj_dim = 5120"),
    (#"{"_class_name": "WanVACETransformer3DModel"}"#, "WanVACETransformer3DModel"),
  ])
  func isRefused(text: String, words: String) {
    #expect {
      try WanTransformer3DConfig(ConfigObject(json: Data(text.utf8)))
    } throws: { "\($0)".contains(words) }
  }

  @Test func badInputsAreNamed() throws {
    let device = devices[0]
    let fixture = try Fixture("wan_transformer")
    let model = try WanTransformer3DModel(
      WanTransformer3DConfig(fixture.config), fixture.weights(on: device, as: .float32))
    func zeros(_ shape: Shape) throws -> Tensor { try .fill(0, shape, on: device) }
    let text = try zeros([1, 7, 20])
    let bad: [(Tensor, [Float], Tensor, Tensor?, String)] = [
      (try zeros([1, 3, 4, 4]), [1], text, nil, "takes [N, F, H, W, 4]"),
      (try zeros([1, 3, 5, 4, 4]), [1], text, nil, "3 frames of 5x4: they must be multiples of 1 and 2x2"),
      (try zeros([1, 3, 4, 4, 4]), [1, 2], text, nil, "2 timesteps for 1 videos"),
      (try zeros([1, 3, 4, 4, 4]), [1], try zeros([2, 7, 20]), nil, "takes [1, T, 20]"),
      (try zeros([1, 1, 2, 2050, 4]), [1], text, nil, "1025 tokens along an axis"),
      (try zeros([1, 3, 4, 4, 4]), [1], text, text, "takes no image"),
    ]
    for (latent, timesteps, text, image, words) in bad {
      #expect {
        try model(latent, timesteps: timesteps, text: text, image: image)
      } throws: { "\($0)".contains(words) }
    }
  }

  @Test func aMissingImageIsNamed() throws {
    let fixture = try Fixture("wan_transformer_image")
    let inputs = Inputs(fixture, on: devices[0], as: .float32)
    let model = try WanTransformer3DModel(
      WanTransformer3DConfig(fixture.config), fixture.weights(on: devices[0], as: .float32))
    #expect {
      try model(inputs.video("latent"), timesteps: [1, 2], text: inputs("text"))
    } throws: { "\($0)".contains("takes an image's states [2, S, 14], got none") }
  }
}
