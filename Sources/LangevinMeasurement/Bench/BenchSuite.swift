import Foundation
import Langevin
import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinValidation

import enum LangevinTensor.Operation

/// What can be measured.
public enum BenchSuite: String, Sendable, CaseIterable, Codable {
  /// Single operations at the shapes that models dispatch.
  case ops
  /// The text encoder, two prompts.
  case clip
  /// One pass of the UNet, batch 2.
  case unet
  /// One pass of a video model's transformer, 17 frames of 256x256.
  case transformer
  /// The autoencoder, both ways.
  case vae
  /// A denoising step: the UNet guided (batch 2), guidance and DDIM's update.
  case step
  /// A picture from prompt to pixels, loading included.
  case image
  /// A training step's loss and the gradients of all parameters, for two networks of random weights.
  case gradients
}

/// Something to be timed, the same on every device.
public struct BenchWorkload: Sendable {
  /// One run whose work may still be queued on return; the closure that it returns reads the result.
  public typealias Run = () throws -> () throws -> [Float]

  /// How a device's result is checked.
  public enum Check: Sendable {
    /// By the validator, on the same case.
    case operation(OperationCase)
    /// `max |a - b| / max |b|` against the CPU backend's, at most this.
    case reference(tolerance: Float)
  }

  /// The workload's name in the table.
  public let name: String
  /// The storage of what is computed with.
  public let dtype: DType
  /// What makes a row count.
  public let check: Check
  /// Loads what the runs need.
  public let prepare: @Sendable (Device) throws -> Run

  /// A workload of these parts.
  public init(
    _ name: String, dtype: DType, check: Check, prepare: @escaping @Sendable (Device) throws -> Run
  ) {
    (self.name, self.dtype, self.check, self.prepare) = (name, dtype, check, prepare)
  }

  /// One row of the table of operations.
  public init(_ test: OperationCase, dtype: DType) {
    self.init(test.name, dtype: dtype, check: .operation(test)) { device in
      let operation = test.operation(dtype)
      guard device.backend.supports(operation, inputs: test.specs(dtype)) else {
        throw TensorError.unsupported(
          operation: operation.name, inputs: test.specs(dtype), device: device.name)
      }
      let inputs = try test.make(on: device, dtype: dtype, seed: 1)
      return {
        let result = try Tensor.apply(operation, inputs, on: device)
        return { try result.floats() }
      }
    }
  }

  /// The components of a Stable Diffusion model, or the transformer of a video model. `steps` is how many a picture
  /// gets, and `batch` how many pictures a step is of. Throws `CheckpointError` and `ModelError` for configurations and where the model has no such component.
  public static func model(
    _ suite: BenchSuite, _ checkpoint: Checkpoint, dtype: DType, arithmetic: ProductArithmetic = .float32,
    steps: Int = 10, batch: Int = 1
  ) throws -> [BenchWorkload] {
    let isExact = dtype == .float32 && arithmetic == .float32
    func parts() throws -> ModelParts { try ModelParts(checkpoint, dtype: dtype, isExact: isExact) }
    return switch suite {
    case .ops, .gradients: []
    case .clip: [try parts().text]
    case .unet: [try parts().unet]
    case .transformer: [try transformer(checkpoint, dtype: dtype, isExact: isExact)]
    case .vae: [try parts().decode, try parts().encode]
    case .step: [try parts().step(batch)]
    case .image: [try parts().image(steps: steps)]
    }
  }

  /// The networks of the suite `gradients`, or the one of that name.
  public static func gradients(_ name: String?, dtype: DType) throws -> [BenchWorkload] {
    try GradientStep.workloads(name, dtype: dtype)
  }

  /// What `gradients` knows.
  public static var gradientModels: [String] { GradientStep.names }

  /// WAN's transformer: 5 latent frames of 32x32, and 512 tokens of text.
  private static func transformer(_ checkpoint: Checkpoint, dtype: DType, isExact: Bool) throws
    -> BenchWorkload
  {
    let component = try checkpoint.component("transformer")
    let config = try WanTransformer3DConfig(component.configuration)
    return BenchWorkload(
      "transformer", dtype: dtype, check: .reference(tolerance: isExact ? 1e-4 : 2e-2)
    ) { device in
      let model = try WanTransformer3DModel(config, Weights(component.weights, on: device, as: dtype))
      func noise(_ shape: Shape, _ step: UInt32) throws -> Tensor {
        try Tensor.normal(shape, seed: 7, stream: 7, step: step, on: device).cast(to: dtype)
      }
      let latent = try noise([1, 5, 32, 32, config.inChannels], 0)
      let text = try noise([1, 512, config.textChannels], 1)
      return {
        let result = try model(latent, timesteps: [500], text: text)
        return { try result.floats() }
      }
    }
  }
}

/// A checkpoint's configurations, and the workloads made of them. Inputs are Philox noise, alike everywhere.
private struct ModelParts {
  let checkpoint: Checkpoint
  let dtype: DType
  /// Whether devices differ by the order of float32 sums alone.
  let isExact: Bool
  let textConfig: CLIPTextConfig
  let unetConfig: UNet2DConditionConfig
  let vaeConfig: AutoencoderKLConfig
  let schedule: SchedulerFile

  init(_ checkpoint: Checkpoint, dtype: DType, isExact: Bool) throws {
    self.checkpoint = checkpoint
    (self.dtype, self.isExact) = (dtype, isExact)
    textConfig = try CLIPTextConfig(checkpoint.textEncoder.configuration)
    unetConfig = try UNet2DConditionConfig(checkpoint.unet.configuration)
    vaeConfig = try AutoencoderKLConfig(checkpoint.vae.configuration)
    schedule = try SchedulerFile(json: checkpoint.scheduler).forStableDiffusion()
  }

