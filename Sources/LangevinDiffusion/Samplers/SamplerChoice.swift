/// Which sampler a request wants: a type, whose settings a model's file then gives, or a sampler with
/// settings of its own.
///
/// A pipeline goes
/// ```swift
/// let file = try SchedulerFile(json: data)
/// let sampler = try (file.sampler ?? .ddim).make(file)
/// let schedule = try sampler.schedule(file.noise, steps: 50)
/// var noise = NoiseSource(.philox, seeds: seeds, on: device)
/// let start = try schedule.initial(noise: noise.normal(shape, for: .initial))
/// let denoiser = NetworkDenoiser(file.noise.prediction) { x, timestep in … }
/// let latent = try sampler.sample(denoiser, from: start, along: schedule, noise: &noise)
/// ```
/// For WAN 2.1 the file says UniPC with a flow's sigmas, so that `sampler` is `.uniPC`, `prediction` `.flow`
/// and each timestep what the reference gives the network; the noise's `flowShift` is 3 at 480p and 5 at
/// 720p.
///
/// For unCLIP the prior's, the decoder's and the super-resolution's file each say `.unCLIP`. The prior's
/// latent is [N, 768]; it predicts the sample and is clipped at 5. The other two networks return [N, H, W,
/// 2C], the noise and the variance's mix; `ClassifierFreeGuidance` guides the first and takes the second from
/// the prompt's half.
@dynamicMemberLookup public struct SamplerChoice: Sendable, Hashable {
  /// What is known of the sampler.
  public let description: SamplerDescription
  /// Whether a request's eta means something to it.
  public let takesEta: Bool
  private let read: @Sendable (SchedulerFile) throws -> any Sampler

  /// A sampler with the settings that the model's file has.
  public init<S: ConfiguredSampler>(_ type: S.Type) {
    (description, takesEta) = (type.description, type is any EtaSampler.Type)
    read = { try type.init($0) }
  }

  /// This sampler, whatever the model's file says.
  public init<S: Sampler>(_ sampler: S) {
    (description, takesEta) = (S.description, S.self is any EtaSampler.Type)
    read = { _ in sampler }
  }

  /// The sampler of one of its names in `SamplerRegistry`; nil where there is none.
  public init?(named text: String) {
    guard let found = SamplerRegistry.named(text), found.spacing == nil else { return nil }
    self = found.sampler
  }

  /// `choice.name`, `choice.purpose`: what is known of the sampler.
  public subscript<T>(dynamicMember path: KeyPath<SamplerDescription, T>) -> T { description[keyPath: path] }

  /// The sampler for a model's file. `eta`, where it is not 0, goes to those that take it.
  ///
  /// Throws `DiffusionError.configuration`, and `.unsupportedSetting` for a field that the sampler's class
  /// reads and that nothing here implements.
  public func make(_ file: SchedulerFile, eta: Double = 0) throws -> any Sampler {
    try file.check(file.noise.path == .flow ? SchedulerFile.implementedForFlows : self.implemented, self.name)
    let sampler = try reading(file)
    guard eta != 0, var stochastic = sampler as? any EtaSampler else { return sampler }
    stochastic.eta = eta
    return stochastic
  }

  /// The sampler for a file of which it is not asked whether all of it is implemented.
  func reading(_ file: SchedulerFile) throws -> any Sampler { try read(file) }

  /// Whether they are the same sampler by name, whatever its settings.
  public static func == (a: SamplerChoice, b: SamplerChoice) -> Bool { a.name == b.name }

  /// By name.
  public func hash(into hasher: inout Hasher) { hasher.combine(self.name) }
}

extension SamplerChoice {
  /// With the settings of the model's file, as are all that follow.
  public static let ddpm = SamplerChoice(DDPMSampler.self)
  public static let ddim = SamplerChoice(DDIMSampler.self)
  public static let euler = SamplerChoice(EulerSampler.self)
  public static let eulerAncestral = SamplerChoice(EulerAncestralSampler.self)
  public static let heun = SamplerChoice(HeunSampler.self)
  public static let lms = SamplerChoice(LMSSampler.self)
  public static let dpmpp2M = SamplerChoice(DPMpp2MSampler.self)
  public static let dpmpp2MKarras = SamplerChoice(DPMpp2MKarrasSampler.self)
  public static let dpmpp2MSDE = SamplerChoice(DPMpp2MSDESampler.self)
  public static let dpmppSDE = SamplerChoice(DPMppSDESampler.self)
  public static let uniPC = SamplerChoice(UniPCSampler.self)
  public static let pndm = SamplerChoice(PNDMSampler.self)
  public static let lcm = SamplerChoice(LCMSampler.self)
  public static let tcd = SamplerChoice(TCDSampler.self)
  public static let unCLIP = SamplerChoice(UnCLIPSampler.self)
}
