import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A CLIP text encoder with its projection and its tokenizer: what unCLIP's prior and decoder read.
struct ProjectedTextStage: Sendable {
  let component: Checkpoint.Component
  let config: CLIPTextConfig
  let tokenizer: CLIPTokenizer

  /// By the names of model_index.json.
  init(_ checkpoint: Checkpoint, encoder: String = "text_encoder", tokenizer: String = "tokenizer") throws {
    component = try checkpoint.component(encoder)
    config = try CLIPTextConfig(component.configuration)
    self.tokenizer = try checkpoint.tokenizer(named: tokenizer).load()
  }

  /// What texts became.
  struct Output: NetworkInput {
    /// The text embeddings, [N, D].
    let embeddings: Tensor
    /// The text encoder's hidden states, [N, T, C].
    let hidden: Tensor
    /// Which tokens are no padding.
    let visible: [[Bool]]

    static func joined(_ parts: [Output]) throws -> Output {
      Output(
        embeddings: try .joined(parts.map(\.embeddings)), hidden: try .joined(parts.map(\.hidden)),
        visible: parts.flatMap(\.visible))
    }

    func row(_ row: Int) throws -> Output {
      Output(
        embeddings: try embeddings.rows(row..<row + 1), hidden: try hidden.rows(row..<row + 1),
        visible: [visible[row]])
    }
  }

  /// Runs the encoder on each prompt beside its negative, and frees it.
  func encode(_ prompts: [Conditioned<String>], as dtype: DType, _ run: GenerationRun) throws
    -> [Conditioned<Output>]
  {
    let length = min(tokenizer.maximumLength, config.maxPositions)
    var told: Set<String> = []
    let sequences = try prompts.map { prompt in
      try prompt.map { text in
        let sequence = tokenizer(text, length: length)
        if let rest = sequence.truncated, told.insert(text).inserted {
          try run.report(.truncated(prompt: text, rest: rest))
        }
        return sequence
      }
    }
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "text_encoder")
    let encoder = try run.load("text encoder") { try CLIPTextModelWithProjection(config, weights) }
    return try sequences.map { prompt in
      var embeddings: [Tensor] = []
      let hidden = try run.compute("text encoder", "the text encoder") {
        let output = try encoder(prompt.all.map(\.ids))
        embeddings = [output.textEmbeds]
        return output.text.lastHiddenState
      }
      // Start, text and end.
      let visible = prompt.all.map { sequence in (0..<length).map { $0 < sequence.textCount + 2 } }
      let all = Output(embeddings: try .joined(embeddings), hidden: hidden, visible: visible)
      return Conditioned(
        try all.row(visible.count - 1), negative: visible.count > 1 ? try all.row(0) : nil)
    }
  }
}

/// What a prior does of a request.
public struct PriorRequest: Sendable {
  /// Whether and how much the prompt is preferred to the negative.
  public let guidance: Guidance
  /// The sampler and its steps.
  public let sampling: ResolvedSampling
}

/// A request whose image embeddings a prior makes.
public struct RequestWithPrior<Decoding: ResolvedRequest>: ResolvedRequest {
  /// Of the prior.
  public let prior: PriorRequest
  /// Of what makes pictures of embeddings.
  public let decoding: Decoding
  /// Settings without effect.
  public let warnings: [String]
  /// With every setting made.
  public var request: GenerationRequest { decoding.request }
}

/// unCLIP's prior, which makes image embeddings of texts: arXiv:2204.06125, section 2.2.
struct PriorStage: Sendable {
  let component: Checkpoint.Component
  let config: PriorTransformerConfig
  let scheduler: SchedulerFile

  init(_ checkpoint: Checkpoint) throws {
    component = try checkpoint.component("prior")
    config = try PriorTransformerConfig(component.configuration)
    guard config.takesText else {
      throw ModelError.unsupported(
        model: "PriorTransformer", key: "encoder_hid_proj_type", value: "null", supported: ["\"linear\""])
    }
    guard config.hasQuery else {
      throw ModelError.unsupported(
        model: "PriorTransformer", key: "added_emb_type", value: "null", supported: ["\"prd\""])
    }
    scheduler = try SchedulerFile(json: checkpoint.scheduler(named: "prior_scheduler"))
  }

  /// The reference's: 25 steps, guidance 4. Throws `DiffusionError`.
  func resolve(_ request: inout GenerationRequest) throws -> PriorRequest {
    let steps = request.setting(\.priorSteps, or: 25)
    return PriorRequest(
      guidance: Guidance(scale: request.setting(\.priorGuidance, or: 4)),
      sampling: try ResolvedSampling(scheduler, steps: steps, eta: request.eta))
  }

  /// Samples every image's embedding, in CLIP's own units, float32 [1, D]; the network is freed.
  ///
  /// `texts` has one for each of the request's prompts.
  func embeddings(
    of texts: [Conditioned<ProjectedTextStage.Output>], _ request: PriorRequest, as dtype: DType,
    _ run: GenerationRun
  ) throws -> [Tensor] {
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "prior")
    let prior = try run.load("prior") { try PriorTransformer(config, weights) }
    return try run.seeds.indices.map { image in
      let text = texts[run.request.prompt(of: image)]
      let denoiser = try request.guidance.denoiser(scheduler.noise.prediction, on: text) { text in
        let mask = try prior.attentionMask(visible: text.visible)
        return { x, timestep in
          try prior(
            x.cast(to: dtype), timesteps: [Float](repeating: timestep, count: x.shape[0]),
            embedding: text.embeddings, text: text.hidden, mask: mask)
        }
      }
      let trajectory = Trajectory(
        "prior", of: image..<image + 1, by: request.sampling, denoiser: denoiser,
        shape: [1, config.embeddingChannels])
      let sampled = try run.sample(trajectory)
      return try stage("prior") { try prior.postProcess(sampled) }
    }
  }
}
