import Foundation

/// A JSON document (RFC 8259) which keeps the order of keys and the spelling of numbers.
///
/// Foundation's parsers accept duplicate keys without a word, and neither a safetensors header nor a model's
/// configuration may have any.
public enum StrictJSON: Equatable, Sendable {
  case null
  case bool(Bool)
  /// As spelled in the document.
  case number(String)
  case string(String)
  case array([StrictJSON])
  case object([Member])

  /// A key of an object with its value.
  public struct Member: Equatable, Sendable {
    /// The member's name, without escapes.
    public var key: String
    /// Whatever stands behind the colon.
    public var value: StrictJSON

    /// A key with its value.
    public init(_ key: String, _ value: StrictJSON) {
      self.key = key
      self.value = value
    }
  }

  /// Why a text is not a JSON document.
  public enum ParseError: Error, Equatable {
    /// The reason, with the place.
    case invalid(String)
    /// An object has this key twice.
    case duplicateKey(String)
  }

  /// The value of a key of an object; nil where this is no object or has no such key.
  public subscript(key: String) -> StrictJSON? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  /// The text of a string; nil for anything else.
  public var string: String? {
    if case .string(let value) = self { value } else { nil }
  }

  /// A non-negative integer spelled without sign, fraction or exponent.
  public var count: Int? {
    guard case .number(let spelling) = self, spelling.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) else {
      return nil
    }
    return Int(spelling)
  }

  /// The value of a number, infinite where it is too large for a Double; nil for anything else.
  public var double: Double? {
    switch self {
    case .number("NaN"): .nan
    case .number("Infinity"): .infinity
    case .number("-Infinity"): -.infinity
    case .number(let spelling): Double(spelling)
    default: nil
    }
  }

  // MARK: Writing

  /// A number without a fraction.
  public static func integer(_ value: Int) -> StrictJSON { .number(String(value)) }
  /// A number as Swift spells it.
  public static func real(_ value: Double) -> StrictJSON { .number("\(value)") }
  /// An array of numbers.
  public static func integers(_ values: [Int]) -> StrictJSON { .array(values.map(integer)) }
  /// An array of strings.
  public static func strings(_ values: [String]) -> StrictJSON { .array(values.map { .string($0) }) }

  /// The value as compact JSON in UTF-8.
  public var data: Data { Data(text.utf8) }

  /// Compact; numbers as they were spelled.
  public var text: String {
    switch self {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .number(let spelling): spelling
    case .string(let value): Self.quoted(value)
    case .array(let values): "[" + values.map(\.text).joined(separator: ",") + "]"
    case .object(let members):
      "{" + members.map { Self.quoted($0.key) + ":" + $0.value.text }.joined(separator: ",") + "}"
    }
  }

  private static func quoted(_ value: String) -> String {
    var result = "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case let control where control.value < 0x20:
        let digits = String(control.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

extension StrictJSON {
  /// Parses UTF-8 strictly: no byte order mark, no comments, no trailing commas, no duplicate keys, no lone
  /// surrogates, nothing but white space after the document.
  ///
  /// `nonFinite` also takes the `NaN`, `Infinity` and `-Infinity` that Python's json writes. Throws `ParseError`.
  public init(parsing bytes: [UInt8], nonFinite: Bool = false) throws {
    guard String(validating: bytes, as: UTF8.self) != nil else { throw ParseError.invalid("it is not UTF-8") }
    var parser = JSONParser(bytes: bytes, allowsNonFinite: nonFinite)
    self = try parser.document()
  }
}

/// A recursive-descent parser over validated UTF-8.
private struct JSONParser {
  let bytes: [UInt8]
  let allowsNonFinite: Bool
  var position = 0
  /// Deep nesting would exhaust the stack.
  let maximumDepth = 64

  init(bytes: [UInt8], allowsNonFinite: Bool) {
    self.bytes = bytes
    self.allowsNonFinite = allowsNonFinite
  }

  func fail(_ reason: String) -> StrictJSON.ParseError { .invalid("\(reason) at byte \(position)") }

  var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  mutating func document() throws -> StrictJSON {
    let value = try self.value(depth: 0)
    skipSpace()
    guard next == nil else { throw fail("text after the end of the JSON document") }
    return value
  }

  mutating func value(depth: Int) throws -> StrictJSON {
    guard depth < maximumDepth else { throw fail("JSON nested too deeply") }
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "N") where allowsNonFinite: return try word("NaN", .number("NaN"))
    case UInt8(ascii: "I") where allowsNonFinite: return try word("Infinity", .number("Infinity"))
    case .some(let byte) where byte == UInt8(ascii: "-") || (byte >= 48 && byte <= 57): return try number()
    case nil: throw fail("the JSON document ends early")
    default: throw fail("a JSON value is expected")
    }
  }

  mutating func word(_ word: String, _ value: StrictJSON) throws -> StrictJSON {
    guard bytes[position...].starts(with: word.utf8) else { throw fail("a JSON value is expected") }
    position += word.utf8.count
    return value
  }

  mutating func object(depth: Int) throws -> StrictJSON {
    position += 1
    var members: [StrictJSON.Member] = []
    var seen: Set<String> = []
    skipSpace()
    if take("}") { return .object([]) }
    repeat {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw fail("a key is expected") }
      let key = try string()
      guard seen.insert(key).inserted else { throw StrictJSON.ParseError.duplicateKey(key) }
      skipSpace()
      guard take(":") else { throw fail("':' is expected") }
      members.append(StrictJSON.Member(key, try value(depth: depth + 1)))
      skipSpace()
    } while take(",")
    guard take("}") else { throw fail("',' or '}' is expected") }
    return .object(members)
  }

  mutating func array(depth: Int) throws -> StrictJSON {
    position += 1
    var values: [StrictJSON] = []
    skipSpace()
    if take("]") { return .array([]) }
    repeat {
      values.append(try value(depth: depth + 1))
      skipSpace()
    } while take(",")
    guard take("]") else { throw fail("',' or ']' is expected") }
    return .array(values)
  }

  mutating func digits() throws {
    let start = position
    while let byte = next, byte >= 48 && byte <= 57 { position += 1 }
    guard position > start else { throw fail("a digit is expected") }
  }

  mutating func number() throws -> StrictJSON {
    let start = position
    if take("-"), allowsNonFinite, next == UInt8(ascii: "I") {
      return try word("Infinity", .number("-Infinity"))
    }
    if take("0") {
      if let byte = next, byte >= 48 && byte <= 57 { throw fail("a number begins with 0") }
    } else {
      try digits()
    }
    if take(".") { try digits() }
    if take("e") || take("E") {
      if !take("+") { _ = take("-") }
      try digits()
    }
    return .number(String(decoding: bytes[start..<position], as: UTF8.self))
  }

  mutating func string() throws -> String {
    position += 1
    var result: [UInt8] = []
    while let byte = next {
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: result, as: UTF8.self)
      case UInt8(ascii: "\\"): try escape(into: &result)
      case 0..<0x20: throw fail("a control character in a string")
      default: result.append(byte)
      }
    }
    throw fail("a string without end")
  }

  mutating func escape(into result: inout [UInt8]) throws {
    guard let byte = next else { throw fail("a string without end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): result.append(byte)
    case UInt8(ascii: "b"): result.append(0x08)
    case UInt8(ascii: "f"): result.append(0x0C)
    case UInt8(ascii: "n"): result.append(0x0A)
    case UInt8(ascii: "r"): result.append(0x0D)
    case UInt8(ascii: "t"): result.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if code >= 0xD800 && code < 0xDC00 {
        guard take("\\"), take("u") else { throw fail("a lone surrogate") }
        let low = try hexadecimal()
        guard low >= 0xDC00 && low < 0xE000 else { throw fail("a lone surrogate") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw fail("a lone surrogate") }
      result.append(contentsOf: UTF8.encode(scalar)?.map { $0 } ?? [])
    default: throw fail("an unknown escape")
    }
  }

  mutating func hexadecimal() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw fail("four hexadecimal digits are expected")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }
}
