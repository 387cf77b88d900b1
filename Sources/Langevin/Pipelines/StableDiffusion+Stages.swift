import Foundation
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

extension StableDiffusion {
  /// [2, T, C] as (negative, prompt) where guided, else [1, T, C].
  func encodePrompts(
    _ request: GenerationRequest, guided: Bool, progress: (GenerationProgress) throws -> Void
  ) throws -> Tensor {
    let length = min(tokenizer.maximumLength, textConfig.maxPositions)
    let sequences = try (guided ? [request.negativePrompt, request.prompt] : [request.prompt]).map { prompt in
      let sequence = tokenizer(prompt, length: length)
      if let rest = sequence.truncated { try progress(.truncated(prompt: prompt, rest: rest)) }
      return sequence.ids
    }
    let weights = Weights(
      checkpoint.textEncoder.weights, on: device, as: precision, component: "text_encoder")
    let encoder = try stage("load text encoder") { try CLIPTextModel(textConfig, weights) }
    return try stage("text encoder") {
      let context = try encoder(sequences).lastHiddenState
      if try context.nonFiniteCount() > 0 {
        throw try locate(stage: "the text encoder") { _ = try encoder(sequences) }
      }
      return context
    }
  }

  func loadAutoencoder(withEncoder: Bool) throws -> AutoencoderKL {
    let dtype = vaeConfig.forceUpcast ? .float32 : precision
    let weights = Weights(checkpoint.vae.weights, on: device, as: dtype, component: "vae")
    return try stage("load autoencoder") {
      try AutoencoderKL(vaeConfig, weights, withEncoder: withEncoder)
    }
  }

  /// The UNet, guided where the plan is.
  func loadDenoiser(_ plan: Plan, context: Tensor) throws -> NetworkDenoiser {
    let weights = Weights(checkpoint.unet.weights, on: device, as: precision, component: "unet")
    let unet = try stage("load unet") { try UNet2DConditionModel(unetConfig, weights) }
    let dtype = precision
    let network: Network = { x, timestep in
      let timesteps = [Float](repeating: timestep, count: x.shape[0])
      return try unet(x.cast(to: dtype), timesteps: timesteps, context: context).cast(to: .float32)
    }
    let guidance = ClassifierFreeGuidance(scale: plan.request.guidance, network)
    return NetworkDenoiser(
      schedule.prediction, plan.isGuided ? { x, timestep in try guidance(x, timestep) } : network)
  }

  /// The final latent [1, h, w, C] of one image.
  func sample(
    _ plan: Plan, image: Int, with denoiser: NetworkDenoiser, vae: AutoencoderKL,
    progress: (GenerationProgress) throws -> Void
  ) throws -> Tensor {
    var noise = NoiseSource(plan.request.noise, seeds: [plan.seeds[image]], on: device)
    let start = try stage("start") { try self.start(plan, image: image, vae: vae, noise: &noise) }
    var before = start
    // The sampler takes its closure as optional, which counts as escaping.
    return try withoutActuallyEscaping(progress) { progress in
      try plan.request.sampler.sample(
        denoiser, from: start, along: plan.steps, config: schedule, eta: plan.request.eta, noise: &noise
      ) { step, count, latent in
        if try stage("check", { try latent.nonFiniteCount() }) > 0 {
          let level = plan.steps.steps[step - 1].from
          throw try locate(stage: "step \(step) of \(count)") { _ = try denoiser.denoised(before, at: level) }
        }
        before = latent
        try progress(.step(step, of: count, image: image))
      }
    }
  }

  /// The latent [1, h, w, C] at the first level of the schedule.
  private func start(_ plan: Plan, image: Int, vae: AutoencoderKL, noise: inout NoiseSource) throws -> Tensor
  {
    if let initial = plan.request.initialLatents {
      return try plan.steps.initial(noise: initial.tensor(on: device).rows(image..<image + 1))
    }
    guard let picture = plan.request.image else {
      return try plan.steps.initial(noise: noise.normal(plan.latentShape, for: .initial))
    }
    let sized = picture.resized(width: plan.width, height: plan.height)
    let input = try sized.tensor(on: device).cast(to: vaeConfig.forceUpcast ? .float32 : precision)
    let posterior = try vae.encode(input)
    let sample = try posterior.sample(noise: noise.normal(plan.latentShape, for: .posterior)).cast(
      to: .float32)
    let clean = try sample.affine(
      scale: vaeConfig.scalingFactor, offset: -vaeConfig.shiftFactor * vaeConfig.scalingFactor)
    return try plan.steps.addingNoise(noise.normal(plan.latentShape, for: .initial), to: clean)
  }

  func decode(_ latent: Tensor, with vae: AutoencoderKL) throws -> Picture {
    try stage("decoder") {
      let own = try latent.affine(scale: 1 / vaeConfig.scalingFactor, offset: vaeConfig.shiftFactor)
        .cast(to: vaeConfig.forceUpcast ? .float32 : precision)
      let decoded = try vae.decode(own).cast(to: .float32)
      if try decoded.nonFiniteCount() > 0 {
        throw try locate(stage: "the autoencoder's decoder") { _ = try vae.decode(own) }
      }
      return try Picture(decoded)
    }
  }

  /// Repeats a computation with every operation's output checked, and returns the error that names the first
  /// whose output is not finite.
  private func locate(stage: String, _ computation: () throws -> Void) throws -> GenerationError {
    device.audit = true
    defer { device.audit = false }
    do {
      try computation()
    } catch let error as TensorError {
      guard case .nonFinite(let operation, let output, _) = error else { throw error }
      return .nonFinite(stage: stage, operation: "\(operation) with output \(output)")
    }
    return .nonFinite(
      stage: stage, operation: "the sampler's update, or a device that does not repeat itself")
  }
}
