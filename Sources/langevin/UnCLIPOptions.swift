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

  /// What a picture's PNG says of the settings that the request has.
  static func fields(_ request: GenerationRequest) -> [PictureParameters.Field] {
    let values: [(String, String?)] = [
      ("Prior steps", request.priorSteps.map { "\($0)" }),
      ("Prior CFG scale", request.priorGuidance.map(Output.number)),
      ("Super-resolution steps", request.superResolutionSteps.map { "\($0)" }),
      ("Noise level", request.noiseLevel.map { "\($0)" }),
    ]
    return values.compactMap { name, value in value.map { .init(name, $0) } }
  }
}
