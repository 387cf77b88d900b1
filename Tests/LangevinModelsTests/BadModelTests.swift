import Foundation
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// What is refused, and that the message names it.
@Suite struct BadModelTests {
  let device = devices[0]

  // MARK: Configurations

  @Test(arguments: [
    (#""class_embed_type": "projection""#, "class_embed_type"),
    (#""addition_embed_type": "text_time""#, "addition_embed_type"),
    (#""resnet_time_scale_shift": "scale_shift""#, "resnet_time_scale_shift"),
    (#""act_fn": "gelu""#, "act_fn"),
    (#""mid_block_type": "UNetMidBlock2DSimpleCrossAttn""#, "mid_block_type"),
    (#""down_block_types": ["ResnetDownsampleBlock2D"]"#, "down_block_types"),
    (#""_class_name": "UNet2DModel""#, "_class_name"), (#""time_cond_proj_dim": 256"#, "time_cond_proj_dim"),
    (#""mid_block_scale_factor": 2"#, "mid_block_scale_factor"),
    (#""encoder_hid_dim": 4"#, "encoder_hid_dim"),
  ])
  func unsupportedUNet(json: String, key: String) throws {
    try expectRefusal(of: UNet2DConditionConfig.init(_:), json, unsupported: true, key)
  }

  @Test(arguments: [
    (#""attention_head_dim": 7"#, "attention_head_dim"),
    (#""block_out_channels": [320, 640]"#, "block_out_channels"),
    (#""norm_num_groups": 33"#, "norm_num_groups"), (#""layers_per_block": [2, 2]"#, "layers_per_block"),
    (#""in_channels": -4"#, "in_channels"), (#""in_channels": 4.5"#, "in_channels"),
    (#""in_channels": "four""#, "in_channels"), (#""up_block_types": ["UpBlock2D"]"#, "up_block_types"),
    (#""flip_sin_to_cos": 1"#, "flip_sin_to_cos"), (#""conv_in_kernel": 4"#, "conv_in_kernel"),
    (#""sample_size": 4611686018427387904"#, "sample_size"),
    (#""block_out_channels": [4611686018427387904]"#, "block_out_channels"),
  ])
  func invalidUNet(json: String, key: String) throws {
    try expectRefusal(of: UNet2DConditionConfig.init(_:), json, unsupported: false, key)
  }

  /// What would overflow, or shift past the width of an integer.
  @Test func absurdNumbers() throws {
    let types = [String](repeating: "\"DownBlock2D\"", count: 70).joined(separator: ", ")
    try expectRefusal(
      of: UNet2DConditionConfig.init(_:), "\"down_block_types\": [\(types)]", unsupported: false,
      "down_block_types")
    let widths = [String](repeating: "32", count: 70).joined(separator: ", ")
    try expectRefusal(
      of: AutoencoderKLConfig.init(_:), "\"block_out_channels\": [\(widths)]", unsupported: false,
      "block_out_channels")
    try expectRefusal(
      of: CLIPTextConfig.init(_:), #""eos_token_id": 4294967296"#, unsupported: false, "eos_token_id")
    try expectRefusal(
      of: CLIPTextConfig.init(_:), #""max_position_embeddings": 1"#, unsupported: false,
      "max_position_embeddings")
  }

  @Test func otherRefusals() throws {
    try expectRefusal(of: CLIPTextConfig.init(_:), #""model_type": "t5""#, unsupported: true, "model_type")
    try expectRefusal(of: CLIPTextConfig.init(_:), #""hidden_act": "relu""#, unsupported: true, "hidden_act")
    try expectRefusal(
      of: CLIPVisionConfig.init(_:), #""hidden_act": "relu""#, unsupported: true, "hidden_act")
    try expectRefusal(of: CLIPVisionConfig.init(_:), #""patch_size": 15"#, unsupported: true, "patch_size")
    try expectRefusal(of: CLIPConfig.init(_:), #""model_type": "siglip""#, unsupported: true, "model_type")
    try expectRefusal(of: CLIPConfig.init(_:), #""text_config": 3"#, unsupported: false, "model_type")
    try expectRefusal(
      of: CLIPTextConfig.init(_:), #""num_attention_heads": 7"#, unsupported: false, "num_attention_heads")
    try expectRefusal(
      of: AutoencoderKLConfig.init(_:), #""latents_mean": [0]"#, unsupported: true, "latents_mean")
    try expectRefusal(
      of: AutoencoderKLConfig.init(_:), #""down_block_types": ["AttnDownEncoderBlock2D"]"#, unsupported: true,
      "down_block_types")
    try expectRefusal(
      of: AutoencoderKLConfig.init(_:), #""scaling_factor": 0, "down_block_types": ["DownEncoderBlock2D"]"#,
      unsupported: false, "scaling_factor")
  }

  private func expectRefusal<C>(
    of config: (ConfigObject) throws -> C, _ json: String, unsupported: Bool, _ key: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let error = #expect(throws: ModelError.self, sourceLocation: sourceLocation) {
      try config(ConfigObject(json: Data("{\(json)}".utf8)))
    }
    switch try #require(error, sourceLocation: sourceLocation) {
    case .unsupported(_, let found, _, _):
      #expect(unsupported && found == key, sourceLocation: sourceLocation)
    case .invalidConfig(_, let found, _, _):
      #expect(!unsupported && found == key, sourceLocation: sourceLocation)
    default: Issue.record("another error: \(String(describing: error))", sourceLocation: sourceLocation)
    }
  }

  /// A number is what it is worth, however it is spelled.
  @Test func spellingsOfNumbers() throws {
    let json = Data(
      #"{"mid_block_scale_factor": 1.0, "cross_attention_dim": 7.68e2, "norm_eps": 1e-05}"#.utf8)
    #expect(try UNet2DConditionConfig(ConfigObject(json: json)) == UNet2DConditionConfig())
    try expectRefusal(
      of: UNet2DConditionConfig.init(_:), #""mid_block_scale_factor": 1.5"#, unsupported: true,
      "mid_block_scale_factor")
    try expectRefusal(
      of: UNet2DConditionConfig.init(_:), #""norm_eps": NaN"#, unsupported: false, "norm_eps")
  }

  @Test func unknownKeysAndDefaults() throws {
    let json = Data(#"{"new_key": {"a": [1, null]}, "cross_attention_dim": 768}"#.utf8)
    #expect(try UNet2DConditionConfig(ConfigObject(json: json)) == UNet2DConditionConfig())
    let heads = Data(#"{"attention_head_dim": [5, 10, 20, 20], "num_attention_heads": null}"#.utf8)
    #expect(try UNet2DConditionConfig(ConfigObject(json: heads)).headCounts == [5, 10, 20, 20])
  }

  // MARK: Weights

  @Test func missingTensor() throws {
    let fixture = try Fixture("resnet")
    let source = RenamedSource(fixture.source) { $0 == "conv2.bias" ? "conv2.bais" : $0 }
    let missing = WeightError.missing(name: "conv2.bias", source: fixture.source.description)
    #expect(throws: missing) { try resnet(Weights(source, on: device), channels: 16) }
    #expect(missing.description.contains("conv2.bias") && missing.description.contains("weights.safetensors"))
  }

  @Test func unusedTensors() throws {
    let fixture = try Fixture("resnet_shortcut")
    let weights = fixture.weights(on: device, as: .float32)
    _ = try weights["norm1"].tensor("weight", [16])
    weights["conv1"].skip()
    weights["norm2"].skip()
    weights["conv2"].skip()
    weights["conv_shortcut"].skip()
    let unused = WeightError.unused(
      names: ["norm1.bias", "time_emb_proj.weight"], source: fixture.source.description)
    #expect(throws: unused) { try weights.finish(ignoring: ["time_emb_proj.bias"]) }
    #expect(throws: WeightError.unused(names: ["norm1.bias"], source: fixture.source.description)) {
      try weights["norm1"].finish()
    }
    try weights["conv1"].finish()
  }

  @Test func wrongShape() throws {
    let fixture = try Fixture("resnet")
    let wrong = WeightError.wrongShape(
      name: "norm1.weight", expected: [32], got: [16], source: fixture.source.description)
    #expect(throws: wrong) { try resnet(fixture.weights(on: device, as: .float32), channels: 32) }
  }

  /// int64 buffers, such as position ids, are never parameters.
  @Test func integerTensor() throws {
    let fixture = try Fixture("text_gelu")
    let name = "text_model.embeddings.position_ids"
    #expect(throws: WeightError.unsupportedDType(name: name, source: fixture.source.description)) {
      try fixture.weights(on: device, as: .float32).tensor(name, [1, 12])
    }
  }

  private func resnet(_ weights: Weights, channels: Int) throws -> ResnetBlock2D {
    try ResnetBlock2D(
      weights, inputs: channels, outputs: channels, timeChannels: 48, groups: 4, epsilon: 1e-5)
  }

  // MARK: Inputs

  @Test func badPrompts() throws {
    let fixture = try Fixture("text_quick_gelu")
    let model = try CLIPTextModel(CLIPTextConfig(fixture.config), fixture.weights(on: device, as: .float32))
    let bad: [[[Int32]]] = [
      [], [[]], [[97, 98], [98]], [[97, 99]], [[-1, 98]], [Array(repeating: 98, count: 13)], [[97, 3, 4]],
    ]
    for prompts in bad { #expect(throws: ModelError.self, "\(prompts)") { try model(prompts) } }
    #expect(throws: ModelError.self) { try model.hiddenStates([[98]], skipLast: 3) }
    #expect(throws: ModelError.self) { try model([[98]], skipLast: -1) }
  }

  @Test func badPicturesForCLIP() throws {
    let fixture = try Fixture("vision_quick_gelu")
    let model = try CLIPVisionModel(
      CLIPVisionConfig(fixture.config), fixture.weights(on: device, as: .float32))
    for shape: Shape in [[1, 12, 8, 3], [1, 12, 12, 4], [12, 12, 3], [0, 12, 12, 3], []] {
      #expect(throws: ModelError.self, "\(shape)") { try model(.fill(0, shape, on: device)) }
    }
    #expect(throws: ModelError.self) { try model(.fill(0, [1, 12, 12, 3], on: device), skipLast: 3) }
  }

  @Test func badLatents() throws {
    let fixture = try Fixture("unet_sd1")
    let model = try UNet2DConditionModel(
      UNet2DConditionConfig(fixture.config), fixture.weights(on: device, as: .float32))
    func run(_ latent: Shape, _ timesteps: Int, _ context: Shape) throws {
      _ = try model(
        .fill(0, latent, on: device), timesteps: Array(repeating: 1, count: timesteps),
        context: .fill(0, context, on: device))
    }
    try run([1, 4, 8, 4], 1, [1, 3, 24])
    for (latent, timesteps, context) in [
      ([1, 4, 8, 3], 1, [1, 3, 24]), ([1, 6, 8, 4], 1, [1, 3, 24]), ([2, 4, 8, 4], 1, [2, 3, 24]),
      ([1, 4, 8, 4], 1, [1, 3, 25]), ([1, 4, 8, 4], 1, [2, 3, 24]), ([1, 0, 8, 4], 1, [1, 3, 24]),
    ] as [(Shape, Int, Shape)] {
      #expect(throws: ModelError.self) { try run(latent, timesteps, context) }
    }
  }

  @Test func badPictures() throws {
    let fixture = try Fixture("vae")
    let model = try AutoencoderKL(
      AutoencoderKLConfig(fixture.config), fixture.weights(on: device, as: .float32))
    #expect(throws: ModelError.self) { try model.encode(.fill(0, [1, 5, 4, 3], on: device)) }
    #expect(throws: ModelError.self) { try model.encode(.fill(0, [1, 4, 4, 4], on: device)) }
    #expect(throws: ModelError.self) { try model.decode(.fill(0, [1, 4, 4, 4], on: device)) }
  }
}
