import Foundation
import Langevin
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// Both encoders of CLIP against transformers, by Tests/Golden/make_clip.py.
@Suite struct CLIPTests {
  /// Token ids as a fixture stores them.
  private func prompts(_ fixture: Fixture, on device: Device) throws -> [[Int32]] {
    let ids = try fixture.io.load("ids", on: device)
    let flat = try ids.int32s()
    return (0..<ids.shape[0]).map { Array(flat[$0 * ids.shape[1]..<($0 + 1) * ids.shape[1]]) }
  }

  @Test(arguments: Setting.all) func vision(setting: Setting) throws {
    let fixture = try Fixture("vision_quick_gelu")
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try CLIPVisionModel(
      CLIPVisionConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let pictures = try inputs.picture("pictures")
    let output = try model(pictures)
    try inputs.expect(output.lastHiddenState, is: "last_hidden_state")
    try inputs.expect(output.pooled, is: "pooled")
    try inputs.expect(output.hiddenState, is: "hidden_penultimate")
    try inputs.expect(model(pictures, skipLast: 0).hiddenState, is: "hidden_last")
    try inputs.expect(model(pictures, skipLast: 2).hiddenState, is: "hidden_first")
  }

  @Test(arguments: Setting.all) func visionWithProjection(setting: Setting) throws {
    let fixture = try Fixture("vision_projection")
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try CLIPVisionModelWithProjection(
      CLIPVisionConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let output = try model(inputs.picture("pictures"))
    try inputs.expect(output.imageEmbeds, is: "image_embeds")
    try inputs.expect(output.vision.lastHiddenState, is: "last_hidden_state")
    try inputs.expect(output.vision.hiddenState, is: "hidden_penultimate")
  }

  @Test(arguments: Setting.all) func textWithProjection(setting: Setting) throws {
    let fixture = try Fixture("text_projection")
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try CLIPTextModelWithProjection(
      CLIPTextConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let ids = try prompts(fixture, on: setting.device)
    let output = try model(ids)
    try inputs.expect(output.textEmbeds, is: "text_embeds")
    try inputs.expect(output.text.lastHiddenState, is: "last_hidden_state")
    try inputs.expect(output.text.hiddenState, is: "hidden_penultimate")
    try inputs.expect(model(ids, skipLast: 0).text.hiddenState, is: "hidden_last")
    try inputs.expect(model(ids, skipLast: 3).text.hiddenState, is: "hidden_first")
  }

  @Test(arguments: Setting.all) func bothEncoders(setting: Setting) throws {
    let fixture = try Fixture("clip")
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let model = try CLIPModel(
      CLIPConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    let (ids, pictures) = (try prompts(fixture, on: setting.device), try inputs.picture("pictures"))
    try inputs.expect(model.textFeatures(ids), is: "text_features")
    try inputs.expect(model.imageFeatures(pictures), is: "image_features")
    let (text, image) = (try model.textEmbeds(ids), try model.imageEmbeds(pictures))
    #expect(text.dtype == .float32 && image.dtype == .float32)
    try inputs.expect(text.cast(to: setting.dtype), is: "text_embeds")
    try inputs.expect(image.cast(to: setting.dtype), is: "image_embeds")
    let logits = try CLIPModel.similarity(text, image, scale: model.logitScale)
    try inputs.expect(logits.cast(to: setting.dtype), is: "logits")
  }

  /// Config files of old transformers keep each encoder's under two names.
  @Test func oldConfigurations() throws {
    let json = """
      {"model_type": "clip", "projection_dim": 768, "text_config": {"hidden_size": 512},
       "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
       "vision_config": {"model_type": "clip_vision_model", "patch_size": 14, "hidden_size": 1024,
       "num_attention_heads": 16}, "vision_config_dict": null}
      """
    let config = try CLIPConfig(ConfigObject(json: Data(json.utf8)))
    #expect(config.text.hiddenSize == 768 && config.text.headCount == 12 && config.text.layerCount == 12)
    #expect(config.vision.patchCount == 256 && config.vision.hiddenSize == 1024)
    #expect(config.projectionSize == 768 && config.text.projectionSize == 768)
  }
}
