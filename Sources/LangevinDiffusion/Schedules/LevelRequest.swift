/// How many steps are to be laid out over which noise. Its methods are the layouts of diffusers' schedulers;
/// a sampler may as well make a `Schedule` of its own.
public struct LevelRequest: Sendable {
  /// What the model was trained on.
  public let noise: NoiseSchedule
  /// How many steps.
  public let steps: Int
  /// What the user chose instead of the sampler's settings; the sampler's description says that it takes it.
  public let choice: NoiseSchedule.Levels?

  /// Whether the user gave each step's timestep.
  public var hasTimesteps: Bool { if case .theseTimesteps = choice { true } else { false } }

  /// A sampler's settings with the user's choice in their place.
  func resolved(_ timesteps: TimestepSettings, _ sigmas: SigmaSettings = SigmaSettings()) throws -> (
    timesteps: TimestepSettings, sigmas: SigmaSettings
  ) {
    try timesteps.check()
    try sigmas.check()
    var (timesteps, sigmas) = (timesteps, sigmas)
    switch choice {
    case .timesteps(let spacing): (timesteps.spacing, sigmas.spacing) = (spacing, nil)
    case .sigmas(let spacing): sigmas.spacing = spacing
    case .theseSigmas, .theseTimesteps: sigmas.spacing = nil
    case nil: break
    }
    return (timesteps, sigmas)
  }
}
