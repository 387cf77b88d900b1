/// What a sampler is for: the rows of `langevin samplers`.
extension SamplerChoice {
  /// One line on when to choose it.
  public var purpose: String {
    switch self {
    case .ddpm: "the training's own chain; needs many steps, and is what the others are held against"
    case .ddim: "few steps, repeatable; with --eta between Euler and DDPM"
    case .euler: "the plainest way along the flow; for flow matching the usual one"
    case .eulerAncestral: "Euler with fresh noise in every step: varied, and never settles"
    case .heun: "Euler, corrected: twice the work a step for a better one"
    case .lms: "remembers up to four steps: smooth at many steps, rough at few"
    case .dpmpp2M: "the usual choice for latent diffusion: 15 to 30 steps, repeatable"
    case .dpmpp2MKarras: "dpmpp-2m with more of its steps where there is little noise"
    case .dpmpp2MSDE: "dpmpp-2m with fresh noise in every step: more detail, some more steps"
    case .dpmppSDE: "two stages a step, with fresh noise in both: much detail in few steps"
    case .uniPC: "predicts and corrects for one call a step: 5 to 20 steps; WAN's own"
    case .pndm: "Stable Diffusion 1's first scheduler: remembers up to four steps"
    case .lcm: "for latent consistency models: 1 to 8 steps, without or with little guidance"
    case .unCLIP: "for unCLIP's prior, decoder and super-resolution"
    }
  }

  /// Whether it draws noise on the way; DDIM does with eta above 0.
  public var isStochastic: Bool {
    switch self {
    case .ddpm, .eulerAncestral, .dpmpp2MSDE, .dpmppSDE, .lcm, .unCLIP: true
    case .ddim, .euler, .heun, .lms, .dpmpp2M, .dpmpp2MKarras, .uniPC, .pndm: false
    }
  }

  /// The order of its steps, once it knows as many earlier ones as it remembers; of the stochastic ones, their
  /// deterministic part's. UniPC's is for `solver_order` 2 with its corrector, its default; PNDM's is
  /// that of arXiv:2202.09778, section 3.4, whatever its slopes'.
  public var order: Int {
    switch self {
    case .ddpm, .ddim, .euler, .eulerAncestral, .lcm, .unCLIP: 1
    case .heun, .dpmpp2M, .dpmpp2MKarras, .dpmpp2MSDE, .dpmppSDE, .pndm: 2
    case .uniPC: 3
    case .lms: 4
    }
  }

  /// How often it calls the network a step; the last step of those with 2 calls it once, and PNDM's first steps
  /// more often.
  public var callsPerStep: Int { self == .heun || self == .dpmppSDE ? 2 : 1 }

  /// Whether it can sample flow matching models.
  public var followsFlows: Bool {
    switch self {
    case .euler, .heun, .dpmpp2M, .dpmpp2MSDE, .uniPC: true
    case .ddpm, .ddim, .eulerAncestral, .lms, .dpmpp2MKarras, .dpmppSDE, .pndm, .lcm, .unCLIP: false
    }
  }

  /// Which of the user's choices of levels it takes: names of spacings, `timesteps` and `sigmas` for explicit ones.
  public var spacings: [String] {
    let ofTimesteps = NoiseSchedule.Spacing.allCases.map(\.rawValue)
    switch self {
    case .ddpm, .ddim: return ofTimesteps + ["timesteps"]
    case .pndm: return ofTimesteps
    case .lcm, .unCLIP: return ["timesteps"]
    case .dpmpp2MKarras: return [NoiseSchedule.SigmaSpacing.karras.rawValue]
    case .euler, .eulerAncestral, .heun, .lms, .dpmpp2M, .dpmpp2MSDE, .dpmppSDE, .uniPC:
      return ofTimesteps + NoiseSchedule.SigmaSpacing.allCases.map(\.rawValue) + ["timesteps", "sigmas"]
    }
  }

  func takes(_ levels: NoiseSchedule.Levels) -> Bool {
    switch levels {
    case .timesteps(let spacing): spacings.contains(spacing.rawValue)
    case .sigmas(let spacing): spacings.contains(spacing.rawValue)
    case .theseSigmas: spacings.contains("sigmas")
    case .theseTimesteps: spacings.contains("timesteps")
    }
  }
}

extension NoiseSchedule.Levels {
  /// Names of the spacings of timesteps and of sigmas.
  public static let spacingNames =
    NoiseSchedule.Spacing.allCases.map(\.rawValue) + NoiseSchedule.SigmaSpacing.allCases.map(\.rawValue)

  /// The spacing of this name; nil where there is none.
  public init?(spacing name: String) {
    if let spacing = NoiseSchedule.Spacing(rawValue: name) {
      self = .timesteps(spacing)
    } else if let spacing = NoiseSchedule.SigmaSpacing(rawValue: name) {
      self = .sigmas(spacing)
    } else {
      return nil
    }
  }

  /// As messages call it.
  var name: String {
    switch self {
    case .timesteps(let spacing): "spacing \(spacing.rawValue)"
    case .sigmas(let spacing): "spacing \(spacing.rawValue)"
    case .theseSigmas: "the given sigmas"
    case .theseTimesteps: "the given timesteps"
    }
  }
}
