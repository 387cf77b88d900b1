import Foundation
import Langevin
import LangevinJSON
import LangevinNN
import LangevinTensor
import Synchronization

/// Weights that are made up when they are asked for, the same on every device: a model of any size without a
/// file. Kernels as PyTorch would start them, N(0, 1 / inputs), so that activations stay finite.
public final class RandomWeights: WeightSource {
  private let shapes = Mutex<[String: Shape]>([:])
  private let seed: UInt64

  /// None: whatever a model asks for is there.
  public let names: [String] = []
  /// What stands in the place of a file's path in messages.
  public let description = "random weights"

  /// Weights of one seed; tensors of other names and other seeds are independent.
  public init(seed: UInt64 = 1) { self.seed = seed }

  /// Nil until the model has said which shape it wants.
  public func spec(of name: String) -> TensorSpec? { shapes.withLock { $0[name] }.map { TensorSpec($0) } }

  /// Whatever is expected, in float32.
  public func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    shapes.withLock { $0[name] = shape }
    return TensorSpec(shape)
  }

  /// Computes the tensor on the device. Throws `TensorError`.
  public func load(_ name: String, on device: Device) throws -> Tensor {
    guard let shape = shapes.withLock({ $0[name] }) else {
      throw WeightError.missing(name: name, source: description)
    }
    // Vectors are biases, and scales of normalisations; the rest are kernels [outputs, inputs, ...].
    if shape.rank == 1 { return try Tensor.fill(name.hasSuffix("bias") ? 0 : 1, shape, on: device) }
    let inputs = shape.dimensions.dropFirst().reduce(1, *)
    let hash = FNV.hash(name.utf8, seed: seed)
    let noise = try Tensor.apply(
      .normalNoise(NormalNoise(seed: hash, stream: 0, step: 0, shape: shape)), [], on: device)
    return try noise.affine(scale: 1 / Float(max(inputs, 1)).squareRoot(), offset: 0)
  }
}

/// Models that need no download.
public enum RandomModel {
  /// The name by which `--model` asks for it.
  public static let stableDiffusion15Name = "sd15-random"

  /// The same of WAN 2.1's transformer.
  public static let wan21Name = "wan-1.3b-random"

  /// Stable Diffusion 1.5 (arXiv:2112.10752) at full size, 512 x 512, with random weights.
  ///
  /// Throws where a configuration does not parse.
  public static func stableDiffusion15() throws -> Checkpoint {
    let text = """
      {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
       "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
       "layer_norm_eps": 1e-5, "eos_token_id": 49407}
      """
    let unet = """
      {"sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
       "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": 8, "cross_attention_dim": 768,
       "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                            "DownBlock2D"],
       "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}
      """
    let vae = """
      {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2,
       "block_out_channels": [128, 256, 512, 512], "sample_size": 512, "norm_num_groups": 32,
       "scaling_factor": 0.18215,
       "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
                            "DownEncoderBlock2D"],
       "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}
      """
    let scheduler = """
      {"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
       "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "clip_sample": false,
       "set_alpha_to_one": false, "steps_offset": 1, "prediction_type": "epsilon"}
      """
    return try Checkpoint(
      url: URL(fileURLWithPath: stableDiffusion15Name), pipeline: "StableDiffusionPipeline",
      components: [
        "unet": component("UNet2DConditionModel", unet, seed: 1),
        "vae": component("AutoencoderKL", vae, seed: 2),
        "text_encoder": component("CLIPTextModel", text, seed: 3),
      ],
      schedulers: ["scheduler": Data(scheduler.utf8)],
      tokenizers: ["tokenizer": .clip(padding: "<|endoftext|>")])
  }

  /// The transformer of WAN 2.1 (arXiv:2503.20314), 1.3 billion parameters, with random weights; the other components
  /// are missing. Throws where its configuration does not parse.
  public static func wan21() throws -> Checkpoint {
    let config = """
      {"patch_size": [1, 2, 2], "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16,
       "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30,
       "cross_attn_norm": true, "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "rope_max_seq_len": 1024}
      """
    return try Checkpoint(
      url: URL(fileURLWithPath: wan21Name), pipeline: "WanPipeline",
      components: ["transformer": component("WanTransformer3DModel", config, seed: 1)])
  }

  private static func component(_ className: String, _ config: String, seed: UInt64) throws
    -> Checkpoint.Component
  {
    let parsed = try StrictJSON(parsing: Array(config.utf8))
    return Checkpoint.Component(className, config: parsed, weights: RandomWeights(seed: seed))
  }

  /// The shipped model where `name` is nil, a random one by its name, or else what `Checkpoint.locate` finds.
  /// Throws `CheckpointError`, `HubError`.
  public static func open(_ name: String?) throws -> (name: String, checkpoint: Checkpoint) {
    if name == stableDiffusion15Name { return (stableDiffusion15Name, try stableDiffusion15()) }
    if name == wan21Name { return (wan21Name, try wan21()) }
    let url = try name.map { try Checkpoint.locate($0) } ?? DefaultModel.url
    return (Checkpoint.name(of: url), try Checkpoint.open(url))
  }
}
