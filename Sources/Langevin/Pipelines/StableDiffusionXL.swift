import LangevinDiffusion
import LangevinJSON
import LangevinModels
import LangevinNN
import LangevinTensor

/// Stable Diffusion XL (arXiv:2307.01952): two text encoders, pooled text and sizes beside the context.
public struct StableDiffusionXL: LatentPipeline {
  /// Text to image, image to image and inpainting are one pipeline.
  public static let classes = [
    "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline",
  ]
  /// The refiner, which has no first text encoder, is not among them.
  public static let components = [
    ComponentNeed("unet", "UNet2DConditionModel"), ComponentNeed("vae", "AutoencoderKL"),
    ComponentNeed("text_encoder", "CLIPTextModel"),
    ComponentNeed("text_encoder_2", "CLIPTextModelWithProjection"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
    ComponentNeed("tokenizer_2", "CLIPTokenizer", "CLIPTokenizerFast"), ComponentNeed("scheduler"),
  ]
  /// The options that Stable Diffusion takes.
  public static let options = StableDiffusion.options

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations of text encoders and UNet; the autoencoder keeps float32 where its config
  /// forces it.
  public let precision: DType
  let texts: [ClipTextStage]
  /// In `precision`.
  public let unet: UNetStage
  /// In `precision`, or float32 where its config forces it.
  public let autoencoder: AutoencoderStage
  /// The noise that the model was trained with, and the sampler that its folder names.
  public let scheduler: SchedulerFile
  /// Whether without a negative prompt the context that is steered away from is zero, rather than that of no words.
  let zeroesEmptyNegative: Bool

  /// Reads configurations and tokenizers; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    texts = [
      try ClipTextStage(checkpoint, precision: precision),
      try ClipTextStage(checkpoint, "text_encoder_2", tokenizer: "tokenizer_2", precision: precision),
    ]
    autoencoder = try AutoencoderStage(checkpoint, precision: precision)
    unet = try UNetStage(checkpoint, for: autoencoder, precision: precision)
    scheduler = try SchedulerFile(json: checkpoint.scheduler)
    zeroesEmptyNegative = checkpoint.index["force_zeros_for_empty_prompt"] != .bool(false)
    guard checkpoint.index["requires_aesthetics_score"] != .bool(true) else {
      throw CheckpointError.unsupported(
        path: checkpoint.url.path, found: "requires_aesthetics_score = true", supported: ["false"])
    }
  }

  /// 30 steps of the scheduler's own sampler, guidance 5; of a picture 0.3 of the schedule.
  public var defaults: LatentDefaults {
    LatentDefaults(guidance: 5, steps: 30, sampler: scheduler.sampler ?? .euler, strength: 0.3)
  }

  /// Runs one text encoder after the other.
  public func inputs(_ request: LatentRequest, _ run: GenerationRun) throws
    -> [Conditioned<UNetConditioning>]
  {
    let prompts = run.request.prompts(request.guidance)
    let encoded = try texts.map { try $0.encode(prompts, .penultimate, run) }
    let sizes = Self.sizes(width: request.width, height: request.height)
    func input(_ first: ClipTextStage.Encoded, _ second: ClipTextStage.Encoded) throws -> UNetConditioning {
      let context = try ClipTextStage.joined(first, second)
      guard let pooled = second.pooled else {
        throw ModelError.notLoaded(model: texts[1].component.className, part: "text_projection")
      }
      return UNetConditioning(context: context, textTime: UNetTextTime(textEmbeds: pooled, timeIDs: [sizes]))
    }
    let zeroes = run.request.negativePrompt.isEmpty && zeroesEmptyNegative
    return try zip(encoded[0], encoded[1]).map { first, second in
      let prompt = try input(first.prompt, second.prompt)
      guard case .guided(let own, _) = first, case .guided(let other, _) = second else {
        return .plain(prompt)
      }
      let negative = try input(own, other)
      return .guided(negative: zeroes ? try negative.zeroed : negative, prompt: prompt)
    }
  }

  /// The sizes that the network is told are those of the second pass.
  public func resized(_ input: UNetConditioning, width: Int, height: Int) -> UNetConditioning {
    var input = input
    let count = input.textTime?.timeIDs.count ?? 0
    input.textTime?.timeIDs = Array(repeating: Self.sizes(width: width, height: height), count: count)
    return input
  }

  /// Original height and width, the crop's top and left, target height and width.
  private static func sizes(width: Int, height: Int) -> [Float] {
    [Float(height), Float(width), 0, 0, Float(height), Float(width)]
  }
}

extension UNetConditioning {
  /// The same with zeros for its texts.
  fileprivate var zeroed: UNetConditioning {
    get throws {
      func zero(_ x: Tensor) throws -> Tensor { try .fill(0, x.shape, dtype: x.dtype, on: x.device) }
      var zeroed = self
      zeroed.context = try zero(context)
      if let textTime { zeroed.textTime?.textEmbeds = try zero(textTime.textEmbeds) }
      return zeroed
    }
  }
}
