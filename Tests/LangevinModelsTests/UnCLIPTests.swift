import Foundation
import Langevin
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// unCLIP's networks against diffusers; the fixtures are made by Tests/Golden/make_unclip.py.
@Suite struct UnCLIPTests {
  @Test(arguments: ["prior_karlo", "prior_sequence", "prior_padded"], Setting.all)
  func prior(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let prior = try prior(fixture, setting)
    let names = fixture.io.names
    let mask =
      names.contains("mask") ? try prior.attentionMask(visible: visible(fixture, setting.device)) : nil
    let output = try prior(
      inputs("sample"), timesteps: inputs.floats("timesteps"), embedding: inputs("embedding"),
      text: names.contains("text") ? inputs("text") : nil, mask: mask)
    try inputs.expect(output, is: "output")
    try inputs.expect(prior.postProcess(output).cast(to: setting.dtype), is: "post_processed")
  }

  /// What comes later in the text, and the padding, change nothing that comes before; the padding changes nothing.
  @Test(arguments: devices) func priorIsCausalAndIgnoresPadding(device: Device) throws {
    let setting = Setting(device: device, dtype: .float32)
    let fixture = try Fixture("prior_karlo")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let prior = try prior(fixture, setting)
    let mask = try prior.attentionMask(visible: visible(fixture, device))
    func guess(text: Tensor) throws -> [Float] {
      try prior(
        inputs("sample"), timesteps: inputs.floats("timesteps"), embedding: inputs("embedding"), text: text,
        mask: mask
      ).floats()
    }
    let text = try inputs("text")
    let channels = text.shape[2]
    var values = try text.floats()
    let padding = 5 * channels..<7 * channels
    for index in padding { values[index] += 3 }
    #expect(try guess(text: Tensor(values, text.shape, on: device)) == guess(text: text))
    values[0] += 3
    #expect(try guess(text: Tensor(values, text.shape, on: device)) != guess(text: text))
  }

  @Test func priorRefusesInputs() throws {
    let setting = Setting.all[0]
    let fixture = try Fixture("prior_karlo")
    let inputs = Inputs(fixture, on: setting.device, as: .float32)
    let prior = try prior(fixture, setting)
    let (sample, embedding, text) = (try inputs("sample"), try inputs("embedding"), try inputs("text"))
    #expect(throws: ModelError.self) {
      try prior(sample, timesteps: [1], embedding: embedding, text: text)
    }
    #expect(throws: ModelError.self) { try prior(sample, timesteps: [1, 2], embedding: embedding) }
    #expect(throws: ModelError.self) {
      try prior(sample, timesteps: [1, 2], embedding: embedding.rows(0..<1), text: text)
    }
    #expect(throws: ModelError.self) {
      try prior(sample, timesteps: [1, 2], embedding: embedding, text: text.sliced(0..<6, axis: 1))
    }
    #expect(throws: ModelError.self) {
      let mask = try prior.attentionMask(visible: [[Bool](repeating: true, count: 7)])
      _ = try prior(sample, timesteps: [1, 2], embedding: embedding, text: text, mask: mask)
    }
    #expect(throws: ModelError.self) { try prior.attentionMask(visible: [[true]]) }
  }

  @Test(arguments: [
    (#""norm_in_type": "group""#, "norm_in_type"),
    (#""embedding_proj_norm_type": "rms""#, "embedding_proj_norm_type"),
    (#""encoder_hid_proj_type": "conv""#, "encoder_hid_proj_type"),
    (#""added_emb_type": "sum""#, "added_emb_type"), (#""time_embed_act_fn": "mish""#, "time_embed_act_fn"),
    (#""_class_name": "WanTransformer3DModel""#, "_class_name"),
  ])
  func priorRefusesConfiguration(json: String, key: String) throws {
    let error = #expect(throws: ModelError.self) {
      try PriorTransformerConfig(ConfigObject(json: Data("{\(json)}".utf8)))
    }
    guard case .unsupported(_, let found, _, _)? = error else {
      Issue.record("another error: \(String(describing: error))")
      return
    }
    #expect(found == key)
  }

  @Test func priorDefaults() throws {
    let karlo = try PriorTransformerConfig(ConfigObject(json: Data(#"{"dropout": 0.0}"#.utf8)))
    #expect(karlo == PriorTransformerConfig())
    let bare = try PriorTransformerConfig(
      ConfigObject(json: Data(#"{"encoder_hid_proj_type": null, "added_emb_type": null}"#.utf8)))
    #expect(!bare.takesText && !bare.hasQuery)
  }

  @Test(arguments: Setting.all) func textProjection(setting: Setting) throws {
    let fixture = try Fixture("text_proj")
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let projection = try UnCLIPTextProjection(
      UnCLIPTextProjectionConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
    for (name, rows, guided) in [("guided", 0..<4, true), ("plain", 2..<4, false)] {
      let output = try projection(
        image: inputs("image"), prompt: inputs("prompt").rows(rows), text: inputs("text").rows(rows),
        guided: guided)
      try inputs.expect(output.context, is: "\(name).context")
      try inputs.expect(output.timeAddition, is: "\(name).time")
    }
    #expect(throws: ModelError.self) {
      try projection(image: inputs("image"), prompt: inputs("prompt"), text: inputs("text"), guided: false)
    }
  }

  @Test func textProjectionNeedsItsWidths() throws {
    #expect(
      throws: ModelError.invalidConfig(
        model: "model", key: "cross_attention_dim", value: "absent", expected: "a positive whole number")
    ) { try UnCLIPTextProjectionConfig(ConfigObject(json: Data(#"{"time_embed_dim": 8}"#.utf8))) }
  }

  @Test(arguments: devices) func imageNormalizer(device: Device) throws {
    let fixture = try Fixture("image_normalizer")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let normalizer = try StableUnCLIPImageNormalizer(
      fixture.config, fixture.weights(on: device, as: .float32))
    try inputs.expect(normalizer.scale(inputs("sample")), is: "scaled")
    try inputs.expect(normalizer.unscale(inputs("sample")), is: "unscaled")
    try inputs.expect(normalizer.classLabels(inputs("sample"), noiseLevel: 250), is: "labels")
  }

  private func prior(_ fixture: Fixture, _ setting: Setting) throws -> PriorTransformer {
    try PriorTransformer(
      PriorTransformerConfig(fixture.config), fixture.weights(on: setting.device, as: setting.dtype))
  }

  private func visible(_ fixture: Fixture, _ device: Device) throws -> [[Bool]] {
    let mask = try fixture.io.load("mask", on: device)
    let flags = try mask.int32s().map { $0 != 0 }
    let length = mask.shape[1]
    return (0..<mask.shape[0]).map { Array(flags[$0 * length..<($0 + 1) * length]) }
  }
}
