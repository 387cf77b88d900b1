import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// unCLIP, DALL-E 2's design (arXiv:2204.06125), in Karlo's layout: a prior makes an image embedding of the prompt, a
/// decoder a small picture of the embedding, and super-resolution a large one of that.
public struct UnCLIP: Pipeline {
  /// The class of model_index.json.
  public static let classes = ["UnCLIPPipeline"]
  /// The prior, the decoder and both networks of the super-resolution.
  public static let components =
    [ComponentNeed("prior", "PriorTransformer"), ComponentNeed("prior_scheduler")]
    + UnCLIPDecoderStage.components
  /// The size is the model's, and the samplers are.
  public static let options: Set<RequestOption> = [
    .prompt, .negativePrompt, .guidance, .preview, .steps, .priorSteps, .priorGuidance, .superResolutionSteps,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations; latents, embeddings and sampler arithmetic are float32 always.
  public let precision: DType
  let text: ProjectedTextStage
  let prior: PriorStage
  let decoding: UnCLIPDecoderStage

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    text = try ProjectedTextStage(checkpoint)
    prior = try PriorStage(checkpoint)
    decoding = try UnCLIPDecoderStage(checkpoint)
  }

  /// The reference's: 25 steps of the prior and of the decoder, 7 of super-resolution, guidance 4 and 8.
  public func fill(_ request: inout GenerationRequest) throws {
    decoding.fill(&request)
    request.priorSteps = request.priorSteps ?? 25
    request.priorGuidance = request.priorGuidance ?? 4
  }

  /// Every schedule, and the shapes.
  public func plan(_ request: GenerationRequest) throws -> UnCLIPPlan {
    try decoding.plan(request, prior: prior.steps(request))
  }

  /// A line for each setting that has no effect in this request.
  public func warnings(_ plan: UnCLIPPlan) -> [String] {
    let isUsed = plan.isGuided || ClassifierFreeGuidance.isUsed(scale: plan.request.priorGuidance ?? 1)
    return isUsed || plan.request.negativePrompt.isEmpty
      ? [] : ["the negative prompt has no effect without guidance (above 1)"]
  }

  /// Texts and image embeddings.
  public struct Conditioning {
    let texts: [ProjectedTextStage.Output]
    let embeddings: [Tensor]
  }

  /// Runs the text encoder and the prior.
  public func condition(_ plan: UnCLIPPlan, _ run: GenerationRun) throws -> Conditioning {
    guard let steps = plan.prior else { preconditionFailure("the plan has no prior") }
    let request = plan.request
    let isGuided = plan.isGuided || ClassifierFreeGuidance.isUsed(scale: request.priorGuidance ?? 1)
    let texts = try text.encode(
      request.prompts.map { isGuided ? [request.negativePrompt, $0] : [$0] }, as: precision, run)
    return Conditioning(
      texts: texts, embeddings: try prior.embeddings(of: texts, along: steps, as: precision, run))
  }

  /// Loads the decoder, guided where the plan is.
  public func denoiser(_ plan: UnCLIPPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  {
    try decoding.denoiser(
      plan, embeddings: conditioning.embeddings, texts: conditioning.texts, as: precision, run)
  }

  /// Loads the super-resolution, which samples the large pictures.
  public func decoder(_ plan: UnCLIPPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
  {
    try decoding.decoder(plan, as: precision, run)
  }

  /// The small picture itself.
  public func previewer(_ plan: UnCLIPPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ guess: Tensor, _ image: Int) throws -> Tensor
  {
    { guess, _ in guess }
  }
}

/// Variations of a picture, and the way between two (arXiv:2204.06125, sections 3.1 and 3.2): unCLIP's decoder and
/// super-resolution on the embeddings of CLIP's image encoder.
///
/// Between two pictures `GenerationRequest.count` frames are made, all from the same noise, so that only the
/// embedding changes.
public struct UnCLIPImageVariation: Pipeline {
  /// The class of model_index.json.
  public static let classes = ["UnCLIPImageVariationPipeline"]
  /// CLIP's image encoder, the decoder and both networks of the super-resolution.
  public static let components =
    [
      ComponentNeed("image_encoder", "CLIPVisionModelWithProjection"), ComponentNeed("feature_extractor"),
    ] + UnCLIPDecoderStage.components
  /// One picture or two; there is no text.
  public static let options: Set<RequestOption> = [
    .image, .guidance, .preview, .steps, .superResolutionSteps,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations; latents, embeddings and sampler arithmetic are float32 always.
  public let precision: DType
  let text: ProjectedTextStage
  let images: ImageEmbeddingStage
  let decoding: UnCLIPDecoderStage

  /// Reads configurations and tokenizer; weights are loaded by `generate`.
  ///
  /// Throws `CheckpointError`, `TokenizerError`, `ModelError`, `DiffusionError`.
  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType = .float32) throws {
    (self.checkpoint, self.device, self.precision) = (checkpoint, device, precision)
    text = try ProjectedTextStage(checkpoint)
    images = try ImageEmbeddingStage(checkpoint)
    decoding = try UnCLIPDecoderStage(checkpoint)
  }

  /// The reference's: 25 steps of the decoder, 7 of super-resolution, guidance 8.
  public func fill(_ request: inout GenerationRequest) throws {
    decoding.fill(&request)
    try ImageEmbeddingStage.fill(&request)
  }

  /// Every schedule, and the shapes.
  public func plan(_ request: GenerationRequest) throws -> UnCLIPPlan {
    try decoding.plan(request, prior: nil)
  }

  /// The empty text, and image embeddings.
  public typealias Conditioning = UnCLIP.Conditioning

  /// Runs the text encoder on nothing, and the image encoder.
  public func condition(_ plan: UnCLIPPlan, _ run: GenerationRun) throws -> Conditioning {
    let texts = try text.encode([plan.isGuided ? ["", ""] : [""]], as: precision, run)
    return Conditioning(texts: texts, embeddings: try images.embeddings(as: precision, run))
  }

  /// Loads the decoder, guided where the plan is.
  public func denoiser(_ plan: UnCLIPPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ image: Int) throws -> Trajectory
  {
    try decoding.denoiser(
      plan, embeddings: conditioning.embeddings, texts: conditioning.texts, as: precision, run)
  }

  /// Loads the super-resolution, which samples the large pictures.
  public func decoder(_ plan: UnCLIPPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
  {
    try decoding.decoder(plan, as: precision, run)
  }

  /// The small picture itself.
  public func previewer(_ plan: UnCLIPPlan, _ conditioning: Conditioning, _ run: GenerationRun) throws
    -> (_ guess: Tensor, _ image: Int) throws -> Tensor
  {
    { guess, _ in guess }
  }
}
