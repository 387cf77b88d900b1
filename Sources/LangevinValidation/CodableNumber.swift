/// A number that keeps infinity and NaN in formats which have no such numbers, JSON above all: they are written
/// as the strings `inf`, `-inf` and `nan`.
@propertyWrapper public struct CodableNumber<Value>: Sendable, Hashable, Codable
where Value: BinaryFloatingPoint & Codable & LosslessStringConvertible & Sendable {
  /// The number itself, which may be NaN or infinite.
  public var wrappedValue: Value

  /// Wraps a number so that NaN and infinity can be written as JSON.
  public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }

  /// Throws `DecodingError` for anything but a number and the three strings.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Value.self) {
      wrappedValue = number
      return
    }
    let text = try container.decode(String.self)
    guard ["inf", "-inf", "nan"].contains(text), let number = Value(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not a number")
    }
    wrappedValue = number
  }

  /// As a number where it is finite.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if wrappedValue.isFinite {
      try container.encode(wrappedValue)
    } else {
      try container.encode(wrappedValue.isNaN ? "nan" : wrappedValue < 0 ? "-inf" : "inf")
    }
  }
}