  /// The tolerances of the golden tests: float32 sums in another order, and float16 storage of every activation, which also
  /// stands for inputs that are rounded to int8. Guidance multiplies the rounding.
  private func tolerance(guided: Bool = false) -> Float {
    isExact ? (guided ? 1e-3 : 1e-4) : 2e-2
  }

  private func noise(_ shape: Shape, _ step: UInt32, as dtype: DType, on device: Device) throws -> Tensor {
    let noise = NormalNoise(seed: 7, stream: 7, step: step, shape: shape)
    return try Tensor.apply(.normalNoise(noise), [], on: device).cast(to: dtype)
  }

  private func latent(_ count: Int) -> Shape {
    [count, unetConfig.sampleSize, unetConfig.sampleSize, unetConfig.inChannels]
  }

  private func loadUNet(_ device: Device) throws -> UNet2DConditionModel {
    try UNet2DConditionModel(unetConfig, Weights(checkpoint.unet.weights, on: device, as: dtype))
  }

  private func context(_ device: Device, pictures: Int = 1) throws -> Tensor {
    try noise(
      [2 * pictures, textConfig.maxPositions, unetConfig.crossAttentionChannels[0]], 1, as: dtype, on: device)
  }

  var text: BenchWorkload {
    BenchWorkload("text encoder", dtype: dtype, check: .reference(tolerance: tolerance())) { device in
      let encoder = try CLIPTextModel(
        textConfig, Weights(checkpoint.textEncoder.weights, on: device, as: dtype))
      let end = Int32(textConfig.endOfTextToken)
      let ids = (0..<Int32(2)).map { prompt -> [Int32] in
        (1..<Int32(textConfig.maxPositions)).map { ($0 * 7919 + prompt) % end } + [end]
      }
      return {
        let states = try encoder(ids).lastHiddenState
        return { try states.floats() }
      }
    }
  }

  var unet: BenchWorkload {
    BenchWorkload("unet", dtype: dtype, check: .reference(tolerance: tolerance())) { device in
      let unet = try loadUNet(device)
      let (context, x) = (try context(device), try noise(latent(2), 0, as: dtype, on: device))
      return {
        let result = try unet(x, timesteps: [501, 501], context: context)
        return { try result.floats() }
      }
    }
  }

  func step(_ pictures: Int) -> BenchWorkload {
    let name = pictures == 1 ? "step" : "step, \(pictures) pictures"
    let check = BenchWorkload.Check.reference(tolerance: tolerance(guided: true))
    return BenchWorkload(name, dtype: dtype, check: check) { device in
      let unet = try loadUNet(device)
      let (context, x) = (
        try context(device, pictures: pictures), try noise(latent(pictures), 0, as: .float32, on: device)
      )
      let guidance = ClassifierFreeGuidance(scale: 7.5) { x, timestep in
        let timesteps = [Float](repeating: timestep, count: x.shape[0])
        return try unet(x.cast(to: dtype), timesteps: timesteps, context: context).cast(to: .float32)
      }
      let denoiser = NetworkDenoiser(schedule.noise.prediction) { x, timestep in try guidance(x, timestep) }
      // One step from the middle of twenty.
      let sampler = try SamplerChoice.ddim.make(schedule)
      var levels = try sampler.schedule(schedule.noise, steps: 20)
      levels.steps = [levels.steps[levels.steps.count / 2]]
      return {
        var noise = NoiseSource(.philox, seeds: (0..<UInt64(pictures)).map { $0 }, on: device)
        let result = try sampler.sample(
          denoiser, from: x, along: levels, noise: &noise)
        return { try result.floats() }
      }
    }
  }

  private func loadVAE(_ device: Device, withEncoder: Bool) throws -> AutoencoderKL {
    try AutoencoderKL(
      vaeConfig, Weights(checkpoint.vae.weights, on: device, as: vaeDType), withEncoder: withEncoder)
  }

  private var vaeDType: DType { vaeConfig.forceUpcast ? .float32 : dtype }

  var decode: BenchWorkload {
    BenchWorkload("vae decode", dtype: vaeDType, check: .reference(tolerance: tolerance())) { device in
      let vae = try loadVAE(device, withEncoder: false)
      let x = try noise(latent(1), 0, as: vaeDType, on: device)
      return {
        let result = try vae.decode(x)
        return { try result.floats() }
      }
    }
  }

  var encode: BenchWorkload {
    BenchWorkload("vae encode", dtype: vaeDType, check: .reference(tolerance: tolerance())) { device in
      let vae = try loadVAE(device, withEncoder: true)
      let side = unetConfig.sampleSize * vaeConfig.downscale
      let x = try noise([1, side, side, vaeConfig.inChannels], 0, as: vaeDType, on: device).clamped(-1, 1)
      return {
        let result = try vae.encode(x)
        return { try result.mean.floats() }
      }
    }
  }

  func image(steps: Int) -> BenchWorkload {
    BenchWorkload(
      "image, \(steps) steps", dtype: dtype, check: .reference(tolerance: tolerance(guided: true))
    ) { device in
      let pipeline = try Pipelines.open(checkpoint, on: device, precision: dtype)
      var request = GenerationRequest(prompt: "grinning face")
      request.steps = steps
      request.seed = 1
      return {
        let result = try pipeline.generate(request)
        return { result.latents.values }
      }
    }
  }
}
