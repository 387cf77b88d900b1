import LangevinJSON

/// The contents of a config.json. Keys that nobody asks for are tolerated; an absent key has the reference's
/// default; null counts as absent where the default is not null.
public struct ConfigObject: Sendable {
  /// For messages: the class that the file configures.
  public let model: String
  /// As in the file, by key.
  public let values: [String: StrictJSON]

  /// The members of a JSON object; its `_class_name` or `model_type` names the model.
  ///
  /// Throws `ModelError.invalidConfig` for anything but an object.
  public init(_ json: StrictJSON) throws {
    model = json["_class_name"]?.string ?? json["model_type"]?.string ?? "model"
    guard case .object(let members) = json else {
      throw ModelError.invalidConfig(
        model: model, key: "config.json", value: json.text, expected: "an object")
    }
    values = Dictionary(members.map { ($0.key, $0.value) }) { first, _ in first }
  }

  /// The same file with other values for some keys.
  func replacing(_ changes: [String: StrictJSON]) -> ConfigObject {
    ConfigObject(model: model, values: values.merging(changes) { $1 })
  }

  private init(model: String, values: [String: StrictJSON]) { (self.model, self.values) = (model, values) }

  private subscript(key: String) -> StrictJSON? {
    let value = values[key]
    return value == .null ? nil : value
  }

  func invalid(_ key: String, _ expected: String) -> ModelError {
    .invalidConfig(model: model, key: key, value: values[key]?.text ?? "absent", expected: expected)
  }

  /// Throws `ModelError.unsupported` unless the key is absent or has one of these values. Numbers are compared
  /// by value, not by spelling.
  func require(_ key: String, in supported: [StrictJSON]) throws {
    guard let value = values[key] else { return }
    let isSupported = supported.contains { $0 == value || ($0.double != nil && $0.double == value.double) }
    guard !isSupported else { return }
    throw ModelError.unsupported(
      model: model, key: key, value: value.text, supported: supported.map(\.text))
  }

  // MARK: Values

  /// A positive whole number. Throws `ModelError.invalidConfig`, as all that follow.
  public func int(_ key: String, default fallback: Int) throws -> Int { try optionalInt(key) ?? fallback }

  /// Positive, or nil when absent.
  func optionalInt(_ key: String) throws -> Int? {
    guard let value = self[key] else { return nil }
    guard let number = ConfigObject.int(value), number > 0 else {
      throw invalid(key, "a positive whole number")
    }
    return number
  }

  /// Reads a whole number of 0 or more. Throws `ModelError.unsupported`.
  func count(_ key: String, default fallback: Int) throws -> Int {
    guard let value = self[key] else { return fallback }
    guard let number = ConfigObject.int(value), number >= 0 else { throw invalid(key, "a whole number") }
    return number
  }

  /// A number of at most 1e6 in size, whatever its sign.
  public func float(_ key: String, default fallback: Double) throws -> Double {
    guard let value = self[key] else { return fallback }
    guard let number = value.double, abs(number) <= 1e6 else { throw invalid(key, "a number of at most 1e6") }
    return number
  }

  /// What keeps a norm's division from zero.
  func epsilon(_ key: String, default fallback: Double) throws -> Float {
    let number = try float(key, default: fallback)
    guard number >= 1e-30, number <= 1 else { throw invalid(key, "a number above 0 and at most 1") }
    return Float(number)
  }

  /// What latents are multiplied by on one way and divided by on the other.
  func scale(_ key: String, default fallback: Double) throws -> Float {
    let number = try float(key, default: fallback)
    guard abs(number) >= 1e-6 else { throw invalid(key, "a number other than zero") }
    return Float(number)
  }

  /// `freq_shift` of a sinusoid of this many channels, below half of them: there its frequencies would be infinite.
  func frequencyShift(channels: Int) throws -> Double {
    let shift = try float("freq_shift", default: 0)
    guard shift >= 0, shift <= Double(channels) / 2 - 0.5 else {
      throw invalid("freq_shift", "a number from 0 to below half of block_out_channels[0]")
    }
    return shift
  }

  /// True or false.
  public func bool(_ key: String, default fallback: Bool) throws -> Bool {
    guard let value = self[key] else { return fallback }
    guard case .bool(let flag) = value else { throw invalid(key, "true or false") }
    return flag
  }

  /// A text.
  public func string(_ key: String, default fallback: String) throws -> String {
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

  /// A list of whole numbers of 0 or more, which may be empty.
  func counts(_ key: String, default fallback: [Int]) throws -> [Int] {
    guard let value = self[key] else { return fallback }
    guard case .array(let items) = value else { throw invalid(key, "a list of whole numbers") }
    return try items.map {
      guard let number = ConfigObject.int($0), number >= 0 else { throw invalid(key, "whole numbers") }
      return number
    }
  }

  /// A configuration within this one, or nil when absent.
  func object(_ key: String) throws -> ConfigObject? {
    guard let value = self[key] else { return nil }
    guard case .object = value else { throw invalid(key, "an object") }
    return try ConfigObject(value)
  }

  func floats(_ key: String, default fallback: [Double]) throws -> [Double] {
    guard let value = self[key] else { return fallback }
    guard case .array(let items) = value else { throw invalid(key, "a list of numbers") }
    return try items.map {
      guard let number = $0.double, abs(number) <= 1e6 else { throw invalid(key, "a list of numbers") }
      return number
    }
  }

  func bools(_ key: String, default fallback: [Bool]) throws -> [Bool] {
    guard let value = self[key] else { return fallback }
    guard case .array(let items) = value else { throw invalid(key, "a list of true and false") }
    return try items.map {
      guard case .bool(let flag) = $0 else { throw invalid(key, "a list of true and false") }
      return flag
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

  /// For each block one number a layer: one number for all blocks, or a list with a number or a list for each
  /// block; zero is a number.
  func perLayer(_ key: String, layers: [Int], default fallback: Int) throws -> [[Int]] {
    guard case .array(let blocks)? = self[key] else {
      let number = try count(key, default: fallback)
      return layers.map { Array(repeating: number, count: $0) }
    }
    guard blocks.count == layers.count else { throw invalid(key, "\(layers.count) entries, one a block") }
    return try zip(blocks, layers).map { block, count in
      let entries: [StrictJSON] =
        if case .array(let list) = block { list } else {
          Array(repeating: block, count: count)
        }
      guard entries.count == count else { throw invalid(key, "a number for each of a block's layers") }
      return try entries.map {
        guard let number = ConfigObject.int($0), number >= 0 else { throw invalid(key, "whole numbers") }
        return number
      }
    }
  }

  /// Nil also for what no model has, so that products of a few numbers cannot overflow.
  private static func int(_ value: StrictJSON) -> Int? {
    guard let number = value.double, abs(number) <= 0x1p24 else { return nil }
    return Int(exactly: number)
  }
}
