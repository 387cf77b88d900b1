import Foundation

/// JSON of whatever holds operations: infinity and NaN, which JSON has not, are the strings `inf`, `-inf` and `nan`.
public enum OperationJSON {
  /// On one line, with sorted keys. Throws what the value's coding throws.
  public static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try encoder.encode(value)
  }

  /// What `encode` wrote. Throws `DecodingError`.
  public static func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws -> Value {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try decoder.decode(type, from: data)
  }

  /// Refuses whole numbers of which a few products would overflow, and which no model has.
  ///
  /// Throws `ReplayError.malformed` for one above 2^28, whatever its sign; seeds are of another type.
  public static func checkNumbers(in value: Any) throws {
    let largest = largestNumber(in: value)
    guard largest <= 1 << 28 else {
      throw ReplayError.malformed(reason: "\(largest) is more than any number in it can be")
    }
  }

  private static func largestNumber(in value: Any) -> UInt {
    if let number = value as? Int { return number.magnitude }
    return Mirror(reflecting: value).children.reduce(0) { max($0, largestNumber(in: $1.value)) }
  }
}
