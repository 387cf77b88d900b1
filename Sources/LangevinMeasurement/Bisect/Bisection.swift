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
}
