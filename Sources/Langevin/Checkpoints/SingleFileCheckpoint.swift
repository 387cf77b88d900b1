import Foundation
import LangevinJSON
import LangevinNN
import LangevinTensor

/// A Stable Diffusion 1.x, 2.x or XL checkpoint in one file, under the keys of the original implementation.
///
/// The architecture is read from the shapes, and what shapes do not tell follows the family: 1.x has 8 heads
/// at every level of its UNet, 2.x and XL heads of 64.
public struct SingleFileCheckpoint {
  /// Of the original implementation; it shows in the text encoder.
  public enum Family: String, Sendable, CaseIterable {
    case stableDiffusion1 = "Stable Diffusion 1.x"
    case stableDiffusion2 = "Stable Diffusion 2.x"
    case stableDiffusionXL = "Stable Diffusion XL"
  }

  /// Which of them the file is.
  public let family: Family
  /// The file's parts under diffusers' names.
  public let checkpoint: Checkpoint
  /// The file's keys that no part of the model reads: the schedule's buffers, averaged copies.
  let spare: [String]

  /// - Parameters:
  ///   - url: a safetensors or GGUF file.
  ///   - prediction: what the UNet predicts; by default `epsilon` for 1.x and XL and, as diffusers decides, for 2.x
  ///     `v_prediction` unless the file records the 875,000 training steps of 2-base.
  ///
  /// Throws `CheckpointError`: what opening the file throws, `unsupported`, `missingTensor`, `unknownTensors`.
  public init(url: URL, prediction: String? = nil) throws {
    let file = try TensorFiles.open(url)
    let textFamilies = SingleFileText.families(of: file)
    guard let textFamily = textFamilies.first,
      file.shape(of: SingleFileUNet.prefix + "input_blocks.0.0.weight") != nil
    else {
      let kind = Self.kind(of: file)
      let isTransformer = kind.hasSuffix("in one file")
      let place = isTransformer ? ["its transformer in the place of a folder's own: --unet"] : []
      throw CheckpointError.unsupported(
        path: url.path, found: kind,
        supported: ["Stable Diffusion 1.x, 2.x and XL in the original key layout"] + place)
    }
    family =
      textFamilies.count == 2
      ? .stableDiffusionXL : textFamily.isOpenCLIP ? .stableDiffusion2 : .stableDiffusion1
    let texts = try textFamilies.map { try SingleFileText(file, family: $0) }
    let unet = try SingleFileUNet(file, hasAdded: family == .stableDiffusionXL)
    let vae = try SingleFileVAE(file)
    // Latents, or for inpainting latents, a mask and latents.
    let inputs = [vae.latentChannels, 2 * vae.latentChannels + 1]
    guard inputs.contains(unet.inChannels), unet.outChannels == vae.latentChannels else {
      let kind = unet.inChannels == 8 ? " (instruct-pix2pix)" : ""
      throw CheckpointError.unsupported(
        path: url.path, found: "a UNet with \(unet.inChannels) input channels\(kind)",
        supported: ["\(inputs[0]) input channels", "\(inputs[1]) (inpainting)"])
    }
    let textWidth = texts.reduce(0) { $0 + $1.width }
    guard unet.contextWidth == textWidth else {
      throw CheckpointError.malformed(
        path: url.path,
        reason: "the UNet takes text \(unet.contextWidth) wide, the text encoder gives \(textWidth)")
    }

    let isBase = family != .stableDiffusion2 || file.integer("global_step") == 875_000
    let predicted = prediction ?? (isBase ? "epsilon" : "v_prediction")
    let pixels =
      switch family {
      case .stableDiffusion1: 512
      case .stableDiffusion2: predicted == "v_prediction" ? 768 : 512
      case .stableDiffusionXL: 1024
      }
    let unetTable = unet.table.map {
      (name: $0.name, place: RenamedWeights.Place(key: SingleFileUNet.prefix + $0.key))
    }
    let vaeTable = vae.table.map {
      (name: $0.name, place: RenamedWeights.Place(key: SingleFileVAE.prefix + $0.key, isLinear: $0.isLinear))
    }
    let used = Set((unetTable + vaeTable + texts.flatMap(\.table)).map(\.place.key))
    spare = file.names.filter { !used.contains($0) }
    let textSpare = texts.reduce(into: Set<String>()) { $0.formUnion($1.spare) }
    let unknown = spare.filter { !Self.isSpare($0) && !textSpare.contains($0) }
    guard unknown.isEmpty else {
      throw CheckpointError.unknownTensors(path: url.path, names: unknown.sorted())
    }

    let isXL = family == .stableDiffusionXL
    var components = [
      "unet": Checkpoint.Component(
        "UNet2DConditionModel",
        config: unet.config(
          heads: try Self.heads(of: unet, family: family, path: url.path), sampleSize: pixels / vae.scale,
          sizeChannels: try Self.sizeChannels(of: unet, texts.last, path: url.path)),
        weights: try RenamedWeights(unetTable, in: file)),
      "vae": Checkpoint.Component(
        "AutoencoderKL",
        config: vae.config(sampleSize: pixels, scalingFactor: isXL ? 0.13025 : 0.18215),
        weights: try RenamedWeights(vaeTable, in: file)),
    ]
    var tokenizers: [String: Checkpoint.TokenizerSource] = [:]
    for (text, suffix) in zip(texts, ["", "_2"]) {
      components["text_encoder" + suffix] = Checkpoint.Component(
        text.className, config: text.config(), weights: try RenamedWeights(text.table, in: file))
      tokenizers["tokenizer" + suffix] = .clip(padding: text.family.isOpenCLIP ? "!" : "<|endoftext|>")
    }
    checkpoint = Checkpoint(
      url: url, pipeline: isXL ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline",
      components: components, schedulers: ["scheduler": Self.scheduler(prediction: predicted).data],
      tokenizers: tokenizers,
      // As the original sampled: an empty negative prompt is a context of zeros.
      index: .object(isXL ? [StrictJSON.Member("force_zeros_for_empty_prompt", .bool(true))] : []))
  }

