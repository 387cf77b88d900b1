import LangevinJSON
import LangevinNN
import LangevinTensor
import Testing

@testable import LangevinModels

/// Every kind of UNet against diffusers; Tests/Golden/make_unets.py makes the fixtures.
@Suite struct UNetTests {
  @Test(
    arguments: [
      "unet2d_cifar10", "unet2d_super_resolution", "unet2d_class_table", "unet2d_class_timestep",
      "unet2d_class_identity",
    ], Setting.all)
  func unconditional(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let config = try UNet2DConfig(fixture.config)
    let model = try UNet2DModel(config, fixture.weights(on: setting.device, as: setting.dtype))
    let output = try model(
      inputs.picture("sample"), timesteps: inputs.floats("timesteps"),
      classLabels: labels(config.classEmbedding, inputs))
    try inputs.expect(output, is: "output")
  }

  @Test(
    arguments: [
      "unet_sdxl", "unet_asymmetric", "unet_inpainting", "unet_class_table", "unet_class_timestep",
      "unet_class_identity", "unet_class_projection", "unet_class_simple_projection", "unet_guided",
      "unet_karlo", "unet_only_cross", "unet_scale_shift",
    ], Setting.all)
  func conditional(name: String, setting: Setting) throws {
    let fixture = try Fixture(name)
    let inputs = Inputs(fixture, on: setting.device, as: setting.dtype)
    let config = try UNet2DConditionConfig(fixture.config)
    let model = try UNet2DConditionModel(config, fixture.weights(on: setting.device, as: setting.dtype))
    var conditioning = UNetConditioning(context: try inputs("context"))
    conditioning.classLabels = try labels(config.classEmbedding, inputs)
    if config.textTime != nil {
      conditioning.textTime = UNetTextTime(
        textEmbeds: try inputs("text_embeds"), timeIDs: try rows("time_ids", inputs))
    }
    if config.timestepConditionChannels != nil {
      conditioning.timestepCondition = try inputs("timestep_cond")
    }
    if fixture.io.names.contains("attention_mask") {
      conditioning.contextMask = try rows("attention_mask", inputs).map { $0.map { $0 != 0 } }
    }
    let output = try model(
      inputs.picture("sample"), timesteps: inputs.floats("timesteps"), conditioning: conditioning)
    try inputs.expect(output, is: "output")
  }

  /// DDPM's published checkpoints have the names of early diffusers.
  @Test(arguments: devices) func earlyNames(device: Device) throws {
    let fixture = try Fixture("unet2d_cifar10")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let names = ["to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"]
    let source = RenamedSource(fixture.source) { name in
      names.reduce(name) { $0.replacing("attentions.0.\($1.key)", with: "attentions.0.\($1.value)") }
    }
    let model = try UNet2DModel(UNet2DConfig(fixture.config), Weights(source, on: device))
    let output = try model(inputs.picture("sample"), timesteps: inputs.floats("timesteps"))
    try inputs.expect(output, is: "output")
  }

  /// A mask that hides nothing changes nothing, and without the second text's last tokens the rest decides.
  @Test(arguments: devices) func contextMask(device: Device) throws {
    let fixture = try Fixture("unet_karlo")
    let inputs = Inputs(fixture, on: device, as: .float32)
    let config = try UNet2DConditionConfig(fixture.config)
    let model = try UNet2DConditionModel(config, fixture.weights(on: device, as: .float32))
    func run(_ context: Tensor, _ mask: [[Bool]]?) throws -> [Float] {
      let conditioning = UNetConditioning(
        context: context, contextMask: mask, classLabels: .vectors(try inputs("class_labels")))
      return try model(inputs.picture("sample"), timesteps: [981, 17.5], conditioning: conditioning).floats()
    }
    let context = try inputs("context")
    let all = [[Bool]](repeating: Array(repeating: true, count: 7), count: 2)
    #expect(try relativeError(run(context, all), run(context, nil)) < 1e-5)
    let four = all.map { $0.enumerated().map { $0.offset < 4 } }
    let short = try context.sliced(0..<4, axis: 1)
    #expect(try relativeError(run(context, four), run(short, nil)) < 1e-5)
    #expect(try relativeError(run(context, four), run(context, all)) > 1e-3)
  }

