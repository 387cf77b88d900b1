import Foundation
import LangevinJSON
import LangevinModels
import LangevinTensor
import Testing

@testable import Langevin

/// Stable Diffusion 1.x and XL with ControlNets, T2I-Adapters and IP-Adapters, against what diffusers'
/// pipelines draw: Fixtures/control, by Tests/Golden/make_control.py.
@Suite struct ControlPipelineTests {
  private struct Run: Decodable {
    struct Control: Decodable {
      let name, image: String
      let scale: Double
    }
    let model, prompt, negativePrompt: String
    let guidance: Double
    let width, height: Int
    let seed: UInt64
    var control: [Control]?
    var adapter: String?
    var adapterScale: Double?
    var pictures: [String]?
  }

  private static let folder = Fixture.root.appending(path: "control")

  /// Decoded once for the names of the test's arguments.
  private static let runs: [String: Run] =
    (try? JSONDecoder().decode(
      [String: Run].self, from: Data(contentsOf: folder.appending(path: "runs.json")))) ?? [:]

  private func picture(_ name: String) throws -> Picture {
    try Picture.read(Self.folder.appending(path: name)).picture
  }

  private func request(_ run: Run) throws -> GenerationRequest {
    var request = GenerationRequest(prompt: run.prompt)
    (request.negativePrompt, request.guidance, request.steps) = (run.negativePrompt, run.guidance, 4)
    (request.seed, request.noise) = (run.seed, .torch)
    (request.width, request.height) = (run.width, run.height)
    request.controls = try (run.control ?? []).map {
      Control(
        try ControlNetwork(url: Self.folder.appending(path: $0.name)), try picture($0.image), scale: $0.scale)
    }
    request.imagePrompt = try run.adapter.map { name in
      ImagePrompt(
        try ImagePromptAdapter(url: Self.folder.appending(path: name)),
        try (run.pictures ?? []).map { try picture($0) }, scale: try #require(run.adapterScale))
    }
    return request
  }

  private func pipeline(_ model: String, _ setting: Setting) throws -> any Pipeline {
    try Pipelines.open(
      Checkpoint.open(Fixture.root.appending(path: model)), on: setting.device, precision: setting.dtype)
  }

  @Test func everyRunIsThere() { #expect(Self.runs.count == 14) }

  @Test(arguments: Setting.all)
  func latentsAreThoseOfDiffusers(setting: Setting) throws {
    let golden = try SafetensorsFile(url: Self.folder.appending(path: "latents.safetensors"))
    for (name, run) in Self.runs.sorted(by: { $0.key < $1.key }) {
      let result = try pipeline(run.model, setting).generate(request(run))
      let expected = try golden.load(name, on: setting.device)
      #expect(result.latents.shape == expected.shape)
      let error = relativeError(result.latents.values, try expected.floats())
      if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
        print("\(setting.device.name) \(setting.dtype) \(name): \(error)")
      }
      // Float16 storage is multiplied by the guidance and carried through the steps.
      #expect(error < (setting.dtype == .float32 ? 2e-3 : 2e-2), "\(name) differs by \(error)")
    }
  }

  /// Several pictures of several prompts each are what they would be alone, and a control of strength 0 is
  /// none.
  @Test(arguments: devices) func everyImageIsWhatItIsAlone(device: Device) throws {
    let pipeline = try pipeline("tiny-sd", Setting(device: device, dtype: .float32))
    var request = try request(#require(Self.runs["control_ip"]))
    request.prompts = ["a grinning face", "heart"]
    request.noise = .philox
    let both = try pipeline.generate(request)
    for (index, prompt) in request.prompts.enumerated() {
      var alone = request
      (alone.prompt, alone.seed) = (prompt, request.seed + UInt64(index))
      #expect(try pipeline.generate(alone).pictures[0] == both.pictures[index])
    }
    var (zero, none) = (request, request)
    for index in zero.controls.indices { zero.controls[index].scale = 0 }
    zero.imagePrompt?.scale = 0
    (none.controls, none.imagePrompt) = ([], nil)
    let (weak, plain) = (try pipeline.generate(zero).latents, try pipeline.generate(none).latents)
    #expect(relativeError(weak.values, plain.values) < 1e-5)
    #expect(relativeError(both.latents.values, plain.values) > 1e-2)
  }

  /// Shapes tell a single file's architecture, and its names are diffusers' in the end.
  @Test func aSingleFileIsTheSameNetwork() throws {
    func kind(_ name: String) throws -> ControlNetwork.Kind {
      try ControlNetwork(url: Self.folder.appending(path: name)).kind
    }
    for name in ["controlnet-second.safetensors", "controlnet-first/diffusion_pytorch_model.safetensors"] {
      guard case .controlNet(var single) = try kind(name),
        case .controlNet(let folder) = try kind("controlnet-first")
      else {
        Issue.record("a ControlNet is taken for something else")
        return
      }
      // What a ControlNet has no use for.
      single.unet.sampleSize = folder.unet.sampleSize
      #expect(single == folder, "\(name)")
    }
  }

  /// Heads and groups of norms, which no file under either of the names tells, are those of the model: the tiny one's are
  /// like no other's.
  @Test(
    arguments: ["controlnet-xl.safetensors", "controlnet-xl/diffusion_pytorch_model.safetensors"],
    Setting.all)
  func oneFileOfXLDrawsAsItsFolderDoes(name: String, setting: Setting) throws {
    let run = try #require(Self.runs["xl_control"])
    var request = try request(run)
    request.controls[0].network = try ControlNetwork(url: Self.folder.appending(path: name))
    let latents = try pipeline(run.model, setting).generate(request).latents
    let golden = try SafetensorsFile(url: Self.folder.appending(path: "latents.safetensors"))
    let error = relativeError(latents.values, try golden.load("xl_control", on: setting.device).floats())
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      print("\(setting.device.name) \(setting.dtype) \(name): \(error)")
    }
    #expect(error < (setting.dtype == .float32 ? 2e-3 : 2e-2), "\(name) differs by \(error)")
    let (sd, reason) = (try pipeline("tiny-sd", setting), "cross_attention_dim is 24, the model needs 64")
    let other = refusal { _ = try sd.generate(request) }
    #expect(other.contains("was made for another base model") && other.contains(reason), "\(other)")
  }

  @Test func oneFileThatDoesNotFitIsNamed() throws {
    let temporary = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: temporary) }
    func refusal(_ name: String, without missing: String? = nil, with added: String? = nil) throws -> String {
      let file = try SafetensorsFile(url: Self.folder.appending(path: name))
      var tensors = try file.names.filter { $0 != missing }.map { ($0, try file.load($0, on: devices[0])) }
      if let added { tensors.append((added, try Tensor.fill(0, [1], on: devices[0]))) }
      try SafetensorsWriter.write(tensors, to: temporary)
      return self.refusal { _ = try ControlNetwork(url: temporary) }
    }
    let (original, diffusers) = (
      "controlnet-xl.safetensors", "controlnet-xl/diffusion_pytorch_model.safetensors"
    )
    #expect(try refusal(original).isEmpty && refusal(diffusers).isEmpty)
    for name in [original, diffusers] {
      #expect(try refusal(name, with: "lora_controlnet").contains("a Control-LoRA is not supported"))
      #expect(try refusal(name, with: "task_embedding").contains("a ControlNet-Union is not supported"))
    }
    #expect(
      try refusal(diffusers, without: "controlnet_mid_block.bias").contains("'controlnet_mid_block.bias'"))
    #expect(
      try refusal(original, without: "control_model.label_emb.0.2.bias").contains(
        "'control_model.label_emb.0.2.bias'"))
    #expect(try refusal(diffusers, with: "input_hint.weight").contains("input_hint.weight"))
    #expect(try refusal(original, with: "control_model.zero").contains("control_model.zero"))
    #expect(
      try refusal(diffusers, without: "controlnet_cond_embedding.blocks.1.weight").contains(
        "3 convolutions read its picture"))
  }

  @Test func thePlanCountsWhatIsAdded() throws {
    let checkpoint = try Checkpoint.open(Fixture.root.appending(path: "tiny-sd"))
    func plan(_ name: String) throws -> MemoryPlan {
      try MemoryPlan(
        request(#require(Self.runs[name])), with: checkpoint, precision: .float32, on: devices[0])
    }
    let (plain, control) = (try plan("plain"), try plan("control_two"))
    #expect(
      control.stages.map(\.name)
        == ["text encoder", "unet", "control network 1", "control network 2", "autoencoder"])
    #expect(control.peak > plain.peak)
    let prompted = try plan("ip").stages.map(\.name)
    #expect(prompted == ["text encoder", "image encoder", "unet", "image prompt adapter", "autoencoder"])
  }

  // MARK: Published configurations

  private struct Published: CustomTestStringConvertible {
    let name, config: String
    let isXL: Bool
    let downscale: Int
    var testDescription: String { name }
  }

  private static let published = [
    Published(
      name: "lllyasviel/sd-controlnet-canny",
      config: """
        {"_class_name": "ControlNetModel", "act_fn": "silu", "attention_head_dim": 8,
         "block_out_channels": [320, 640, 1280, 1280], "class_embed_type": null,
         "conditioning_embedding_out_channels": [16, 32, 96, 256],
         "controlnet_conditioning_channel_order": "rgb", "cross_attention_dim": 768,
         "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
           "DownBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4,
         "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
         "num_class_embeds": null, "only_cross_attention": false,
         "projection_class_embeddings_input_dim": null, "resnet_time_scale_shift": "default",
         "upcast_attention": false, "use_linear_projection": false}
        """, isXL: false, downscale: 8),
    Published(
      name: "diffusers/controlnet-canny-sdxl-1.0",
      config: """
        {"_class_name": "ControlNetModel", "act_fn": "silu", "addition_embed_type": "text_time",
         "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20],
         "block_out_channels": [320, 640, 1280], "class_embed_type": null, "conditioning_channels": 3,
         "conditioning_embedding_out_channels": [16, 32, 96, 256],
         "controlnet_conditioning_channel_order": "rgb", "cross_attention_dim": 2048,
         "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
         "encoder_hid_dim": null, "encoder_hid_dim_type": null, "global_pool_conditions": false,
         "in_channels": 4, "layers_per_block": 2, "norm_eps": 1e-05, "num_attention_heads": null,
         "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 10],
         "upcast_attention": null, "use_linear_projection": true}
        """, isXL: true, downscale: 8),
    Published(
      name: "TencentARC/t2iadapter_canny_sd15v2",
      config: """
        {"_class_name": "T2IAdapter", "adapter_type": "full_adapter", "channels": [320, 640, 1280, 1280],
         "downscale_factor": 8, "in_channels": 1, "num_res_blocks": 2}
        """, isXL: false, downscale: 64),
    Published(
      name: "TencentARC/t2i-adapter-canny-sdxl-1.0",
      config: """
        {"_class_name": "T2IAdapter", "adapter_type": "full_adapter_xl", "channels": [320, 640, 1280, 1280],
         "downscale_factor": 16, "in_channels": 3, "num_res_blocks": 2}
        """, isXL: true, downscale: 32),
  ]

  private static func xl() throws -> UNet2DConditionConfig {
    let json = """
      {"_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
       "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
       "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
       "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 10],
       "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}
      """
    return try UNet2DConditionConfig(ConfigObject(StrictJSON(parsing: Array(json.utf8))))
  }

  /// Each is for its own base model and for no other.
  @Test(arguments: published) private func fitsItsBaseModel(published: Published) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(published.config.utf8).write(to: folder.appending(path: "config.json"))
    let none = try Tensor.fill(0, [1], on: devices[0])
    try SafetensorsWriter.write(
      [("none", none)], to: folder.appending(path: "diffusion_pytorch_model.safetensors"))
    let network = try ControlNetwork(url: folder)
    #expect(network.sizeMultiple == published.downscale)
    let (own, other) = (try Self.xl(), UNet2DConditionConfig())
    try network.check(fits: published.isXL ? own : other, scale: 8)
    let text = refusal { try network.check(fits: published.isXL ? other : own, scale: 8) }
    #expect(text.contains("was made for another base model: its"), "\(text)")
  }

  /// As many cross-attentions as the published files have: 16 for 1.5, and 70 for XL.
  @Test func crossAttentionsAreNumberedAsInFiles() throws {
    let (first, xl) = (UNet2DConditionConfig().crossAttentions, try Self.xl().crossAttentions)
    #expect(first.count == 16 && xl.count == 70)
    #expect(first[0].name == "down_blocks.0.attentions.0.transformer_blocks.0.attn2")
    #expect(first[6].name == "up_blocks.1.attentions.0.transformer_blocks.0.attn2")
    #expect(first[15].name == "mid_block.attentions.0.transformer_blocks.0.attn2")
    #expect(first.map(\.channels).prefix(7) == [320, 320, 640, 640, 1280, 1280, 1280])
  }

  // MARK: What does not fit

  private func refusal(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  @Test func networksOfAnotherModelAreNamed() throws {
    let setting = Setting(device: devices[0], dtype: .float32)
    let (sd, xl) = (try pipeline("tiny-sd", setting), try pipeline("tiny-xl", setting))
    func refusal(_ name: String, by pipeline: any Pipeline) -> String {
      self.refusal { _ = try pipeline.generate(request(#require(Self.runs[name]))) }
    }
    let control = refusal("control", by: xl)
    #expect(
      control.hasSuffix(
        "controlnet-first: this ControlNet was made for another base model: its cross_attention_dim is 64, "
          + "the model needs 24"), "\(control)")
    #expect(refusal("xl_control", by: sd).contains("cross_attention_dim is 24, the model needs 64"))
    let adapter = refusal("t2i", by: xl)
    #expect(adapter.contains("this T2I-Adapter was made for another base model: its features"), "\(adapter)")
    #expect(refusal("xl_t2i", by: sd).contains("T2I-Adapter was made for another base model"))
    #expect(
      refusal("ip", by: xl).contains(
        "this IP-Adapter was made for another base model: its cross_attention_dim is 64, the model needs 24"))
    let unCLIP = refusal("control", by: try pipeline("tiny-stable-unclip", setting))
    #expect(unCLIP.hasPrefix("StableUnCLIPPipeline has no use for the setting 'control'"), "\(unCLIP)")
  }

  @Test func filesOfOtherKindsAreNamed() throws {
    let root = Fixture.root
    #expect(
      refusal { _ = try ControlNetwork(url: root.appending(path: "tiny-sd/unet")) }
        .hasSuffix(
          "the control network UNet2DConditionModel is not supported (supported: ControlNetModel, T2IAdapter)"
        ))
    #expect(refusal { _ = try ControlNetwork(url: root.appending(path: "none")) }.hasSuffix("no such file"))
    let lora = refusal { _ = try ControlNetwork(url: root.appending(path: "adapters/peft.safetensors")) }
    #expect(lora.contains("a file that is no ControlNet is not supported"))
    #expect(
      refusal { _ = try ImagePromptAdapter(url: root.appending(path: "adapters/peft.safetensors")) }
        .contains("peft.safetensors: is no IP-Adapter"))
    let (file, encoder) = ("control/ip-adapter.safetensors", "tiny-unclip-variation/image_encoder")
    let width = refusal {
      _ = try ImagePromptAdapter(
        url: root.appending(path: file), imageEncoder: root.appending(path: encoder))
    }
    #expect(width.contains("takes vectors of 24 numbers"), "\(width)")
    #expect(width.contains("gives 16; it was made for another image encoder"), "\(width)")
    let other = refusal {
      _ = try ImagePromptAdapter(
        url: root.appending(path: file), imageEncoder: root.appending(path: "tiny-sd/unet"))
    }
    #expect(other.contains("the image encoder UNet2DConditionModel is not supported"), "\(other)")
    let alone = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: alone) }
    try FileManager.default.copyItem(at: root.appending(path: file), to: alone)
    let missing = refusal { _ = try ImagePromptAdapter(url: alone) }
    #expect(missing.contains("there is no folder 'image_encoder' beside it"), "\(missing)")
  }
}
