import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// unCLIP's request with everything derived from it.
public struct UnCLIPPlan {
  /// With every setting made.
  public let request: GenerationRequest
  /// The prior's levels; nil where embeddings come from pictures.
  public let prior: Schedule?
  /// The noise levels that the decoder goes through.
  public let decoder: Schedule
  /// The noise levels that super-resolution goes through.
  public let superResolution: Schedule

  /// Whether the decoder runs on (negative, prompt).
  public var isGuided: Bool { ClassifierFreeGuidance.isUsed(scale: request.guidance ?? 1) }
}

/// What makes pictures of image embeddings in Karlo's layout: a text projection, a decoder of small pictures, and
/// super-resolution by two networks, the second of which takes the last step. arXiv:2204.06125, section 2.1.
struct UnCLIPDecoderStage: Sendable {
  let projection: Checkpoint.Component
  let projectionConfig: UnCLIPTextProjectionConfig
  let decoder: Checkpoint.Component
  let decoderConfig: UNet2DConditionConfig
  let decoderSchedule: SchedulerFile
  /// All but the last step's, and the last step's.
  let superResolution: (first: Checkpoint.Component, last: Checkpoint.Component)
  let superResolutionConfig: (first: UNet2DConfig, last: UNet2DConfig)
  let superResolutionSchedule: SchedulerFile
  /// Pixels a side of the final picture.
  let size: Int

