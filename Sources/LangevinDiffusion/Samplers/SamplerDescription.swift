import LangevinJSON

/// What a sampler is called, what it is for, and what it can do: all that is known of it without running it.
public struct SamplerDescription: Sendable {
  /// Its name in the tool: small letters, digits and `-`.
  public var name: String
  /// Its name in A1111's web UI, and so in the texts of pictures.
  public var title: String
  /// Other tools' names for it, beside diffusers' classes and those that differ from `name` or `title` in
  /// case, spaces, signs between words, or `++` for `pp`.
  public var aliases: [String]
  /// One line on when to choose it.
  public var purpose: String
  /// Whether it draws noise on the way; DDIM does with eta above 0.
  public var isStochastic: Bool
  /// The order of its steps, once it knows as many earlier ones as it remembers; of a stochastic one, its
  /// deterministic part's.
  public var order: Int
  /// How often it calls the network a step; the last step of those with 2 calls it once, and PNDM's first
  /// steps more often.
  public var callsPerStep: Int
  /// Whether it can sample flow matching models.
  public var followsFlows: Bool
  /// Which of the user's choices of levels it takes: names of spacings, `timesteps` and `sigmas` for explicit
  /// ones.
  public var spacings: [String]
  /// With fewer steps it may refuse.
  public var fewestSteps: Int
  /// The classes of scheduler_config.json that sample as it does.
  public var classes: [SchedulerClass]
  /// Fields of scheduler_config.json which its class reads and of which only these values are implemented.
  public var implemented: [String: [StrictJSON]]

  /// By default the title is the name, and any choice of levels is taken.
  public init(
    _ name: String, title: String? = nil, aliases: [String] = [], purpose: String, isStochastic: Bool = false,
    order: Int = 1, callsPerStep: Int = 1, followsFlows: Bool = false,
    spacings: [String] = NoiseSchedule.Levels.spacingNames + ["timesteps", "sigmas"], fewestSteps: Int = 1,
    classes: [SchedulerClass] = [], implemented: [String: [StrictJSON]] = [:]
  ) {
    (self.name, self.title, self.aliases, self.purpose) = (name, title ?? name, aliases, purpose)
    (self.isStochastic, self.order, self.callsPerStep) = (isStochastic, order, callsPerStep)
    (self.followsFlows, self.spacings, self.fewestSteps) = (followsFlows, spacings, fewestSteps)
    (self.classes, self.implemented) = (classes, implemented)
  }

  /// The class names of the schedulers in diffusers that sample as it does, whatever else their file says.
  public var schedulerClasses: [String] { classes.filter { $0.condition == nil }.map(\.name) }

  /// Each name once and folded; a test holds that no two samplers share one.
  var foldedNames: Set<String> { Set(([name, title] + aliases + schedulerClasses).map(Self.folded)) }

  /// What is compared of names: small letters and digits, with `pp` for `++`.
  static func folded(_ name: String) -> String {
    name.lowercased().replacing("++", with: "pp").filter { $0.isLetter || $0.isNumber }
  }

  /// Throws `DiffusionError.unsupportedLevels` or `.stepCount` for a choice of levels that it cannot go along
  /// with.
  func check(_ choice: NoiseSchedule.Levels, _ path: Schedule.Path, steps: Int) throws {
    func refuse(_ reason: String) -> DiffusionError {
      .unsupportedLevels(choice: choice.name, sampler: name, reason: reason)
    }
    if let count = choice.count, count != steps {
      throw DiffusionError.stepCount(requested: steps, reason: "\(choice.name) are \(count)")
    }
    if case .timesteps = choice, path == .flow { throw refuse("a flow's sigmas are shifted instead") }
    guard spacings.contains(choice.spacing) else {
      throw refuse(spacings.isEmpty ? "it has its own" : "it takes \(spacings.joined(separator: ", "))")
    }
  }
}

/// A class of scheduler in diffusers, as scheduler_config.json names it.
public struct SchedulerClass: Sendable {
  /// `_class_name`.
  public var name: String
  /// A field and the value that it must have for the file to mean this sampler; nil where the class alone
  /// does.
  public var condition: (field: String, value: StrictJSON)?
  /// Where its defaults are others than most classes'.
  public var defaults: [String: StrictJSON]

  /// A class, possibly with a condition or defaults of its own.
  public init(
    _ name: String, where condition: (field: String, value: StrictJSON)? = nil,
    defaults: [String: StrictJSON] = [:]
  ) {
    (self.name, self.condition, self.defaults) = (name, condition, defaults)
  }

  /// The betas that latent diffusion was trained with.
  static let latentBetas: [String: StrictJSON] = ["beta_start": .real(0.00085), "beta_end": .real(0.012)]
  /// Of the classes for flow matching.
  static let flow: [String: StrictJSON] = [
    "prediction_type": .string("flow_prediction"), "use_flow_sigmas": .bool(true),
  ]
}
