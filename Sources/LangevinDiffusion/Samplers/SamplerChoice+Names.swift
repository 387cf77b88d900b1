/// What a sampler is called here and elsewhere.
extension SamplerChoice {
  /// Its name in A1111's web UI, and so in the texts of pictures.
  public var title: String {
    switch self {
    case .ddpm: "DDPM"
    case .ddim: "DDIM"
    case .euler: "Euler"
    case .eulerAncestral: "Euler a"
    case .dpmpp2M: "DPM++ 2M"
    case .dpmpp2MKarras: "DPM++ 2M Karras"
    case .heun: "Heun"
    case .lms: "LMS"
    case .dpmpp2MSDE: "DPM++ 2M SDE"
    case .dpmppSDE: "DPM++ SDE"
    case .uniPC: "UniPC"
    case .pndm: "PLMS"
    case .lcm: "LCM"
    case .unCLIP: "unCLIP"
    }
  }

  /// Other tools' names for it, beside diffusers' classes and those that differ from `rawValue` or `title` in case,
  /// spaces, signs between words, or `++` for `pp`.
  public var aliases: [String] {
    switch self {
    case .euler: ["k_euler"]
    case .eulerAncestral: ["k_euler_a", "euler_ancestral", "k_euler_ancestral"]
    case .heun: ["k_heun"]
    case .lms: ["k_lms"]
    case .dpmpp2M: ["k_dpmpp_2m"]
    case .dpmpp2MKarras: ["k_dpmpp_2m_karras"]
    case .dpmpp2MSDE: ["k_dpmpp_2m_sde"]
    case .dpmppSDE: ["k_dpmpp_sde"]
    case .ddpm, .ddim, .uniPC, .pndm, .lcm, .unCLIP: []
    }
  }

  /// The class names of the schedulers in diffusers that sample as it does.
  public var schedulerClasses: [String] {
    NoiseSchedule.classes.filter { $0.value == self }.map(\.key).sorted()
  }

  /// The sampler of one of its names; nil where there is none.
  public init?(named text: String) {
    guard let sampler = SamplerChoice.byName[SamplerChoice.folded(text)] else { return nil }
    self = sampler
  }

  /// The sampler of a name, and the spacing that the name ends in where it is not the sampler's own: `Euler Karras`,
  /// `dpmpp_2m_sde_exponential`; `euler_k` is `Euler Karras` too. Nil where there is none.
  public static func named(_ text: String) -> (sampler: SamplerChoice, spacing: NoiseSchedule.SigmaSpacing?)?
  {
    if let sampler = SamplerChoice(named: text) { return (sampler, nil) }
    let name = folded(text)
    let endings = NoiseSchedule.SigmaSpacing.allCases.map { ($0.rawValue, $0) } + [("k", .karras)]
    for (ending, spacing) in endings where name.hasSuffix(ending) {
      let rest = String(name.dropLast(ending.count))
      if spacing == .karras, let own = byName[rest + "karras"] { return (own, nil) }
      if let sampler = byName[rest], sampler.spacings.contains(spacing.rawValue) { return (sampler, spacing) }
    }
    return nil
  }

  /// What is compared of names: small letters and digits, with `pp` for `++`.
  static func folded(_ name: String) -> String {
    name.lowercased().replacing("++", with: "pp").filter { $0.isLetter || $0.isNumber }
  }

  /// Each name once and folded; a test holds that no two samplers share one.
  var foldedNames: Set<String> {
    Set(([rawValue, title] + aliases + schedulerClasses).map(SamplerChoice.folded))
  }

  private static let byName = Dictionary(
    allCases.flatMap { sampler in sampler.foldedNames.map { ($0, sampler) } },
    uniquingKeysWith: { first, _ in first })
}
