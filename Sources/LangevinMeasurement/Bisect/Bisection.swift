import Langevin
import LangevinTensor
import LangevinValidation

/// Where a device first goes wrong in a generation.
public struct Bisection: Sendable {
  /// The operation at fault; nil where every operation agrees.
  public let divergence: Divergence?
  /// What the pipeline was doing then: `step 3 of 30`.
  public let stage: String?
  /// What was compared until then.
  public let compared: ShadowRecord

  /// Runs a request on a device, holding every operation to a reference, up to the first that differs.
  ///
  /// What the device has no kernel for runs on its fallback and is not compared. Where the reference is wrong and
  /// not the device, `notice` is told and the run goes on. Throws what the pipeline throws, and what `progress`
  /// throws.
  public static func run(
    _ request: GenerationRequest, with checkpoint: Checkpoint, precision: DType = .float32, on device: Device,
    reference: any Backend, notice: @escaping @Sendable (ReferenceFault) -> Void = { _ in },
    progress: (GenerationProgress) throws -> Void = { _ in }
  ) throws -> Bisection {
    let shadow = try ShadowBackend(device.backend, reference: reference, notice: notice)
    let pipeline = try Pipelines.open(
      checkpoint, on: Device(shadow, fallback: device.fallback), precision: precision)
    var stage: String?
    do {
      _ = try pipeline.generate(request) { event in
        switch event {
        case .loading(let component): stage = "loading and running the \(component)"
        case .sampling(_, _, let steps): stage = "step 1 of \(steps)"
        case .step(let step, let total, _): stage = step < total ? "step \(step + 1) of \(total)" : "sampler"
        case .decoding: stage = "decoder"
        case .warning, .truncated, .preview, .sampled, .finished: break
        }
        try progress(event)
      }
      return Bisection(divergence: nil, stage: nil, compared: shadow.compared)
    } catch let divergence as Divergence {
      return Bisection(divergence: divergence, stage: stage, compared: shadow.compared)
    }
  }

  /// Takes the first steps of a training run on a device, holding every operation to a reference, up to the first that
  /// differs: loading, forward, backward and the optimizer's.
  ///
  /// What the device has no kernel for runs on its fallback and is not compared. Throws what the task throws, and what
  /// `progress` throws, which is told of each step that agrees.
  public static func run<Task: ModelTask>(
    training setup: TrainingSetup<Task>, steps: Int = 1, on device: Device, reference: any Backend,
    notice: @escaping @Sendable (String) -> Void = { _ in }, progress: (_ step: Int) throws -> Void = { _ in }
  ) throws -> Bisection {
    let shadow = try ShadowBackend(device.backend, reference: reference) { notice("\($0)") }
    var step: Int?
    let log = SpanLog()
    do {
      try SpanLog.$current.withValue(log) {
        var trainer = try setup.steps(on: Device(shadow, fallback: device.fallback), notice: notice)
        for number in 1...max(steps, 1) {
          step = number
          try trainer.step()
          try progress(number)
        }
      }
      return Bisection(divergence: nil, stage: nil, compared: shadow.compared)
    } catch let divergence as Divergence {
      let part = log.spans.last { $0.kind == .stage }?.name
      let stage = step.map { "step \($0)" + (part.map { ", \($0)" } ?? "") } ?? "building the networks"
      return Bisection(divergence: divergence, stage: stage, compared: shadow.compared)
    }
  }
}
