import ArgumentParser
import Foundation
import Langevin
import LangevinDiffusion
import LangevinMeasurement
import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinValidation
import Synchronization

/// `langevin harvest FILE`: runs full-size models for their shapes alone, without weights, memory or arithmetic,
/// and writes Sources/LangevinValidation/Cases/RecordedShapes.swift.
struct Harvest: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Records the shapes that real models dispatch.", shouldDisplay: false)

  @Argument(help: "The file to write.")
  var file: String

  func run() throws {
    let shapes = try ShapeHarvest.run()
    let source = try ModelShapes.source(of: shapes)
    try Array(source.utf8).withUnsafeBytes { try OutputFile.write($0, to: URL(fileURLWithPath: file)) }
    Output.result("\(file): \(shapes.count) shapes")
  }
}

/// Stable Diffusion 1.5 at 512 x 512 and 2.1 at 768 x 768 with their text encoders and autoencoders, one picture
/// with guidance; 1.5's ControlNet, T2I-Adapter and IP-Adapter; CLIP's image encoder; the transformers of WAN 2.1, 17
/// frames of 256 x 256, and of its 14 billion parameters of a picture, FLUX.1 and Stable Diffusion 3 at 256 x 256, with
/// short texts, as a wide network's rows cost the most to check; the training steps of the suite `gradients`.
enum ShapeHarvest {
  static func run() throws -> [ModelShape] {
    let collector = Mutex(ModelShapeCollector())
    func record(
      _ model: String, on device: Device = Device(ShapeBackend()), withMovement: Bool = true,
      _ body: (Device) throws -> Void
    ) throws {
      device.observe { event in
        if !withMovement, case .moved = event.operation.definition.locality { return }
        collector.withLock { $0.add(event.operation, event.inputs, model: model) }
      }
      try body(device)
      device.observe(nil)
    }

    try record("CLIP ViT-L/14 text") { try text(textConfig15, on: $0) }
    try record("OpenCLIP ViT-H text") { try text(textConfig21, on: $0) }
    try record("CLIP ViT-L/14 image") { try image(visionConfig, on: $0) }
    for (name, run) in [
      ("WAN 2.1 transformer", video), ("WAN 2.1 image-to-video transformer", videoOfPicture),
      ("FLUX.1 transformer", flux), ("SD 3 transformer", mmdit),
    ] {
      try record(name) { device in
        for dtype in [DType.float32, .float16] { try run(dtype, device) }
      }
    }
    for (name, unet, size, prediction) in [
      ("SD 1.5", UNet2DConditionConfig(), 64, Prediction.epsilon), ("SD 2.1", unetConfig21, 96, .v),
    ] {
      try record("\(name) UNet") { device in
        for dtype in [DType.float32, .float16] {
          try denoise(unet, latent: size, prediction, dtype, on: device)
        }
      }
      for isEncoder in [false, true] {
        try record("\(name) VAE \(isEncoder ? "encoder" : "decoder")") { device in
          try autoencode(latent: size, isEncoder: isEncoder, on: device)
        }
      }
    }
    try record("SD 1.5 control") { device in
      for dtype in [DType.float32, .float16] { try control(dtype, on: device) }
    }
    for name in BenchWorkload.gradientModels {
      for workload in try BenchWorkload.gradients(name, dtype: .float32) {
        let device = Device(ShapeBackend())
        let step = try workload.prepare(device)
        // Weights that are packed anew are moved in a shape for each.
        try record("\(name) training", on: device, withMovement: false) { _ in _ = try step() }
      }
    }
    // A tensor without elements never reaches a backend.
    return collector.withLock { $0.shapes }.filter { $0.inputs.allSatisfy { $0.shape.count > 0 } }
  }

  private static var textConfig15: CLIPTextConfig {
    var config = CLIPTextConfig()
    (config.hiddenSize, config.intermediateSize, config.headCount) = (768, 3072, 12)
    return config
  }

  /// Stable Diffusion 2's: 23 of OpenCLIP-H's 24 layers.
  private static var textConfig21: CLIPTextConfig {
    var config = CLIPTextConfig()
    (config.hiddenSize, config.intermediateSize) = (1024, 4096)
    (config.headCount, config.layerCount, config.activation) = (16, 23, .gelu)
    return config
  }

  private static var visionConfig: CLIPVisionConfig {
    var config = CLIPVisionConfig()
    (config.hiddenSize, config.intermediateSize, config.projectionSize) = (1024, 4096, 768)
    (config.headCount, config.layerCount, config.patchSize) = (16, 24, 14)
    return config
  }