  /// What is left of the added width beside the pooled text, for six sizes and positions.
  private static func sizeChannels(of unet: SingleFileUNet, _ text: SingleFileText?, path: String) throws
    -> Int?
  {
    guard let added = unet.addedWidth, let pooled = text?.projectionWidth else { return nil }
    guard added > pooled, (added - pooled) % 12 == 0 else {
      throw CheckpointError.malformed(
        path: path,
        reason: "the UNet's added embedding is \(added) wide, which leaves no sizes beside \(pooled) of text")
    }
    return (added - pooled) / 6
  }

  private static func heads(of unet: SingleFileUNet, family: Family, path: String) throws -> StrictJSON {
    guard family != .stableDiffusion1 else { return .integer(8) }
    if let width = unet.widths.first(where: { $0 % 64 != 0 }) {
      throw CheckpointError.unsupported(
        path: path, found: "a UNet level \(width) channels wide",
        supported: ["multiples of 64 in \(family.rawValue)"])
    }
    return .integers(unet.widths.map { $0 / 64 })
  }

  /// What is known of a file that is of no family.
  private static func kind(of file: any TensorFile) -> String {
    if file.names.contains(where: { $0.hasPrefix("conditioner.embedders.0.model.") }) {
      return "the refiner of Stable Diffusion XL"
    }
    if file.names.contains(where: { $0.hasPrefix("conditioner.embedders.") }) {
      return "a part of Stable Diffusion XL"
    }
    for (part, family) in [
      ("joint_blocks.", "Stable Diffusion 3"), ("double_blocks.", "FLUX.1"), ("head.modulation", "WAN"),
    ] where file.names.contains(where: { $0.contains(part) }) {
      return "\(family) in one file"
    }
    if file.names.contains(where: { $0.hasPrefix("lora_") || $0.contains(".lora_") }) { return "a LoRA" }
    if file.names.contains(where: { $0.hasPrefix("control_model.") }) { return "a ControlNet" }
    guard let first = file.names.sorted().first else { return "a file without tensors" }
    return "a file with keys such as '\(first)'"
  }

  /// The training schedule of all families.
  private static func scheduler(prediction: String) -> StrictJSON {
    .object([
      StrictJSON.Member("_class_name", .string("DDIMScheduler")),
      StrictJSON.Member("beta_end", .real(0.012)),
      StrictJSON.Member("beta_schedule", .string("scaled_linear")),
      StrictJSON.Member("beta_start", .real(0.00085)),
      StrictJSON.Member("clip_sample", .bool(false)),
      StrictJSON.Member("num_train_timesteps", .integer(1000)),
      StrictJSON.Member("prediction_type", .string(prediction)),
      StrictJSON.Member("set_alpha_to_one", .bool(false)),
      StrictJSON.Member("steps_offset", .integer(1)),
      StrictJSON.Member("timestep_spacing", .string("leading")),
    ])
  }

  private static func isSpare(_ key: String) -> Bool {
    // Moving averages of the weights, and what training the autoencoder left behind.
    key.hasPrefix("model_ema.") || key.hasPrefix("first_stage_model.loss.") || buffers.contains(key)
  }

  /// The schedule, which the scheduler's configuration gives again.
  private static let buffers: Set<String> = [
    "alphas_cumprod", "alphas_cumprod_prev", "betas", "denoiser.sigmas", "global_step",
    "log_one_minus_alphas_cumprod", "logvar",
    "lvlb_weights", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
    "posterior_variance", "scale_factor", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
  ]
}
