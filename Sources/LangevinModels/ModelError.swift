import LangevinTensor

/// What can be wrong with a model's configuration or its inputs.
public enum ModelError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A config.json asks for something that this implementation does not have.
  case unsupported(model: String, key: String, value: String, supported: [String])
  /// A config.json contradicts itself or has a value of the wrong kind.
  case invalidConfig(model: String, key: String, value: String, expected: String)
  case invalidInput(model: String, reason: String)
  /// The model was loaded without the part that this call needs.
  case notLoaded(model: String, part: String)
  /// Weights whose names and shapes tell none of the architectures that there are for this role.
  case unknownArchitecture(source: String, role: String, known: [String])

  /// One line that names the key, its value and what is expected.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .unsupported(let model, let key, let value, let supported):
      "\(model): \(key) = \(value) in config.json is not supported (supported: \(supported.joined(separator: ", ")))"
    case .invalidConfig(let model, let key, let value, let expected):
      "\(model): \(key) = \(value) in config.json is not valid (expected \(expected))"
    case .invalidInput(let model, let reason): "\(model): \(reason)"
    case .notLoaded(let model, let part): "\(model) was loaded without its \(part)"
    case .unknownArchitecture(let source, let role, let known):
      "\(source): its tensors are not those of \(role) that is known: \(known.joined(separator: ", "))"
    }
  }
}