  private static var unetConfig21: UNet2DConditionConfig {
    var config = UNet2DConditionConfig()
    config.sampleSize = 96
    config.headCounts = [5, 10, 20, 20]
    config.crossAttentionChannels = [1024, 1024, 1024, 1024]
    return config
  }

  private static func weights(on device: Device, as dtype: DType = .float32) -> Weights {
    Weights(ZeroWeights(), on: device, as: dtype)
  }

  private static func text(_ config: CLIPTextConfig, on device: Device) throws {
    let model = try CLIPTextModel(config, weights(on: device))
    let end = Int32(config.endOfTextToken)
    let prompt = [Int32](repeating: end, count: config.maxPositions)
    let states = try model([prompt, prompt]).lastHiddenState
    _ = try model.pooled(states, of: [prompt, prompt])
    _ = try states.nonFiniteCount()
  }

  private static func image(_ config: CLIPVisionConfig, on device: Device) throws {
    let model = try CLIPVisionModelWithProjection(config, weights(on: device))
    let pictures = TensorSpec([1, config.imageSize, config.imageSize, config.inChannels])
    _ = try model(.blank(pictures, on: device)).imageEmbeds.nonFiniteCount()
  }

  /// What a step has beside the UNet's own operations, and the UNet with it.
  private static func control(_ dtype: DType, on device: Device) throws {
    func blank(_ shape: Shape) throws -> Tensor { try .blank(TensorSpec(shape, dtype), on: device) }
    let (network, adapter) = (
      try ControlNetModel(ControlNetConfig(), weights(on: device, as: dtype)),
      try T2IAdapter(T2IAdapterConfig(), weights(on: device, as: dtype))
    )
    let config = UNet2DConditionConfig()
    let picture = try blank([1, 512, 512, 3])
    let (latent, texts) = (try blank([2, 64, 64, 4]), UNetConditioning(context: try blank([2, 77, 768])))
    var additions = try network(
      latent, timesteps: [500, 500], conditioning: texts, hint: network.hint(picture), scale: 0.5)
    try additions.add(adapter(picture, scale: 0.5))
    for attention in config.crossAttentions {
      let tokens = try blank([2, 4, attention.channels])
      additions.imagePrompts[attention.name] = [AddedAttention(keys: tokens, values: tokens, scale: 0.5)]
    }
    let unet = try UNet2DConditionModel(config, weights(on: device, as: dtype))
    _ = try unet(latent, timesteps: [500, 500], conditioning: texts, additions: additions).nonFiniteCount()
  }

  private static func video(_ dtype: DType, on device: Device) throws {
    try video(WanTransformer3DConfig(), dtype, latent: (5, 32), text: 512, on: device)
  }

  private static func videoOfPicture(_ dtype: DType, on device: Device) throws {
    var config = WanTransformer3DConfig()
    (config.headCount, config.feedForwardChannels) = (40, 13824)
    (config.inChannels, config.imageChannels) = (36, 1280)
    try video(config, dtype, latent: (2, 16), text: 128, on: device)
  }

  private static func video(
    _ config: WanTransformer3DConfig, _ dtype: DType, latent: (frames: Int, side: Int), text: Int,
    on device: Device
  ) throws {
    let model = try WanTransformer3DModel(config, weights(on: device, as: dtype))
    func blank(_ shape: Shape) throws -> Tensor { try .blank(TensorSpec(shape, dtype), on: device) }
    _ = try model(
      blank([1, latent.frames, latent.side, latent.side, config.inChannels]), timesteps: [500],
      text: blank([1, text, config.textChannels]),
      image: config.imageChannels.map { try blank([1, 257, $0]) }
    ).nonFiniteCount()
  }

  private static func flux(_ dtype: DType, on device: Device) throws {
    var config = FluxTransformer2DConfig()
    // All blocks of a kind are alike.
    (config.layerCount, config.singleLayerCount) = (1, 1)
    let model = try FluxTransformer2DModel(config, weights(on: device, as: dtype))
    func blank(_ shape: Shape) throws -> Tensor { try .blank(TensorSpec(shape, dtype), on: device) }
    _ = try model(
      blank([1, 32, 32, config.inChannels / 4]), timesteps: [500],
      text: blank([1, 256, config.textChannels]), pooled: blank([1, config.pooledChannels]), guidance: 3.5
    ).nonFiniteCount()
  }

