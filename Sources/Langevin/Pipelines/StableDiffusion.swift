import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// Stable Diffusion 1.x and 2.x (arXiv:2112.10752) from a checkpoint to pictures, on one device.
public struct StableDiffusion: LatentPipeline {
  /// Text to image, image to image and inpainting are one pipeline.
  public static let classes = [
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
  ]
  /// Without a safety checker.
  public static let components = [
    ComponentNeed("unet", "UNet2DConditionModel"), ComponentNeed("vae", "AutoencoderKL"),
    ComponentNeed("text_encoder", "CLIPTextModel"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  /// One picture to start from, at most.
  public static let options: Set<RequestOption> = [
    .batch, .prompt, .negativePrompt, .promptSyntax, .guidance, .guidanceRescale, .guidanceInterval,
    .guidanceDevice, .preview,
    .steps, .sampler, .levels, .eta, .width, .height, .image, .mask, .canvas, .strength, .control,
    .imagePrompt, .highResolution, .cache, .initialLatents, .tiling,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoder and UNet; the autoencoder keeps float32 where its
  /// config forces it. Latents and sampler arithmetic are float32 always.
  public let precision: DType
  let text: ClipTextStage
  /// In `precision`.
  public let unet: UNetStage
  /// In `precision`, or float32 where its config forces it.
  public let autoencoder: AutoencoderStage
  /// The noise that the model was trained with, and the sampler that its folder names.
  public let scheduler: SchedulerFile

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    text = try ClipTextStage(checkpoint, precision: precision)
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    unet = try UNetStage(checkpoint, for: autoencoder, precision: precision)
    scheduler = try SchedulerFile(json: checkpoint.scheduler).forStableDiffusion()
  }

  /// 30 steps of DDIM, guidance 7.5; of a picture 0.7 of the schedule.
  public var defaults: LatentDefaults {
    LatentDefaults(guidance: 7.5, steps: 30, sampler: .ddim, strength: 0.7)
  }

  /// Runs the text encoder.
  public func inputs(_ request: LatentRequest, _ run: GenerationRun) throws
    -> [Conditioned<UNetConditioning>]
  {
    try text.encode(run.request.prompts(request.guidance), .last, run).map { prompt in
      prompt.map { UNetConditioning(context: $0.states) }
    }
  }
}
