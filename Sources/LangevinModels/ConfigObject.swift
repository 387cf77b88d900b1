/// Any JSON value, as config.json has them.
public enum JSONValue: Sendable, Hashable, Decodable, CustomStringConvertible {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// Decodes any JSON value.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  /// As JSON, but for escapes.
  public var description: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .number(let value): Int(exactly: value).map { "\($0)" } ?? "\(value)"
    case .string(let value): "\"\(value)\""
    case .array(let values): "[" + values.map(\.description).joined(separator: ", ") + "]"
    case .object(let values):
      "{" + values.sorted { $0.key < $1.key }.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}"
    }
  }
}

/// The contents of a config.json. Keys that nobody asks for are tolerated; an absent key has the reference's
/// default; null counts as absent where the default is not null.
public struct ConfigObject: Sendable, Decodable {
  /// For messages: the class that the file configures.
  public let model: String
  /// As in the file, by key.
  public let values: [String: JSONValue]

  /// A configuration of these values.
  public init(model: String, values: [String: JSONValue]) {
    self.model = model
    self.values = values
  }

  /// Decodes a JSON object; its `_class_name` or `model_type` names the model.
  public init(from decoder: any Decoder) throws {
    values = try decoder.singleValueContainer().decode([String: JSONValue].self)
    if case .string(let name)? = values["_class_name"] ?? values["model_type"] {
      model = name
    } else {
      model = "model"
    }
  }

  private subscript(key: String) -> JSONValue? {
    let value = values[key]
    return value == .null ? nil : value
  }

  func invalid(_ key: String, _ expected: String) -> ModelError {
    .invalidConfig(model: model, key: key, value: values[key]?.description ?? "absent", expected: expected)
  }

  /// Throws `ModelError.unsupported` unless the key is absent or has one of these values.
  func require(_ key: String, in supported: [JSONValue]) throws {
    guard let value = values[key], !supported.contains(value) else { return }
    throw ModelError.unsupported(
      model: model, key: key, value: value.description, supported: supported.map(\.description))
  }

  // MARK: Values

  func int(_ key: String, default fallback: Int) throws -> Int { try optionalInt(key) ?? fallback }

  /// Positive, or nil when absent.
  func optionalInt(_ key: String) throws -> Int? {
    guard let value = self[key] else { return nil }
    guard let number = ConfigObject.int(value), number > 0 else {
      throw invalid(key, "a positive whole number")
    }
    return number
  }

  /// Zero or more.
  func count(_ key: String, default fallback: Int) throws -> Int {
    guard let value = self[key] else { return fallback }
    guard let number = ConfigObject.int(value), number >= 0 else { throw invalid(key, "a whole number") }
    return number
  }

  func float(_ key: String, default fallback: Double) throws -> Double {
    guard let value = self[key] else { return fallback }
    guard case .number(let number) = value, number.isFinite else { throw invalid(key, "a number") }
    return number
  }

  func optionalFloat(_ key: String) throws -> Double? {
    self[key] == nil ? nil : try float(key, default: 0)
  }

  func bool(_ key: String, default fallback: Bool) throws -> Bool {
    guard let value = self[key] else { return fallback }
    guard case .bool(let flag) = value else { throw invalid(key, "true or false") }
    return flag
  }

  func string(_ key: String, default fallback: String) throws -> String {
    guard let value = self[key] else { return fallback }
    guard case .string(let text) = value else { throw invalid(key, "a string") }
    return text
  }

  func strings(_ key: String, default fallback: [String]) throws -> [String] {
    guard let value = self[key] else { return fallback }
    guard case .array(let items) = value else { throw invalid(key, "a list of strings") }
    return try items.map {
      guard case .string(let text) = $0 else { throw invalid(key, "a list of strings") }
      return text
    }
  }

  /// A list of positive numbers, not empty.
  func ints(_ key: String, default fallback: [Int]) throws -> [Int] {
    guard let value = self[key] else { return fallback }
    guard case .array(let items) = value, !items.isEmpty else {
      throw invalid(key, "a list of whole numbers")
    }
    return try items.map {
      guard let number = ConfigObject.int($0), number > 0 else {
        throw invalid(key, "positive whole numbers")
      }
      return number
    }
  }

  /// One positive number for all blocks, or a list of `count`.
  func perBlock(_ key: String, count: Int, default fallback: Int) throws -> [Int] {
    guard case .array? = self[key] else {
      return Array(repeating: try int(key, default: fallback), count: count)
    }
    let list = try ints(key, default: [])
    guard list.count == count else { throw invalid(key, "\(count) numbers, one a block") }
    return list
  }

  /// Nil also for what no model has, so that products of a few numbers cannot overflow.
  private static func int(_ value: JSONValue) -> Int? {
    guard case .number(let number) = value, abs(number) <= 0x1p24 else { return nil }
    return Int(exactly: number)
  }
}
