import LangevinJSON
import Synchronization

/// The samplers that have names: those of this module, and what other packages add.
public enum SamplerRegistry {
  static let own: [SamplerChoice] = [
    .ddpm, .ddim, .euler, .eulerAncestral, .heun, .lms, .dpmpp2M, .dpmpp2MKarras, .dpmpp2MSDE, .dpmppSDE,
    .uniPC, .pndm, .lcm, .tcd, .unCLIP,
  ]
  private static let registered = Mutex<[SamplerChoice]>([])

  /// All of them; those of other packages last.
  public static var all: [SamplerChoice] { own + registered.withLock { $0 } }

  /// Makes a sampler known by its names to files, requests and the tool.
  ///
  /// Throws `DiffusionError.samplerNameTaken` where another sampler has one of them.
  public static func register(_ sampler: SamplerChoice) throws {
    try registered.withLock { registered in
      for other in own + registered {
        if let name = other.foldedNames.intersection(sampler.foldedNames).min() {
          throw DiffusionError.samplerNameTaken(name: name, by: other.name)
        }
      }
      registered.append(sampler)
    }
  }

  /// The sampler of a name, and the spacing that the name ends in where it is not the sampler's own: `Euler
  /// Karras`, `dpmpp_2m_sde_exponential`; `euler_k` is `Euler Karras` too. Nil where there is none.
  public static func named(_ text: String) -> (sampler: SamplerChoice, spacing: NoiseSchedule.SigmaSpacing?)?
  {
    let (name, all) = (SamplerDescription.folded(text), all)
    func find(_ name: String) -> SamplerChoice? { all.first { $0.foldedNames.contains(name) } }
    if let sampler = find(name) { return (sampler, nil) }
    let endings = NoiseSchedule.SigmaSpacing.allCases.map { ($0.rawValue, $0) } + [("k", .karras)]
    for (ending, spacing) in endings where name.hasSuffix(ending) {
      let rest = String(name.dropLast(ending.count))
      if spacing == .karras, let own = find(rest + "karras") { return (own, nil) }
      if let sampler = find(rest), sampler.spacings.contains(spacing.rawValue) { return (sampler, spacing) }
    }
    return nil
  }

  /// The sampler that a scheduler_config.json of this class means, and the class.
  static func sampler(_ name: String, where holds: (String, StrictJSON) -> Bool) -> (
    SamplerChoice, SchedulerClass
  )? {
    let fitting = all.flatMap { sampler in sampler.classes.map { (sampler, $0) } }.filter {
      $0.1.name == name
    }
    // One with a condition is the more special.
    return fitting.first { $0.1.condition.map { holds($0.field, $0.value) } ?? false }
      ?? fitting.first { $0.1.condition == nil }
  }
}
