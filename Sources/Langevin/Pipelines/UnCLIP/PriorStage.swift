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

  /// What one row of prompts became.
  struct Output {
    /// The text embeddings, [prompts, D].
    let embeddings: Tensor
    /// The text encoder's hidden states, [prompts, T, C].
    let hidden: Tensor
    /// Which tokens are no padding.
    let visible: [[Bool]]

    /// All of (negative, prompt) where guided, else the prompt alone.
    func rows(guided: Bool) throws -> Output {
      let count = visible.count
      if guided || count == 1 { return self }
      return Output(
        embeddings: try embeddings.rows(count - 1..<count), hidden: try hidden.rows(count - 1..<count),
        visible: [visible[count - 1]])
    }
  }

  /// Runs the encoder on each row of prompts, and lets it go.
  func encode(_ rows: [[String]], as dtype: DType, _ run: GenerationRun) throws -> [Output] {
    let length = min(tokenizer.maximumLength, config.maxPositions)
    var told: Set<String> = []
    let sequences = try rows.map { row in
      try row.map { prompt in
        let sequence = tokenizer(prompt, length: length)
        if let rest = sequence.truncated, told.insert(prompt).inserted {
          try run.report(.truncated(prompt: prompt, rest: rest))
        }
        return sequence
      }
    }
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "text_encoder")
    let encoder = try run.load("text encoder") { try CLIPTextModelWithProjection(config, weights) }
    return try sequences.map { row in
      var embeddings: Tensor?
      let hidden = try run.compute("text encoder", "the text encoder") {
        let output = try encoder(row.map(\.ids))
        embeddings = output.textEmbeds
        return output.text.lastHiddenState
      }
      guard let embeddings else { preconditionFailure("the encoder did not run") }
      // Start, text and end.
      let visible = row.map { sequence in (0..<length).map { $0 < sequence.textCount + 2 } }
      return Output(embeddings: embeddings, hidden: hidden, visible: visible)
    }
  }
}

/// unCLIP's prior, which makes image embeddings of texts: arXiv:2204.06125, section 2.2.
struct PriorStage: Sendable {
  let component: Checkpoint.Component
  let config: PriorTransformerConfig
  let schedule: SchedulerFile
  let sampler: SamplerChoice

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
    schedule = try SchedulerFile(json: checkpoint.scheduler(named: "prior_scheduler"))
    sampler = schedule.sampler ?? .ddpm
  }

  /// The levels of a filled request.
  func steps(_ request: GenerationRequest) throws -> Schedule {
    try sampler.make(schedule).schedule(schedule.noise, steps: request.priorSteps ?? 25)
  }

  /// Samples every image's embedding, in CLIP's own units, float32 [1, D]; the network is let go.
  ///
  /// `texts` has one row of (negative, prompt), or of the prompt, for each of the request's prompts.
  func embeddings(
    of texts: [ProjectedTextStage.Output], along steps: Schedule, as dtype: DType, _ run: GenerationRun
  ) throws -> [Tensor] {
    let request = run.request
    let scale = request.priorGuidance ?? 1
    let weights = Weights(component.weights, on: run.device, as: dtype, component: "prior")
    let prior = try run.load("prior") { try PriorTransformer(config, weights) }
    return try run.seeds.indices.map { image in
      let text = try texts[request.prompt(of: image)]
        .rows(guided: ClassifierFreeGuidance.isUsed(scale: scale))
      let mask = try prior.attentionMask(visible: text.visible)
      let guidance = ClassifierFreeGuidance(scale: scale) { x, timestep in
        try prior(
          x.cast(to: dtype), timesteps: [Float](repeating: timestep, count: x.shape[0]),
          embedding: text.embeddings, text: text.hidden, mask: mask)
      }
      let trajectory = Trajectory(
        "prior", try sampler.make(schedule, eta: request.eta), along: steps,
        shape: [1, config.embeddingChannels],
        denoiser: NetworkDenoiser(schedule.noise.prediction) { x, timestep in try guidance(x, timestep) })
      let sampled = try run.sample(trajectory, image: image)
      return try stage("prior") { try prior.postProcess(sampled) }
    }
  }
}
