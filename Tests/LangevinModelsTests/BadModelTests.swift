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
    (#""class_embed_type": "text""#, "class_embed_type"),
    (#""addition_embed_type": "text_image""#, "addition_embed_type"),
    (#""resnet_time_scale_shift": "ada_group""#, "resnet_time_scale_shift"),
    (#""act_fn": "gelu""#, "act_fn"),
    (#""mid_block_type": "UNetMidBlock3DCrossAttn""#, "mid_block_type"),
    (#""down_block_types": ["SkipDownBlock2D"]"#, "down_block_types"),
    (#""up_block_types": ["KUpBlock2D"]"#, "up_block_types"),
    (#""_class_name": "UNet2DModel""#, "_class_name"),
    (#""mid_block_scale_factor": 2"#, "mid_block_scale_factor"),
    (#""resnet_out_scale_factor": 1.41421"#, "resnet_out_scale_factor"),
    (#""resnet_skip_time_act": true"#, "resnet_skip_time_act"),
    (#""time_embedding_act_fn": "silu""#, "time_embedding_act_fn"),
    (#""timestep_post_act": "silu""#, "timestep_post_act"),
    (#""encoder_hid_dim": 4, "encoder_hid_dim_type": "image_proj""#, "encoder_hid_dim_type"),
    (#""cross_attention_norm": "rms_norm""#, "cross_attention_norm"),
    (#""class_embeddings_concat": true"#, "class_embeddings_concat"),
    (#""attention_type": "gated""#, "attention_type"),
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
    (#""class_embed_type": "projection""#, "projection_class_embeddings_input_dim"),
    (#""addition_embed_type": "text_time""#, "addition_time_embed_dim"),
    (
      #""addition_embed_type": "text_time", "addition_time_embed_dim": 256"#,
      "projection_class_embeddings_input_dim"
    ),
    (#""transformer_layers_per_block": [1, 1, 1]"#, "transformer_layers_per_block"),
    (#""transformer_layers_per_block": [[1], 1, 1, 1]"#, "transformer_layers_per_block"),
    (#""transformer_layers_per_block": -1"#, "transformer_layers_per_block"),
    (#""transformer_layers_per_block": [[1, 2], 1, 1, 1]"#, "reverse_transformer_layers_per_block"),
    (#""encoder_hid_dim_type": "text_proj""#, "encoder_hid_dim"),
    (
      #""encoder_hid_dim": 8, "cross_attention_dim": [8, 8, 8, 16]"#, "cross_attention_dim"
    ),
    (#""cross_attention_norm": "group_norm", "cross_attention_dim": 40"#, "cross_attention_dim"),
    (#""cross_attention_norm": "layer_norm""#, "cross_attention_norm"),
    (#""norm_eps": 0"#, "norm_eps"), (#""norm_eps": -1e-5"#, "norm_eps"), (#""norm_eps": NaN"#, "norm_eps"),
    (#""norm_eps": 1e300"#, "norm_eps"), (#""norm_eps": 1e-300"#, "norm_eps"),
    (#""freq_shift": 160"#, "freq_shift"), (#""freq_shift": -1"#, "freq_shift"),
    (#""freq_shift": Infinity"#, "freq_shift"),
  ])
  func invalidUNet(json: String, key: String) throws {
    try expectRefusal(of: UNet2DConditionConfig.init(_:), json, unsupported: false, key)
  }

  @Test(arguments: [
    (#""_class_name": "UNet2DConditionModel""#, "_class_name"), (#""act_fn": "mish""#, "act_fn"),
    (#""down_block_types": ["CrossAttnDownBlock2D"]"#, "down_block_types"),
    (#""up_block_types": ["AttnSkipUpBlock2D"]"#, "up_block_types"),
    (#""mid_block_type": "UNetMidBlock2DCrossAttn""#, "mid_block_type"),
    (#""time_embedding_type": "fourier""#, "time_embedding_type"),
    (#""downsample_type": "fir""#, "downsample_type"), (#""upsample_type": "fir""#, "upsample_type"),
    (#""class_embed_type": "projection""#, "class_embed_type"),
    (#""resnet_time_scale_shift": "spatial""#, "resnet_time_scale_shift"),
    (#""center_input_sample": true"#, "center_input_sample"),
    (#""mid_block_scale_factor": 1.5"#, "mid_block_scale_factor"),
  ])
  func unsupportedUnconditionalUNet(json: String, key: String) throws {
    try expectRefusal(of: UNet2DConfig.init(_:), json, unsupported: true, key)
  }

  @Test(arguments: [
    (#""attention_head_dim": 9"#, "attention_head_dim"), (#""norm_num_groups": 33"#, "norm_num_groups"),
    (#""attn_norm_num_groups": 33"#, "attn_norm_num_groups"),
    (#""layers_per_block": [1, 2]"#, "layers_per_block"), (#""down_block_types": []"#, "down_block_types"),
    (#""up_block_types": ["UpBlock2D"]"#, "up_block_types"),
    (#""block_out_channels": [32]"#, "block_out_channels"), (#""add_attention": 1"#, "add_attention"),
    (#""class_embed_type": null, "num_class_embeds": 0"#, "num_class_embeds"),
    (#""norm_eps": 0"#, "norm_eps"), (#""freq_shift": 112"#, "freq_shift"),
  ])
  func invalidUnconditionalUNet(json: String, key: String) throws {
    try expectRefusal(of: UNet2DConfig.init(_:), json, unsupported: false, key)
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
    for count in 1...2 {
      try expectRefusal(
        of: CLIPTextConfig.init(_:), "\"max_position_embeddings\": \(count)", unsupported: false,
        "max_position_embeddings")
    }
    for value in ["0", "1e-300", "1e300", "NaN", "-Infinity"] {
      try expectRefusal(
        of: AutoencoderKLConfig.init(_:), "\"scaling_factor\": \(value)", unsupported: false, "scaling_factor"
      )
      try expectRefusal(
        of: AutoencoderTinyConfig.init(_:), "\"scaling_factor\": \(value)", unsupported: false,
        "scaling_factor")
      try expectRefusal(
        of: CLIPTextConfig.init(_:), "\"layer_norm_eps\": \(value)", unsupported: false, "layer_norm_eps")
      try expectRefusal(
        of: T5EncoderConfig.init(_:), "\"layer_norm_epsilon\": \(value)", unsupported: false,
        "layer_norm_epsilon")
      try expectRefusal(
        of: WanTransformer3DConfig.init(_:), "\"eps\": \(value)", unsupported: false, "eps")
    }
    for value in ["0", "-1", "1e300"] {
      let list = [String](repeating: "1", count: 15).joined(separator: ", ") + ", \(value)"
      try expectRefusal(
        of: AutoencoderKLWanConfig.init(_:), "\"latents_std\": [\(list)]", unsupported: false, "latents_std")
    }
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
      [], [[]], [[97, 98], [98]], [[97, 99]], [[-1, 98]], [Array(repeating: 98, count: 13)],
    ]
    for prompts in bad { #expect(throws: ModelError.self, "\(prompts)") { try model(prompts) } }
    // Hidden states need no end of the text, pooled vectors do.
    let endless: [[Int32]] = [[97, 3, 4]]
    let states = try model(endless).lastHiddenState
    #expect(throws: ModelError.self) { try model.pooled(states, of: endless) }
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

  /// What a network is conditioned on must be there, of the right size, and nothing more.
  @Test func badConditioning() throws {
    func attempt(
      _ name: String, labels: UNetClassLabels? = nil, textTime: UNetTextTime? = nil,
      condition: Tensor? = nil, mask: [[Bool]]? = nil, says words: String,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let fixture = try Fixture(name)
      let inputs = Inputs(fixture, on: device, as: .float32)
      let model = try UNet2DConditionModel(
        UNet2DConditionConfig(fixture.config), fixture.weights(on: device, as: .float32))
      let conditioning = UNetConditioning(
        context: try inputs("context"), contextMask: mask, classLabels: labels, textTime: textTime,
        timestepCondition: condition)
      let error = #expect(throws: ModelError.self, sourceLocation: sourceLocation) {
        try model(inputs.picture("sample"), timesteps: [1, 2], conditioning: conditioning)
      }
      #expect(error.map { "\($0)".contains(words) } == true, sourceLocation: sourceLocation)
    }
    func zeros(_ shape: Shape) throws -> Tensor { try .fill(0, shape, on: device) }
    let sizes = [[Float]](repeating: [1, 2, 3, 4, 5, 6], count: 2)

    try attempt("unet_class_table", says: "needs class labels")
    try attempt("unet_class_table", labels: .numbers([1, 7]), says: "0 to 6")
    try attempt("unet_class_table", labels: .numbers([1, 0.5]), says: "0 to 6")
    try attempt("unet_class_table", labels: .numbers([1]), says: "1 class labels for 2 images")
    try attempt("unet_class_timestep", labels: .vectors(zeros([2, 32])), says: "are numbers")
    try attempt("unet_class_identity", labels: .numbers([1, 2]), says: "are vectors")
    try attempt("unet_class_identity", labels: .vectors(zeros([2, 31])), says: "[2, 32]")
    try attempt("unet_class_projection", labels: .vectors(zeros([1, 20])), says: "[2, 20]")
    try attempt("unet_inpainting", labels: .numbers([1, 2]), says: "no class labels")
    try attempt("unet_sdxl", says: "pooled text and time ids")
    try attempt(
      "unet_sdxl", textTime: UNetTextTime(textEmbeds: zeros([2, 21]), timeIDs: sizes), says: "[2, 20]")
    try attempt(
      "unet_sdxl", textTime: UNetTextTime(textEmbeds: zeros([2, 20]), timeIDs: [[1], [1, 2]]),
      says: "time ids")
    try attempt(
      "unet_inpainting", textTime: UNetTextTime(textEmbeds: zeros([2, 20]), timeIDs: sizes),
      says: "no pooled text")
    try attempt("unet_inpainting", condition: zeros([2, 10]), says: "no timestep condition")
    try attempt("unet_guided", condition: zeros([2, 11]), says: "[2, 10]")
    let mask = [[Bool]](repeating: Array(repeating: true, count: 7), count: 2)
    try attempt("unet_inpainting", mask: mask, says: "no context mask")
    try attempt("unet_karlo", labels: .vectors(zeros([2, 32])), mask: [mask[0]], says: "7 flags")
  }

  @Test func badUnconditionalPictures() throws {
    let fixture = try Fixture("unet2d_cifar10")
    let model = try UNet2DModel(
      UNet2DConfig(fixture.config), fixture.weights(on: device, as: .float32))
    func run(_ picture: Shape, _ timesteps: Int, labels: UNetClassLabels? = nil) throws {
      _ = try model(
        .fill(0, picture, on: device), timesteps: Array(repeating: 1, count: timesteps), classLabels: labels)
    }
    try run([1, 4, 8, 3], 1)
    for (picture, timesteps) in [
      ([1, 4, 8, 4], 1), ([1, 6, 8, 3], 1), ([2, 4, 8, 3], 1), ([1, 0, 8, 3], 1), ([4, 8, 3], 1),
    ] as [(Shape, Int)] {
      #expect(throws: ModelError.self) { try run(picture, timesteps) }
    }
    #expect(throws: ModelError.self) { try run([1, 4, 8, 3], 1, labels: .numbers([1])) }
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
