import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// unCLIP, DALL-E 2's design (arXiv:2204.06125), in Karlo's layout: a prior makes an image embedding of the prompt, a
/// decoder a small picture of the embedding, and super-resolution a large one of that.
public struct UnCLIP: UnCLIPPipeline {
  /// The class of model_index.json.
  public static let classes = ["UnCLIPPipeline"]
  /// The prior, the decoder and both networks of the super-resolution.
  public static let components =
    [ComponentNeed("prior", "PriorTransformer"), ComponentNeed("prior_scheduler")]
    + UnCLIPDecoderStage.components
  /// The size is the model's, and the samplers are.
  public static let options: Set<RequestOption> = [
    .prompt, .negativePrompt, .guidance, .preview, .steps, .priorSteps, .priorGuidance,
    .superResolutionSteps,
  ]

  /// What it was made of.
  public let checkpoint: Checkpoint
  /// Where everything is computed.
  public let device: Device
  /// Storage of weights and activations; latents, embeddings and sampler arithmetic are float32 always.
  public let precision: DType
  let text: ProjectedTextStage
  let prior: PriorStage
  /// What makes pictures of embeddings.
  public let decoding: UnCLIPDecoderStage

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
  public func resolve(_ asked: GenerationRequest) throws -> RequestWithPrior<UnCLIPRequest> {
    var request = asked
    let prior = try prior.resolve(&request)
    let decoding = try decoding.resolve(request)
    let isUsed = decoding.guidance.isUsed || prior.guidance.isUsed || request.negativePrompt.isEmpty
    return RequestWithPrior(
      prior: prior, decoding: decoding,
      warnings: isUsed ? [] : ["the negative prompt has no effect without guidance (above 1)"])
  }

  /// Runs the text encoder and the prior.
  public func condition(_ request: RequestWithPrior<UnCLIPRequest>, _ run: GenerationRun) throws
    -> UnCLIPConditioning
  {
    // The negative is wanted where either is guided.
    let guidance = request.prior.guidance.isUsed ? request.prior.guidance : request.decoding.guidance
    let texts = try text.encode(run.request.prompts(guidance), as: precision, run)
    return UnCLIPConditioning(
      texts: texts, embeddings: try prior.embeddings(of: texts, request.prior, as: precision, run))
  }

  /// What becomes pictures once there are embeddings.
  public func decodingRequest(_ request: RequestWithPrior<UnCLIPRequest>) -> UnCLIPRequest {
    request.decoding
  }
}

/// Variations of a picture, and the way between two (arXiv:2204.06125, sections 3.1 and 3.2): unCLIP's decoder and
/// super-resolution on the embeddings of CLIP's image encoder.
///
/// Between two pictures `GenerationRequest.count` frames are made, all from the same noise, so that only the
/// embedding changes.
public struct UnCLIPImageVariation: UnCLIPPipeline {
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
  /// What makes pictures of embeddings.
  public let decoding: UnCLIPDecoderStage

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
  public func resolve(_ asked: GenerationRequest) throws -> UnCLIPRequest {
    var request = asked
    try ImageEmbeddingStage.resolve(&request)
    return try decoding.resolve(request)
  }

  /// Runs the text encoder on nothing, and the image encoder.
  public func condition(_ request: UnCLIPRequest, _ run: GenerationRun) throws -> UnCLIPConditioning {
    let nothing = Conditioned("", negative: request.guidance.isUsed ? "" : nil)
    return UnCLIPConditioning(
      texts: try text.encode([nothing], as: precision, run),
      embeddings: try images.embeddings(as: precision, run))
  }

  /// A request for pictures is one of the decoder too.
  public func decodingRequest(_ request: UnCLIPRequest) -> UnCLIPRequest { request }
}

/// What the prompts or pictures of an unCLIP request became.
public struct UnCLIPConditioning {
  /// One for each prompt.
  let texts: [Conditioned<ProjectedTextStage.Output>]
  /// Of each image, in CLIP's units, float32 [1, D].
  let embeddings: [Tensor]
}

/// A pipeline that ends in Karlo's decoder and super-resolution.
public protocol UnCLIPPipeline: Pipeline where Conditioning == UnCLIPConditioning {
  /// Storage of weights and activations.
  var precision: DType { get }
  /// What makes pictures of embeddings.
  var decoding: UnCLIPDecoderStage { get }
  /// What becomes pictures once there are embeddings.
  func decodingRequest(_ request: Resolved) -> UnCLIPRequest
}

extension UnCLIPPipeline {
  /// Loads the decoder.
  public func denoiser(_ request: Resolved, _ conditioning: UnCLIPConditioning, _ run: GenerationRun) throws
    -> TrajectoryMaker
  {
    try decoding.denoiser(decodingRequest(request), conditioning, as: precision, run)
  }

  /// Loads the super-resolution, which samples the large pictures.
  public func decoder(_ request: Resolved, _ conditioning: UnCLIPConditioning, _ run: GenerationRun) throws
    -> PixelDecoder
  {
    try decoding.decoder(decodingRequest(request), as: precision, run)
  }

  /// The small picture itself.
  public func previewer(_ request: Resolved, _ conditioning: UnCLIPConditioning, _ run: GenerationRun) throws
    -> PixelDecoder
  {
    { guess, _ in guess }
  }
}
