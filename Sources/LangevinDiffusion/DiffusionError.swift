import LangevinTensor

/// What can be wrong with a scheduler's configuration or with what is asked of a sampler.
public enum DiffusionError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A field of scheduler_config.json holds what cannot be honoured.
  case configuration(field: String, reason: String)
  /// The scheduler class named in scheduler_config.json describes noise in a way that nothing here knows.
  case unknownScheduler(name: String)
  /// A setting changes what the sampler computes, in a way that is not implemented.
  case unsupportedSetting(field: String, sampler: String)
  /// The model is a flow, and the sampler is stated for diffusion alone.
  case flowModel(sampler: String)
  /// The user's choice of spacing, sigmas or timesteps does not fit the sampler.
  case unsupportedLevels(choice: String, sampler: String, reason: String)
  /// The steps' variance is to come from the network, which gives none.
  case noLearnedVariance
  /// Another sampler is registered under this name.
  case samplerNameTaken(name: String, by: String)
  case stepCount(requested: Int, reason: String)
  /// `strength` is outside 0...1, or leaves no step to take.
  case strength(Double, steps: Int)
  /// DDIM's eta is outside 0...1.
  case eta(Double)
  /// Pure noise holds no signal that a predicted noise could be subtracted from.
  case noSignal(timestep: Float)
  case seedCount(images: Int, seeds: Int)
  case guidanceBatch(expected: Int, got: Int)
  /// Of the images of a batch some have a negative prompt and some have none.
  case mixedGuidance

  /// One line that names the setting.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .configuration(let field, let reason): "scheduler_config.json: \(field): \(reason)"
    case .unknownScheduler(let name):
      "scheduler_config.json: the noise of a \(name) is not described by betas or by a flow's sigmas; "
        + "no sampler here can be built from it"
    case .unsupportedSetting(let field, let sampler):
      "scheduler_config.json: \(field) is not supported by the sampler \(sampler)"
    case .flowModel(let sampler):
      "the model is a flow, which the sampler \(sampler) cannot follow; there are "
        + SamplerRegistry.all.filter(\.followsFlows).map(\.name).joined(separator: ", ")
    case .unsupportedLevels(let choice, let sampler, let reason):
      "\(choice): not with the sampler \(sampler): \(reason)"
    case .noLearnedVariance:
      "scheduler_config.json: variance_type is learned_range, but the network's output has no channels for it"
    case .samplerNameTaken(let name, let other):
      "a sampler cannot be called '\(name)', which means the sampler \(other) already"
    case .stepCount(let requested, let reason): "\(requested) steps: \(reason)"
    case .strength(let strength, let steps):
      "strength \(strength) leaves no step of \(steps) to take; it must be at least \(1 / Double(max(steps, 1))) "
        + "and at most 1"
    case .eta(let eta): "eta \(eta) is not within 0 (deterministic) and 1 (DDPM)"
    case .noSignal(let timestep):
      "epsilon prediction cannot start from pure noise (timestep \(timestep) has zero terminal SNR); "
        + "such a model predicts v"
    case .seedCount(let images, let seeds): "noise for \(images) images from \(seeds) seeds"
    case .guidanceBatch(let expected, let got):
      "the guided network returned \(got) rows where guidance needs \(expected)"
    case .mixedGuidance: "of the images of a batch some are guided and some are not"
    }
  }
}
