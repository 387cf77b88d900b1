import ArgumentParser
import Langevin

/// Settings that only unCLIP has.
struct UnCLIPOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: "Steps of the prior, which makes an image embedding of the prompt. (default: 25)")
  var priorSteps: Int?
  @Option(parsing: .unconditional, help: "Scale of the prior's guidance, 0 to 1000. (default: 4)")
  var priorGuidance: Double?
  @Option(parsing: .unconditional, help: "Steps of super-resolution, where the model has it. (default: 7)")
  var superResolutionSteps: Int?
  @Option(
    parsing: .unconditional,
    help: "Noise on the image embedding of stable unCLIP, 0 to 999: the more, the freer. (default: 0)")
  var noiseLevel: Int?

  /// What the user set.
  func apply(to request: inout GenerationRequest) {
    request.priorSteps = priorSteps
    request.priorGuidance = priorGuidance
    request.superResolutionSteps = superResolutionSteps
    request.noiseLevel = noiseLevel
  }
}
