import Foundation
import Langevin
import LangevinJSON
import LangevinMeasurement
import LangevinOpenCL
import LangevinTensor
import Testing

/// Models that no machine of the tests could load: at full size their memory is planned, and nothing of them is loaded.
@Suite struct FullSizePlanTests {
  private static let clip = """
    {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
     "num_attention_heads": 12, "projection_dim": 768}
    """
  private static let clipG = """
    {"vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
     "num_attention_heads": 20, "projection_dim": 1280, "hidden_act": "gelu"}
    """
  /// The encoder of T5 1.1 XXL, 4.76 billion parameters.
  private static let t5 = """
    {"model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
     "num_heads": 64, "feed_forward_proj": "gated-gelu"}
    """
  private static let vae = """
    {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16,
     "use_quant_conv": false, "use_post_quant_conv": false, "sample_size": 1024, "scaling_factor": 1.5305,
     "shift_factor": 0.0609,
     "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
                          "DownEncoderBlock2D"],
     "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}
    """
  private static let scheduler = """
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    """

  private func component(_ name: String, _ config: String) throws -> Checkpoint.Component {
    Checkpoint.Component(
      name, config: try StrictJSON(parsing: Array(config.utf8)), weights: RandomWeights())
  }

  /// In float16, on a device that offers so many bytes.
  private func plan(_ checkpoint: Checkpoint, limit: Int) throws -> (plan: MemoryPlan, peaks: [String: Int]) {
    let device = Device(try OpenCLBackend(index: 0, memoryLimit: limit))
    let plan = try MemoryPlan(
      GenerationRequest(prompt: "a lighthouse"), with: checkpoint, precision: .float16, on: device)
    return (plan, Dictionary(plan.stages.map { ($0.name, $0.peak) }) { max($0, $1) })
  }

  @Test func stableDiffusion3Medium() throws {
    let transformer = """
      {"sample_size": 128, "num_layers": 24, "attention_head_dim": 64, "num_attention_heads": 24,
       "joint_attention_dim": 4096, "caption_projection_dim": 1536, "pooled_projection_dim": 2048,
       "pos_embed_max_size": 192}
      """
    var components = [
      "transformer": try component("SD3Transformer2DModel", transformer),
      "vae": try component("AutoencoderKL", Self.vae),
      "text_encoder": try component("CLIPTextModelWithProjection", Self.clip),
      "text_encoder_2": try component("CLIPTextModelWithProjection", Self.clipG),
    ]
    var tokenizers: [String: Checkpoint.TokenizerSource] = [
      "tokenizer": .clip(padding: "<|endoftext|>"), "tokenizer_2": .clip(padding: "!"),
    ]
    func checkpoint() -> Checkpoint {
      Checkpoint(
        url: URL(fileURLWithPath: "sd3-random"), pipeline: "StableDiffusion3Pipeline", components: components,
        schedulers: ["scheduler": Data(Self.scheduler.utf8)], tokenizers: tokenizers)
    }
    // 2.08 billion parameters, positions among them; and the two largest encoders are not there together.
    let (small, peaks) = try plan(checkpoint(), limit: 8 << 30)
    #expect((4_100_000_000...4_700_000_000).contains(peaks["transformer"] ?? 0), "\(peaks)")
    #expect(small.peak == peaks.values.max() && small.peak < 4_800_000_000)

    components["text_encoder_3"] = try component("T5EncoderModel", Self.t5)
    tokenizers["tokenizer_3"] = .folder(fixtures.appending(path: "tiny-sd3/tokenizer_3"))
    let (large, more) = try plan(checkpoint(), limit: 8 << 30)
    #expect((9_500_000_000...10_300_000_000).contains(more["text encoder 3"] ?? 0), "\(more)")
    #expect(!large.fits && large.peak == more["text encoder 3"])
  }

  /// 11.9 billion parameters: 23.8 GB in float16.
  @Test func flux() throws {
    let text = Self.clip.replacing("\"projection_dim\": 768", with: "\"projection_dim\": 512")
    let components = [
      "transformer": try component("FluxTransformer2DModel", #"{"guidance_embeds": true}"#),
      "vae": try component("AutoencoderKL", Self.vae),
      "text_encoder": try component("CLIPTextModel", text),
      "text_encoder_2": try component("T5EncoderModel", Self.t5),
    ]
    let checkpoint = Checkpoint(
      url: URL(fileURLWithPath: "flux-random"), pipeline: "FluxPipeline", components: components,
      schedulers: ["scheduler": Data(Self.scheduler.utf8)],
      tokenizers: [
        "tokenizer": .clip(padding: "<|endoftext|>"),
        "tokenizer_2": .folder(fixtures.appending(path: "tiny-flux/tokenizer_2")),
      ])
    let (plan, peaks) = try plan(checkpoint, limit: 16 << 30)
    #expect((23_800_000_000...25_500_000_000).contains(peaks["transformer"] ?? 0), "\(peaks)")
    #expect(!plan.fits && plan.peak == peaks["transformer"])
  }
}
