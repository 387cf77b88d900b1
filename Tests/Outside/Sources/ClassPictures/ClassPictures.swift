import Langevin
import LangevinDiffusion
import LangevinNN
import LangevinTensor

/// Pictures of numbered classes, in pixel space. A prompt is the number of a class; so is a negative prompt, where
/// none means class 0.
public struct ClassPictures: Pipeline {
  public static let classes = ["ClassPicturesPipeline"]
  public static let components = [ComponentNeed("network", "ClassNetwork"), ComponentNeed("scheduler")]
  public static let options: Set<RequestOption> = [
    .prompt, .negativePrompt, .guidance, .steps, .sampler, .width, .height,
  ]

  public let checkpoint: Checkpoint
  public let device: Device
  let network: Checkpoint.Component
  let classCount: Int
  let scheduler: SchedulerFile

  public init(_ checkpoint: Checkpoint, on device: Device, precision: DType) throws {
    (self.checkpoint, self.device) = (checkpoint, device)
    network = try checkpoint.component("network")
    classCount = try network.configuration.int("class_count", default: 10)
    scheduler = try SchedulerFile(json: checkpoint.scheduler)
  }

  public struct Resolved: ResolvedRequest {
    public let request: GenerationRequest
    public let warnings: [String]
    let guidance: Guidance
    let sampling: ResolvedSampling
    let classes: [Conditioned<Int32>]
    let shape: Shape
  }

  public func resolve(_ asked: GenerationRequest) throws -> Resolved {
    var request = asked
    let guidance = request.guidance(or: 2)
    let (width, height) = try request.size(or: (16, 16), multiple: 1)
    let sampling = try request.sampling(scheduler, steps: 20, sampler: .ddim)
    return Resolved(
      request: request, warnings: request.idleSettings(guidance), guidance: guidance, sampling: sampling,
      classes: try request.prompts(guidance).map { try $0.map(number) }, shape: [1, height, width, 3])
  }

  private func number(_ text: String) throws -> Int32 {
    guard let number = Int32(text.isEmpty ? "0" : text), (0..<classCount).contains(Int(number)) else {
      throw GenerationError.badRequest("'\(text)' is no class; there are 0 to \(classCount - 1)")
    }
    return number
  }

  /// Each prompt as the network takes it, [1].
  public func condition(_ request: Resolved, _ run: GenerationRun) throws -> [Conditioned<Tensor>] {
    try request.classes.map { try $0.map { try Tensor([$0], [1], on: run.device) } }
  }

  public func denoiser(_ request: Resolved, _ prompts: [Conditioned<Tensor>], _ run: GenerationRun) throws
    -> TrajectoryMaker
  {
    let model = try run.load("network") {
      try ClassNetwork(Weights(network.weights, on: run.device, component: "network"), classCount)
    }
    return { images in
      let prompt = try Conditioned.joined(images.map { prompts[run.request.prompt(of: $0)] })
      let denoiser = try request.guidance.denoiser(scheduler.noise.prediction, on: prompt) { classes in
        { x, _ in try model(x, classes) }
      }
      return Trajectory(
        "network", of: images, by: request.sampling, denoiser: denoiser, shape: request.shape)
    }
  }

  /// The latents are the pixels.
  public func decoder(_ request: Resolved, _ prompts: [Conditioned<Tensor>], _ run: GenerationRun) throws
    -> PixelDecoder
  {
    { latent, _ in latent }
  }
}

/// Two convolutions, between which a class adds what it has learned.
struct ClassNetwork {
  let table: Embedding
  let first, second: Convolution

  init(_ weights: Weights, _ classCount: Int) throws {
    table = try Embedding(weights["table"], count: classCount, channels: 8)
    first = try Convolution(weights["first"], inputs: 3, outputs: 8, kernel: 3)
    second = try Convolution(weights["second"], inputs: 8, outputs: 3, kernel: 1)
    try weights.finish()
  }

  /// x [N, H, W, 3] and N classes -> [N, H, W, 3].
  func callAsFunction(_ x: Tensor, _ classes: Tensor) throws -> Tensor {
    try second(first(x, perImage: table(classes), activation: .silu))
  }
}
