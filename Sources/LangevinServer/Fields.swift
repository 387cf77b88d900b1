import Foundation
import Langevin
import LangevinJSON
import LangevinTensor

/// The members of a request's JSON object, or the fields of a form, read by name and type. What nobody read is known
/// at the end.
struct Fields {
  private var members: [String: StrictJSON] = [:]
  /// Forms have texts alone: there a number is what a text spells.
  private var isForm = false
  private var known: Set<String> = []
  /// In the order of the request.
  private let names: [String]

  /// Throws `APIError` for anything but a JSON object.
  init(json body: [UInt8]) throws {
    let json: StrictJSON
    do {
      json = try StrictJSON(parsing: body)
    } catch StrictJSON.ParseError.invalid(let reason) {
      throw APIError.badRequest("the body is no JSON: \(reason)")
    } catch StrictJSON.ParseError.duplicateKey(let key) {
      throw APIError.badRequest("the body's JSON has the key '\(key)' twice")
    }
    try self.init(json, name: "the body")
  }

  /// Throws `APIError` for anything but an object.
  init(_ json: StrictJSON, name: String) throws {
    guard case .object(let list) = json else { throw APIError.badRequest("\(name) must be a JSON object") }
    names = list.map(\.key)
    // An explicit null is what is left out.
    for member in list where member.value != .null { members[member.key] = member.value }
  }

  init(form texts: [(name: String, text: String)]) {
    names = texts.map(\.name)
    isForm = true
    for (name, text) in texts { members[name] = .string(text) }
  }

  /// Names in the request that nothing asked for.
  var unread: [String] { names.filter { !known.contains($0) } }

  /// Throws `APIError` for the first name that nothing asked for.
  func refuseUnread() throws {
    guard let name = unread.first else { return }
    throw APIError.badRequest(
      "there is no field '\(name)'\(Suggestion.text(for: name, among: known.sorted()))"
        + "; there are: \(known.sorted().joined(separator: ", "))")
  }

  mutating func value(_ name: String) -> StrictJSON? {
    known.insert(name)
    return members[name]
  }

  private func wrong(_ name: String, _ value: StrictJSON, _ wanted: String) -> APIError {
    .badRequest("'\(name)' must be \(wanted), got \(value.text.shortened(to: 80))")
  }

  mutating func string(_ name: String) throws -> String? {
    guard let value = value(name) else { return nil }
    guard let text = value.string else { throw wrong(name, value, "a text") }
    return text
  }

  /// A text that is one of these.
  mutating func string(_ name: String, of choices: [String]) throws -> String? {
    guard let text = try string(name) else { return nil }
    guard choices.contains(text) else {
      throw APIError.badRequest("'\(name)' must be one of \(choices.joined(separator: ", ")), got '\(text)'")
    }
    return text
  }

  mutating func number(_ name: String) throws -> Double? {
    guard let value = value(name) else { return nil }
    let number = isForm ? value.string.flatMap(Double.init) : value.double
    guard let number, number.isFinite else { throw wrong(name, value, "a number") }
    return number
  }

  /// Also spelled `20.0`, as some clients do.
  mutating func integer(_ name: String) throws -> Int? {
    guard let value = value(name) else { return nil }
    let spelling = if case .number(let text) = value { text } else { isForm ? value.string ?? "" : "" }
    if let exact = Int(spelling) { return exact }
    guard let number = Double(spelling), let whole = Int(exactly: number) else {
      throw wrong(name, value, "a whole number")
    }
    return whole
  }

  mutating func bool(_ name: String) throws -> Bool? {
    guard let value = value(name) else { return nil }
    switch value {
    case .bool(let flag): return flag
    case .string("true") where isForm: return true
    case .string("false") where isForm: return false
    default: throw wrong(name, value, "true or false")
    }
  }

  /// A whole number up to 2^64; nil where it is absent or -1.
  mutating func seed(_ name: String) throws -> UInt64? {
    guard let value = value(name) else { return nil }
    let spelling = if case .number(let text) = value { text } else { isForm ? value.string ?? "" : "" }
    if let seed = UInt64(spelling) { return seed }
    if Double(spelling) == -1 { return nil }
    throw wrong(name, value, "a whole number from 0 to 2^64 - 1, or -1 for a random one")
  }

  /// The bytes of a file in base64, which may be a data URL.
  mutating func file(_ name: String) throws -> Data? {
    try value(name).map { try Self.decoded($0, name) }
  }

  mutating func files(_ name: String) throws -> [Data] {
    guard let value = value(name) else { return [] }
    guard case .array(let list) = value else { throw wrong(name, value, "a list of pictures in base64") }
    return try list.map { try Self.decoded($0, name) }
  }

  private static func decoded(_ value: StrictJSON, _ name: String) throws -> Data {
    guard var text = value.string else { throw APIError.badRequest("'\(name)' must be a file in base64") }
    if text.hasPrefix("data:"), let comma = text.firstIndex(of: ",") {
      text = String(text[text.index(after: comma)...])
    }
    guard !text.isEmpty, let data = Data(base64Encoded: text, options: .ignoreUnknownCharacters),
      !data.isEmpty
    else { throw APIError.badRequest("'\(name)' must be a file in base64") }
    return data
  }

  /// Another object in it.
  mutating func fields(_ name: String) throws -> Fields? {
    try value(name).map { try Fields($0, name: "'\(name)'") }
  }
}