  // MARK: Published configurations

  @Test func cifar10() throws {
    let config = try config(
      UNet2DConfig.init(_:),
      """
      {"_class_name": "UNet2DModel", "act_fn": "silu", "attention_head_dim": null,
       "block_out_channels": [128, 256, 256, 256], "center_input_sample": false,
       "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
       "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3,
       "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 32,
       "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
       "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]}
      """)
    #expect(config.downBlocks == [.plain, .attention, .plain, .plain])
    #expect(config.headSize == nil && config.midBlock == .attention && config.midAttentionGroups == 32)
    #expect(config.downsamplePadding == 0 && config.normEpsilon == 1e-6 && config.sizeMultiple == 8)
    #expect(config.timeChannels == 512 && !config.flipSinToCos && config.frequencyShift == 1)
  }

  @Test func stableDiffusionXL() throws {
    let config = try config(
      UNet2DConditionConfig.init(_:),
      """
      {"_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time",
       "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20],
       "block_out_channels": [320, 640, 1280], "class_embed_type": null, "cross_attention_dim": 2048,
       "cross_attention_norm": null, "encoder_hid_dim": null, "encoder_hid_dim_type": null,
       "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
       "mid_block_only_cross_attention": null, "mid_block_type": "UNetMidBlock2DCrossAttn",
       "num_attention_heads": null, "num_class_embeds": null, "only_cross_attention": false,
       "projection_class_embeddings_input_dim": 2816, "sample_size": 128, "time_cond_proj_dim": null,
       "transformer_layers_per_block": [1, 2, 10], "upcast_attention": null, "use_linear_projection": true,
       "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}
      """)
    #expect(config.textTime == UNetTextTimeSize(timeIDChannels: 256, inputs: 2816))
    #expect(config.classEmbedding == nil && !config.takesContextMask)
    #expect(config.upTransformerLayers == [[10, 10, 10], [2, 2, 2], [1, 1, 1]])
    #expect(config.downBlocks == [.plain, .crossAttention, .crossAttention])
  }

  @Test func karlo() throws {
    let config = try config(
      UNet2DConditionConfig.init(_:),
      """
      {"_class_name": "UNet2DConditionModel", "attention_head_dim": 64,
       "block_out_channels": [320, 640, 960, 1280], "class_embed_type": "identity",
       "cross_attention_dim": 1536, "in_channels": 3, "layers_per_block": 3, "out_channels": 6,
       "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D",
         "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"], "sample_size": 64,
       "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "resnet_time_scale_shift": "scale_shift",
       "up_block_types": ["SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D",
         "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"]}
      """)
    #expect(config.timeScales && config.takesContextMask && config.midBlock == .simpleCrossAttention)
    #expect(config.classEmbedding == .identity && config.headSizes == [64, 64, 64, 64])
    #expect(config.layersPerBlock == [3, 3, 3, 3] && config.outChannels == 6)
  }

  private func config<C>(_ parse: (ConfigObject) throws -> C, _ json: String) throws -> C {
    try parse(ConfigObject(StrictJSON(parsing: Array(json.utf8))))
  }

  private func labels(_ kind: UNetClassEmbedding?, _ inputs: Inputs) throws -> UNetClassLabels? {
    switch kind {
    case nil: nil
    case .table?, .timestep?: .numbers(try inputs.floats("class_labels"))
    case .identity?, .projection?, .simpleProjection?: .vectors(try inputs("class_labels"))
    }
  }

  private func rows(_ name: String, _ inputs: Inputs) throws -> [[Float]] {
    let columns = try inputs.io.load(name, on: inputs.device).shape[1]
    let flat = try inputs.floats(name)
    return stride(from: 0, to: flat.count, by: columns).map { Array(flat[$0..<$0 + columns]) }
  }
}
