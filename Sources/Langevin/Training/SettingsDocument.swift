import Foundation
import LangevinJSON
import LangevinTensor

/// Settings of a run as one flat JSON object: those that every task has, and those of one task.
public struct SettingsDocument: Sendable, Equatable {
  /// By key, in the order of the settings.
  public private(set) var members: [StrictJSON.Member]
  /// The file that a key's value comes from, where it is from one.
  private var files: [String: String] = [:]
  private let defaults: [StrictJSON.Member]

  /// All defaults of a task. Throws what encoding throws.
  public init(task: String, _ defaults: some Codable) throws {
    var common = TrainingSettings()
    common.task = task
    self.defaults = try Self.members(of: common) + Self.members(of: defaults)
    members = self.defaults
  }

  /// As train.json has it.
  public var json: StrictJSON { .object(members) }

  /// A hash of the values of the wanted settings that are not at their defaults: 1e-4 and 0.0001 are the same.
  func hash(where isWanted: (_ key: String) -> Bool) -> String {
    Self.hash(changed(isWanted, \.valued))
  }

  /// As `hash`, of the spelling of numbers: what states had before.
  func spellingHash(where isWanted: (_ key: String) -> Bool) -> String {
    Self.hash(changed(isWanted, \.self))
  }

  private static func hash(_ members: [StrictJSON.Member]) -> String {
    FNV.name(StrictJSON.object(members).text)
  }

  /// Without defaults, so that a state outlives settings that are yet to be invented.
  private func changed(
    _ isWanted: (_ key: String) -> Bool, _ form: (StrictJSON) -> StrictJSON
  ) -> [StrictJSON.Member] {
    let formed = members.map { StrictJSON.Member($0.key, form($0.value)) }
    let plain = defaults.map { StrictJSON.Member($0.key, form($0.value)) }
    return zip(formed, plain).filter { isWanted($0.0.key) && $0.0 != $0.1 }.map(\.0)
  }

  /// Takes over values from a file, or from options where `path` is nil.
  ///
  /// Throws `SettingsError.unknown` for a key that neither the task nor all tasks have.
  public mutating func merge(_ values: [StrictJSON.Member], from path: String? = nil) throws {
    for value in values {
      guard let place = members.firstIndex(where: { $0.key == value.key }) else {
        throw SettingsError.unknown(key: value.key, path: path ?? "options", known: members.map(\.key))
      }
      members[place].value = value.value
      files[value.key] = path
    }
  }

  /// An error about a value, with the file that the value is from.
  public func placed(_ error: SettingsError) -> SettingsError {
    guard case .value(let key, let expected, nil) = error else { return error }
    return .value(key: key, expected: expected, path: files[key])
  }

  /// The settings as a type has them, keys of other types left out. Throws `SettingsError.value` where a value has
  /// another type.
  public func decoded<Settings: Codable>(as type: Settings.Type) throws -> Settings {
    if let infinite = members.first(where: { member in
      if case .number = member.value { member.value.double?.isFinite != true } else { false }
    }) {
      throw SettingsError.value(key: infinite.key, expected: "a finite number")
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do {
      return try decoder.decode(type, from: Data(json.text.utf8))
    } catch let error as DecodingError {
      let (context, expected): (DecodingError.Context, String) =
        switch error {
        case .typeMismatch(let type, let context): (context, Self.name(of: type))
        case .valueNotFound(let type, let context): (context, Self.name(of: type))
        case .keyNotFound(let key, let context): (context, "there: \(key.stringValue)")
        case .dataCorrupted(let context): (context, context.debugDescription)
        @unknown default: throw error
        }
      let key =
        context.codingPath.first.map { Self.snakeCase($0.stringValue) } ?? faultyKey(decoder, type)
        ?? "settings"
      // Only where a whole number is wanted can a number not be taken.
      if case .dataCorrupted = error, case .number = json[key] {
        throw SettingsError.value(key: key, expected: "a whole number in its range")
      }
      throw SettingsError.value(key: key, expected: expected)
    }
  }

  /// The first key whose value alone, beside defaults, cannot be decoded: Foundation does not say of every fault where
  /// it is.
  private func faultyKey<Settings: Codable>(_ decoder: JSONDecoder, _ type: Settings.Type) -> String? {
    for place in members.indices where members[place] != defaults[place] {
      var single = defaults
      single[place] = members[place]
      if (try? decoder.decode(type, from: Data(StrictJSON.object(single).text.utf8))) == nil {
        return members[place].key
      }
    }
    return nil
  }

  /// Every key of a type with its value, null where it has none.
  private static func members(of settings: some Codable) throws -> [StrictJSON.Member] {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    let json = try StrictJSON(parsing: [UInt8](encoder.encode(settings)))
    return Mirror(reflecting: settings).children.compactMap(\.label).map { label in
      let key = snakeCase(label)
      return StrictJSON.Member(key, json[key] ?? .null)
    }
  }

  /// As JSONEncoder does it for our names: beta1 stays beta1.
  private static func snakeCase(_ name: String) -> String {
    name.reduce(into: "") { result, letter in
      if letter.isUppercase { result += "_" }
      result += letter.lowercased()
    }
  }

  private static func name(of type: Any.Type) -> String {
    switch type {
    case is String.Type: "a text"
    case is Bool.Type: "true or false"
    case is any BinaryInteger.Type: "a whole number"
    case is any BinaryFloatingPoint.Type: "a number"
    default: type is any Collection.Type ? "a list" : "a \(type)"
    }
  }
}

extension StrictJSON {
  /// With every number spelled in one way, so that what is equal has equal text.
  fileprivate var valued: StrictJSON {
    switch self {
    case .number(let spelling):
      // Whole numbers may have more digits than a double holds.
      if let whole = Int(spelling) { return .number("\(whole)") }
      if UInt64(spelling) != nil { return self }
      guard let value = Double(spelling), value.isFinite else { return self }
      return .number(abs(value) < 0x1p53 && value == value.rounded() ? "\(Int(value))" : "\(value)")
    case .array(let values): return .array(values.map(\.valued))
    case .object(let members): return .object(members.map { Member($0.key, $0.value.valued) })
    case .null, .bool, .string: return self
    }
  }
}
