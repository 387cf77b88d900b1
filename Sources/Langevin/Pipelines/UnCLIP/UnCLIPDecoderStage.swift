import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A request to unCLIP's decoder and its super-resolution, with everything derived from it.
public struct UnCLIPRequest: ResolvedRequest {
  /// With every setting made.
  public let request: GenerationRequest
  /// Of the decoder.
  public let guidance: Guidance
  /// The decoder's sampler and steps.
  public let decoder: ResolvedSampling
  /// Super-resolution's sampler and steps.
  public let superResolution: ResolvedSampling
  /// Of its own it warns of nothing.
  public var warnings: [String] { [] }
}

/// What makes pictures of image embeddings in Karlo's layout: a text projection, a decoder of small pictures, and
/// super-resolution by two networks, the second of which takes the last step. arXiv:2204.06125, section 2.1.
public struct UnCLIPDecoderStage: Sendable {
  let projection: Checkpoint.Component
  let projectionConfig: UnCLIPTextProjectionConfig
  let decoder: Checkpoint.Component
  let decoderConfig: UNet2DConditionConfig
  let decoderScheduler: SchedulerFile
  /// All but the last step's, and the last step's.
  let superResolution: (first: Checkpoint.Component, last: Checkpoint.Component)
  let superResolutionConfig: (first: UNet2DConfig, last: UNet2DConfig)
  let superResolutionScheduler: SchedulerFile
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
    decoderScheduler = try SchedulerFile(json: checkpoint.scheduler(named: "decoder_scheduler"))
    superResolution = (
      try checkpoint.component("super_res_first"), try checkpoint.component("super_res_last")
    )
    superResolutionConfig = (
      try UNet2DConfig(superResolution.first.configuration),
      try UNet2DConfig(superResolution.last.configuration)
    )
    superResolutionScheduler = try SchedulerFile(json: checkpoint.scheduler(named: "super_res_scheduler"))
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

  /// The reference's: 25 steps, 7 of super-resolution, guidance 8. Throws `DiffusionError`.
  func resolve(_ asked: GenerationRequest) throws -> UnCLIPRequest {
    var request = asked
    let guidance = request.guidance(or: 8)
    let steps = request.setting(\.steps, or: 25)
    let enlarging = request.setting(\.superResolutionSteps, or: 7)
    return UnCLIPRequest(
      request: request, guidance: guidance,
      decoder: try ResolvedSampling(decoderScheduler, steps: steps),
      superResolution: try ResolvedSampling(superResolutionScheduler, steps: enlarging))
  }

  /// Loads the decoder, for one embedding [1, D] an image and a text for each prompt of the request.
  func denoiser(
    _ request: UnCLIPRequest, _ conditioning: UnCLIPConditioning, as dtype: DType, _ run: GenerationRun
  ) throws -> TrajectoryMaker {
    let inputs = try project(request, conditioning, as: dtype, run)
    let weights = Weights(decoder.weights, on: run.device, as: dtype, component: "decoder")
    let network = BoundUNet(
      model: try run.load("decoder") { try UNet2DConditionModel(decoderConfig, weights) }, dtype: dtype)
    let (scheduler, config) = (decoderScheduler, decoderConfig)
    return { images in
      let input = try Conditioned.joined(images.map { inputs[$0] })
      return Trajectory(
        "decoder", of: images, by: request.decoder,
        denoiser: try request.guidance.denoiser(scheduler.noise.prediction, on: input, network.bound),
        stream: 1, shape: [1, config.sampleSize, config.sampleSize, config.inChannels])
    }
  }

  /// What the decoder is conditioned on, for each image; the projection is freed.
  private func project(
    _ request: UnCLIPRequest, _ conditioning: UnCLIPConditioning, as dtype: DType, _ run: GenerationRun
  ) throws -> [Conditioned<UNetConditioning>] {
    let weights = Weights(projection.weights, on: run.device, as: dtype, component: "text_proj")
    let model = try run.load("text projection") { try UnCLIPTextProjection(projectionConfig, weights) }
    let extra = [Bool](repeating: true, count: projectionConfig.extraTokens)
    return try conditioning.embeddings.enumerated().map { image, embedding in
      var text = conditioning.texts[run.request.prompt(of: image)]
      if !request.guidance.isUsed { text = .plain(text.prompt) }
      let rows = text.all.count
      let joined = try ProjectedTextStage.Output.joined(text.all)
      let output = try stage("text projection") {
        try model(
          image: embedding.cast(to: dtype), prompt: joined.embeddings, text: joined.hidden, guided: rows > 1)
      }
      let all = UNetConditioning(
        context: output.context, contextMask: joined.visible.map { extra + $0 },
        classLabels: .vectors(output.timeAddition))
      return Conditioned(try all.rows(rows - 1..<rows), negative: rows > 1 ? try all.rows(0..<1) : nil)
    }
  }

  /// Loads both networks of the super-resolution; the closure samples the large picture of image k, given the small
  /// one.
  func decoder(_ request: UnCLIPRequest, as dtype: DType, _ run: GenerationRun) throws -> PixelDecoder {
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
    let (scheduler, size, channels) = (superResolutionScheduler, size, decoderConfig.inChannels)
    let end = request.superResolution.schedule.steps.last?.from.timestep
    return { small, image in
      let enlarged = try stage("enlarge") {
        try small.clamped(-1, 1).resizedBicubic(height: size, width: size)
      }
      let denoiser = NetworkDenoiser(scheduler.noise.prediction) { x, timestep in
        let input = try Tensor.concatenated([x, enlarged], axis: -1).cast(to: dtype)
        return try (timestep == end ? last : first)(input, timesteps: [timestep]).cast(to: .float32)
      }
      let trajectory = Trajectory(
        "super-resolution", of: image..<image + 1, by: request.superResolution, denoiser: denoiser, stream: 2,
        shape: [1, size, size, channels])
      return try run.sample(trajectory)
    }
  }
}