  static let components = [
    ComponentNeed("decoder", "UNet2DConditionModel"), ComponentNeed("text_proj", "UnCLIPTextProjModel"),
    ComponentNeed("text_encoder", "CLIPTextModelWithProjection"),
    ComponentNeed("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
    ComponentNeed("super_res_first", "UNet2DModel"), ComponentNeed("super_res_last", "UNet2DModel"),
    ComponentNeed("decoder_scheduler"), ComponentNeed("super_res_scheduler"),
  ]

  init(_ checkpoint: Checkpoint) throws {
    projection = try checkpoint.component("text_proj")
    projectionConfig = try UnCLIPTextProjectionConfig(projection.configuration)
    decoder = try checkpoint.component("decoder")
    decoderConfig = try UNet2DConditionConfig(decoder.configuration)
    decoderSchedule = try SchedulerFile(json: checkpoint.scheduler(named: "decoder_scheduler"))
    superResolution = (
      try checkpoint.component("super_res_first"), try checkpoint.component("super_res_last")
    )
    superResolutionConfig = (
      try UNet2DConfig(superResolution.first.configuration),
      try UNet2DConfig(superResolution.last.configuration)
    )
    superResolutionSchedule = try SchedulerFile(json: checkpoint.scheduler(named: "super_res_scheduler"))
    guard let size = superResolutionConfig.first.sampleSize else {
      throw ModelError.invalidConfig(
        model: "super_res_first", key: "sample_size", value: "absent", expected: "the pictures' size")
    }
    self.size = size
    // Each sees the noisy picture beside the small one.
    for (name, config) in [
      ("super_res_first", superResolutionConfig.first), ("super_res_last", superResolutionConfig.last),
    ] where config.inChannels != 2 * decoderConfig.inChannels {
      throw ModelError.invalidConfig(
        model: name, key: "in_channels", value: "\(config.inChannels)",
        expected: "\(2 * decoderConfig.inChannels), twice the decoder's")
    }
  }

  /// The reference's numbers of steps and its guidance.
  func fill(_ request: inout GenerationRequest) {
    request.guidance = request.guidance ?? 8
    request.steps = request.steps ?? 25
    request.superResolutionSteps = request.superResolutionSteps ?? 7
  }

  /// Of a filled request.
  func plan(_ request: GenerationRequest, prior: Schedule?) throws -> UnCLIPPlan {
    func levels(_ file: SchedulerFile, _ count: Int?) throws -> Schedule {
      try (file.sampler ?? .ddpm).make(file).schedule(file.noise, steps: count ?? 1)
    }
    return UnCLIPPlan(
      request: request, prior: prior, decoder: try levels(decoderSchedule, request.steps),
      superResolution: try levels(superResolutionSchedule, request.superResolutionSteps))
  }

  /// Loads the decoder; the closure gives the trajectory of image k, from one embedding [1, D] an image and a row of
  /// (negative, prompt), or of the prompt, for each prompt of the request.
  func denoiser(
    _ plan: UnCLIPPlan, embeddings: [Tensor], texts: [ProjectedTextStage.Output], as dtype: DType,
    _ run: GenerationRun
  ) throws -> (_ image: Int) throws -> Trajectory {
    let conditionings = try project(plan, embeddings, texts, as: dtype, run)
    let weights = Weights(decoder.weights, on: run.device, as: dtype, component: "decoder")
    let model = try run.load("decoder") { try UNet2DConditionModel(decoderConfig, weights) }
    let (schedule, config) = (decoderSchedule, decoderConfig)
    return { image in
      let guidance = ClassifierFreeGuidance(scale: plan.request.guidance ?? 1) { x, timestep in
        let timesteps = [Float](repeating: timestep, count: x.shape[0])
        return try model(x.cast(to: dtype), timesteps: timesteps, conditioning: conditionings[image])
      }
      return Trajectory(
        "decoder", try (schedule.sampler ?? .ddpm).make(schedule), along: plan.decoder, stream: 1,
        shape: [1, config.sampleSize, config.sampleSize, config.inChannels],
        denoiser: NetworkDenoiser(schedule.noise.prediction) { x, timestep in try guidance(x, timestep) })
    }
  }

  /// What the decoder is conditioned on, for each image; the projection is let go.
  private func project(
    _ plan: UnCLIPPlan, _ embeddings: [Tensor], _ texts: [ProjectedTextStage.Output], as dtype: DType,
    _ run: GenerationRun
  ) throws -> [UNetConditioning] {
    let weights = Weights(projection.weights, on: run.device, as: dtype, component: "text_proj")
    let model = try run.load("text projection") { try UnCLIPTextProjection(projectionConfig, weights) }
    let extra = [Bool](repeating: true, count: projectionConfig.extraTokens)
    return try embeddings.enumerated().map { image, embedding in
      let text = try texts[plan.request.prompt(of: image)].rows(guided: plan.isGuided)
      let output = try stage("text projection") {
        try model(
          image: embedding.cast(to: dtype), prompt: text.embeddings, text: text.hidden, guided: plan.isGuided)
      }
      return UNetConditioning(
        context: output.context, contextMask: text.visible.map { extra + $0 },
        classLabels: .vectors(output.timeAddition))
    }
  }

  /// Loads both networks of the super-resolution; the closure samples the large picture of image k, given the small
  /// one.
  func decoder(_ plan: UnCLIPPlan, as dtype: DType, _ run: GenerationRun) throws
    -> (_ latent: Tensor, _ image: Int) throws -> Tensor
  {
    func load(_ component: Checkpoint.Component, _ config: UNet2DConfig, _ name: String) throws -> UNet2DModel
    {
      try UNet2DModel(config, Weights(component.weights, on: run.device, as: dtype, component: name))
    }
    let (first, last) = try run.load("super-resolution") {
      (
        try load(superResolution.first, superResolutionConfig.first, "super_res_first"),
        try load(superResolution.last, superResolutionConfig.last, "super_res_last")
      )
    }
    let (schedule, size, channels) = (superResolutionSchedule, size, decoderConfig.inChannels)
    let end = plan.superResolution.steps.last?.from.timestep
    return { small, image in
      let enlarged = try stage("enlarge") {
        try small.clamped(-1, 1).resizedBicubic(height: size, width: size)
      }
      let denoiser = NetworkDenoiser(schedule.noise.prediction) { x, timestep in
        let input = try Tensor.concatenated([x, enlarged], axis: -1).cast(to: dtype)
        return try (timestep == end ? last : first)(input, timesteps: [timestep]).cast(to: .float32)
      }
      let trajectory = Trajectory(
        "super-resolution", try (schedule.sampler ?? .ddpm).make(schedule), along: plan.superResolution,
        stream: 2, shape: [1, size, size, channels], denoiser: denoiser)
      return try run.sample(trajectory, image: image)
    }
  }
}
