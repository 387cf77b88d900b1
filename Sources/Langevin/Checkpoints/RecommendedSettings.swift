import Foundation
import LangevinDiffusion
import LangevinJSON

/// What a model works well with: `langevin.json` beside a folder's model_index.json, as in
/// `{"guidance": 3, "steps": 40, "sampler": "ddim"}`. Every key may be absent; nil is left to the request.
public struct RecommendedSettings: Sendable, Hashable {
  /// The scale of classifier-free guidance, 0...1000.
  public var guidance: Double?
  /// How many sampling steps, 1...10000.
  public var steps: Int?
  /// By its name in the tool.
  public var sampler: SamplerChoice?

  /// By default nothing is recommended.
  public init(guidance: Double? = nil, steps: Int? = nil, sampler: SamplerChoice? = nil) {
    self.guidance = guidance
    self.steps = steps
    self.sampler = sampler
  }

  static let fileName = "langevin.json"

  /// Of a model folder; nothing where it has no such file.
  ///
  /// Throws `CheckpointError.malformed` for an unknown key or a value out of range: a misspelt recommendation
  /// must not go unnoticed.
  static func read(from folder: URL) throws -> RecommendedSettings {
    let url = folder.appendingPathComponent(fileName)
    guard FileManager.default.fileExists(atPath: url.path) else { return RecommendedSettings() }
    func fail(_ reason: String) -> CheckpointError { .malformed(path: url.path, reason: reason) }
    guard case .object(let members) = try JSONFile.read(url) else { throw fail("it is no object") }
    var settings = RecommendedSettings()
    for (key, value) in members.map({ ($0.key, $0.value) }) {
      switch key {
      case "guidance":
        guard let number = value.double, (0...1000).contains(number) else {
          throw fail("guidance must be 0 to 1000, got \(value.text)")
        }
        settings.guidance = number
      case "steps":
        guard let count = value.count, (1...10_000).contains(count) else {
          throw fail("steps must be 1 to 10000, got \(value.text)")
        }
        settings.steps = count
      case "sampler":
        guard let sampler = value.string.flatMap(SamplerChoice.init(named:)) else {
          let names = SamplerRegistry.all.map(\.name).joined(separator: ", ")
          throw fail("there is no sampler \(value.text); there are \(names)")
        }
        settings.sampler = sampler
      default: throw fail("it has an unknown key '\(key)'; known are guidance, steps, sampler")
      }
    }
    return settings
  }
}
