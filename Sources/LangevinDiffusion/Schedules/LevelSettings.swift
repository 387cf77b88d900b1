/// Which timesteps a sampler visits.
public struct TimestepSettings: Sendable, Hashable {
  /// How they are chosen among the training's.
  public var spacing: NoiseSchedule.Spacing
  /// Added to every timestep of leading spacing.
  public var offset: Int

  /// This spacing; linspace is the default of most classes.
  public init(_ spacing: NoiseSchedule.Spacing = .linspace, offset: Int = 0) {
    (self.spacing, self.offset) = (spacing, offset)
  }

  /// Of a file; `spacing` where it says nothing.
  public init(_ file: SchedulerFile, default spacing: NoiseSchedule.Spacing = .linspace) throws {
    self.init(try file.choice("timestep_spacing") ?? spacing, offset: try file.int("steps_offset") ?? 0)
    try check()
  }

  func check() throws {
    try require((0...1_000_000).contains(offset), "steps_offset", offset, "within 0 and 1000000")
  }
}

/// How a sampler lays out sigmas, and where they end.
public struct SigmaSettings: Sendable, Hashable {
  /// The noise that the last step arrives at: none, or the training's least.
  public enum Final: String, Sendable, CaseIterable {
    case zero
    case minimum = "sigma_min"
  }

  /// A layout instead of the timesteps' own sigmas.
  public var spacing: NoiseSchedule.SigmaSpacing?
  /// Of `spacing`: the least sigma / alpha; nil for that of the timesteps.
  public var minimum: Double?
  /// Of `spacing`: the greatest sigma / alpha; nil for that of the timesteps.
  public var maximum: Double?
  /// Where the last step arrives.
  public var final: Final

  /// The timesteps' own sigmas, down to none.
  public init(_ spacing: NoiseSchedule.SigmaSpacing? = nil, final: Final = .zero) {
    (self.spacing, self.final) = (spacing, final)
  }

  /// Of a file; not every class reads its `final_sigmas_type` and its `use_karras_sigmas` or the like.
  ///
  /// Throws `DiffusionError.configuration`, also where two layouts are switched on.
  public init(_ file: SchedulerFile, readsFinal: Bool = true, readsSpacing: Bool = true) throws {
    self.init()
    (minimum, maximum) = (try file.double("sigma_min"), try file.double("sigma_max"))
    if readsFinal { final = try file.choice("final_sigmas_type") ?? .zero }
    if readsSpacing {
      for layout in NoiseSchedule.SigmaSpacing.allCases {
        let field = "use_\(layout.rawValue)_sigmas"
        guard try file.bool(field) == true else { continue }
        guard spacing == nil else {
          throw DiffusionError.configuration(field: field, reason: "only one spacing of sigmas can be used")
        }
        spacing = layout
      }
    }
    try check()
  }

  func check() throws {
    if let minimum { try requirePositive("sigma_min", minimum) }
    if let maximum { try requirePositive("sigma_max", maximum) }
  }
}

extension NoiseSchedule {
  /// How inference timesteps are chosen among the training's: arXiv:2305.08891, table 2.
  public enum Spacing: String, Sendable, CaseIterable {
    case leading, trailing, linspace
  }

  /// How sigmas are laid out between the greatest and the least.
  public enum SigmaSpacing: String, Sendable, CaseIterable {
    /// Evenly in sigma^(1/7): arXiv:2206.00364, eq. 5.
    case karras
    /// Sigmas that are evenly spaced in log(sigma).
    case exponential
    /// At the quantiles of the beta distribution with both parameters 0.6: arXiv:2407.12173.
    case beta
  }

  /// What the user chooses instead of the file. A sampler that cannot go along throws
  /// `DiffusionError.unsupportedLevels`.
  public enum Levels: Sendable, Hashable {
    case timesteps(Spacing)
    case sigmas(SigmaSpacing)
    /// Each step's noise: sigma / alpha, or a flow's sigma within 0...1, after any shift. They fall; a zero
    /// at the end is where the last step arrives in any case and may be left out.
    case theseSigmas([Double])
    /// Each step's training timestep; they fall.
    case theseTimesteps([Int])

    /// How many steps these are, where that is not the caller's choice.
    public var count: Int? {
      switch self {
      case .timesteps, .sigmas: nil
      case .theseSigmas(let sigmas): sigmas.last == 0 ? sigmas.count - 1 : sigmas.count
      case .theseTimesteps(let times): times.count
      }
    }

    /// What samplers take that visit training timesteps only.
    static let ofTimesteps = Spacing.allCases.map(\.rawValue) + ["timesteps"]

    /// Names of the spacings of timesteps and of sigmas.
    public static let spacingNames = Spacing.allCases.map(\.rawValue) + SigmaSpacing.allCases.map(\.rawValue)

    /// The spacing of this name; nil where there is none.
    public init?(spacing name: String) {
      if let spacing = Spacing(rawValue: name) {
        self = .timesteps(spacing)
      } else if let spacing = SigmaSpacing(rawValue: name) {
        self = .sigmas(spacing)
      } else {
        return nil
      }
    }

    /// As `SamplerDescription.spacings` calls it.
    var spacing: String {
      switch self {
      case .timesteps(let spacing): spacing.rawValue
      case .sigmas(let spacing): spacing.rawValue
      case .theseSigmas: "sigmas"
      case .theseTimesteps: "timesteps"
      }
    }

    /// As messages call it.
    var name: String { count == nil ? "spacing \(spacing)" : "the given \(spacing)" }
  }
}

// MARK: Ranges

/// Throws `DiffusionError.configuration`, which names a field and its range.
func require(_ isValid: Bool, _ field: String, _ value: some CustomStringConvertible, _ range: String) throws
{
  guard !isValid else { return }
  throw DiffusionError.configuration(field: field, reason: "\(value) is not \(range)")
}

/// As `require`, for factors; 1e9 is the most that float32 arithmetic of a few of them can take.
func requirePositive(_ field: String, _ value: Double) throws {
  try require(value > 0 && value <= 1e9, field, value, "above 0 and at most 1e9")
}
