import Foundation
import LangevinJSON

/// diffusers' scheduler_config.json: the noise that a model was trained on, and how its author wants it
/// sampled.
///
/// The file may come from any scheduler class of diffusers that describes noise by betas or by a flow's
/// sigmas. A sampler reads the fields that its own class in diffusers has, and takes that class's default
/// where the file has none, as `DDIMScheduler.from_config(pipeline.scheduler.config)` does. What describes
/// the noise itself (betas, `rescale_betas_zero_snr`, whether the model is a flow) every sampler reads, and
/// the class that the file names has its defaults.
public struct SchedulerFile: Sendable, Equatable {
  /// What every sampler reads.
  public var noise: NoiseSchedule
  /// The sampler that the file's own class is; nil where there is none here or the file names none.
  public var sampler: SamplerChoice?
  /// By the file's names; null is as absent.
  private var fields: [String: StrictJSON]

  /// Of settings that come from elsewhere, by the file's names; those of the noise are not read.
  public init(_ noise: NoiseSchedule = NoiseSchedule(), _ settings: [String: StrictJSON] = [:]) {
    (self.noise, fields) = (noise, settings)
  }

  /// Reads a file.
  ///
  /// Throws `DiffusionError.configuration` for a field of the wrong type or with an unknown or impossible
  /// value, whichever sampler reads it, and `DiffusionError.unknownScheduler` for a class whose noise is
  /// described neither by betas nor by a flow's sigmas.
  public init(json: Data) throws {
    let document: StrictJSON
    do {
      document = try StrictJSON(parsing: Array(json), nonFinite: true)
    } catch let error as StrictJSON.ParseError {
      throw DiffusionError.configuration(field: "the file", reason: error.reason)
    }
    guard case .object(let members) = document else {
      throw DiffusionError.configuration(field: "the file", reason: "it is no object")
    }
    self.init()
    for member in members where member.value != .null { fields[member.key] = member.value }
    if let name = try string("_class_name") {
      let own = SamplerRegistry.sampler(name) { [fields] in fields[$0] == $1 }
      sampler = own?.0
      guard let known = own?.1 ?? Self.others.first(where: { $0.name == name }) else {
        throw DiffusionError.unknownScheduler(name: name)
      }
      fields.merge(known.defaults) { given, _ in given }
    }
    noise = try NoiseSchedule(self)
    for sampler in SamplerRegistry.own { _ = try sampler.reading(self) }
  }

  /// Diffusers' classes that describe noise by the same fields and that no sampler here is.
  private static let others = [
    SchedulerClass("DPMSolverSinglestepScheduler"), SchedulerClass("DEISMultistepScheduler"),
    SchedulerClass("KDPM2DiscreteScheduler", defaults: SchedulerClass.latentBetas),
    SchedulerClass("KDPM2AncestralDiscreteScheduler", defaults: SchedulerClass.latentBetas),
  ]

  /// The file with other values of some fields, by their names; those of the noise are not read again.
  public func setting(_ settings: [String: StrictJSON]) -> SchedulerFile {
    var result = self
    result.fields.merge(settings) { $1 }
    return result
  }

  /// The file as diffusers' Stable Diffusion pipelines use it: they set `steps_offset` to 1 and `clip_sample`
  /// to false whatever it says.
  public func forStableDiffusion() -> SchedulerFile {
    setting(["steps_offset": .integer(1), "clip_sample": .bool(false)])
  }

  // MARK: Fields

  /// The value of a field, of which a sampler makes what it wants; nil where it is absent or null.
  public subscript(field: String) -> StrictJSON? { fields[field] }

  /// A number. This and the next throw `DiffusionError.configuration` for a value of another type.
  public func double(_ field: String) throws -> Double? { try read(field, "a number", \.double) }

  /// A whole number.
  public func int(_ field: String) throws -> Int? {
    try read(field, "a whole number") { $0.double.flatMap(Int.init(exactly:)) }
  }

  /// True or false.
  public func bool(_ field: String) throws -> Bool? {
    try read(field, "true or false") { if case .bool(let value) = $0 { value } else { nil } }
  }

  /// A text.
  public func string(_ field: String) throws -> String? { try read(field, "a string", \.string) }

  /// Numbers.
  public func doubles(_ field: String) throws -> [Double]? {
    try read(field, "a list of numbers") {
      guard case .array(let values) = $0 else { return nil }
      let numbers = values.compactMap(\.double)
      return numbers.count == values.count ? numbers : nil
    }
  }

  /// One of a few words.
  public func choice<T: RawRepresentable & CaseIterable>(_ field: String) throws -> T?
  where T.RawValue == String {
    let words = T.allCases.map(\.rawValue).joined(separator: ", ")
    return try read(field, "one of \(words)") { $0.string.flatMap(T.init(rawValue:)) }
  }

  private func read<T>(_ field: String, _ expected: String, _ convert: (StrictJSON) -> T?) throws -> T? {
    guard let value = fields[field] else { return nil }
    guard let result = convert(value) else {
      throw DiffusionError.configuration(field: field, reason: "\(value.text.prefix(40)) is not \(expected)")
    }
    return result
  }

  // MARK: Unsupported settings

  /// Whatever sampler runs along a flow.
  static let implementedForFlows: [String: [StrictJSON]] = [
    "use_dynamic_shifting": [.bool(false)], "shift_terminal": [], "invert_sigmas": [.bool(false)],
    "stochastic_sampling": [.bool(false)], "solver_p": [],
  ]

  /// Throws `DiffusionError.unsupportedSetting` where a field has none of the values that are implemented.
  func check(_ implemented: [String: [StrictJSON]], _ sampler: String) throws {
    let field = implemented.filter { field, values in fields[field].map { !values.contains($0) } ?? false }
      .keys.min()
    if let field { throw DiffusionError.unsupportedSetting(field: field, sampler: sampler) }
  }
}

extension StrictJSON.ParseError {
  fileprivate var reason: String {
    switch self {
    case .invalid(let reason): reason
    case .duplicateKey(let key): "it has the key '\(key)' twice"
    }
  }
}