  private static func mmdit(_ dtype: DType, on device: Device) throws {
    var config = SD3Transformer2DConfig()
    // 3.5 medium's kinds of block: with a second attention, without, and the last.
    (config.layerCount, config.dualAttentionLayers, config.normalizesHeads) = (3, [0], true)
    let model = try SD3Transformer2DModel(config, weights(on: device, as: dtype))
    func blank(_ shape: Shape) throws -> Tensor { try .blank(TensorSpec(shape, dtype), on: device) }
    _ = try model(
      blank([2, 32, 32, config.inChannels]), timesteps: [500, 500],
      text: blank([2, 333, config.textChannels]), pooled: blank([2, config.pooledChannels])
    ).nonFiniteCount()
  }

  /// The UNet in every sampler, so that their updates are recorded too.
  private static func denoise(
    _ config: UNet2DConditionConfig, latent: Int, _ prediction: Prediction, _ dtype: DType, on device: Device
  ) throws {
    let unet = try UNet2DConditionModel(config, weights(on: device, as: dtype))
    let context = try Tensor.blank(
      TensorSpec([2, 77, config.crossAttentionChannels[0]], dtype), on: device)
    let guidance = ClassifierFreeGuidance(scale: 7.5) { x, timestep in
      let timesteps = [Float](repeating: timestep, count: x.shape[0])
      return try unet(x.cast(to: dtype), timesteps: timesteps, context: context).cast(to: .float32)
    }
    let denoiser = NetworkDenoiser(prediction) { x, timestep in try guidance(x, timestep) }
    var schedule = NoiseSchedule()
    schedule.betaSchedule = .scaledLinear
    (schedule.betaStart, schedule.betaEnd) = (0.00085, 0.012)
    schedule.prediction = prediction
    let file = SchedulerFile(schedule, ["clip_sample": .bool(false), "skip_prk_steps": .bool(true)])
    for choice in SamplerRegistry.all {
      var noise = NoiseSource(.philox, seeds: [0], on: device)
      let sampler = try choice.make(file, eta: 0.5)
      let schedule = try sampler.schedule(file.noise, steps: 3)
      let start = try schedule.initial(noise: noise.normal([1, latent, latent, 4], for: .initial))
      _ = try sampler.sample(
        denoiser, from: start, along: schedule, noise: &noise
      ) { _ = try $0.latent.nonFiniteCount() }
    }
  }

  private static func autoencode(latent: Int, isEncoder: Bool, on device: Device) throws {
    let config = AutoencoderKLConfig()
    let model = try AutoencoderKL(config, weights(on: device), withEncoder: isEncoder)
    let shape: Shape = [1, latent, latent, config.latentChannels]
    if isEncoder {
      let side = latent * config.downscale
      let posterior = try model.encode(.blank(TensorSpec([1, side, side, 3]), on: device))
      let noise = try Tensor.normal(shape, seed: 0, on: device)
      _ = try posterior.sample(noise: noise).affine(scale: config.scalingFactor, offset: 0)
    } else {
      let own = try Tensor.blank(TensorSpec(shape), on: device).affine(
        scale: 1 / config.scalingFactor, offset: 0)
      _ = try model.decode(own).nonFiniteCount()
    }
  }
}

/// Zeros in whichever shape a model asks for.
final class ZeroWeights: WeightSource {
  private let shapes = Mutex<[String: Shape]>([:])

  let names: [String] = []
  let description = "no file"
  func spec(of name: String) -> TensorSpec? { shapes.withLock { $0[name] }.map { TensorSpec($0) } }

  func spec(of name: String, expecting shape: Shape) -> TensorSpec? {
    shapes.withLock { $0[name] = shape }
    return TensorSpec(shape)
  }

  func load(_ name: String, on device: Device) throws -> Tensor {
    guard let shape = shapes.withLock({ $0[name] }) else {
      throw WeightError.missing(name: name, source: description)
    }
    return try .blank(TensorSpec(shape), on: device)
  }
}

extension Tensor {
  /// For a device that looks at shapes only: what would be its bytes is never touched.
  fileprivate static func blank(_ spec: TensorSpec, on device: Device) throws -> Tensor {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: spec.byteCount, alignment: 64)
    defer { bytes.deallocate() }
    return try Tensor(bytes: UnsafeRawBufferPointer(bytes), spec, on: device)
  }
}
