import LangevinJSON

/// The captions of one picture and its weight, as one JSON object or one text file says them.
struct CaptionEntry: Equatable {
  var captions: [Caption] = []
  var weight = 1.0
}

extension CaptionEntry {
  /// Reads an object with captions in one of the `usual` columns, or in the one that the options name, and
  /// perhaps a `weight`; a caption's column holds a string, a list of strings, or a list of objects {"text",
  /// "weight"}.
  ///
  /// A caption that is null, blank or an empty list is none. `others` are the keys that the caller reads.
  /// Throws `DataError.malformed` and `.unknownColumns`.
  init(
    _ json: StrictJSON, usual: [String], others: Set<String> = [], _ options: CaptionOptions,
    at place: DataPlace
  ) throws {
    guard case .object(let members) = json else {
      throw DataError.malformed(
        place, reason: "a JSON object is expected, got \(json.text.shortened(to: 60))")
    }
    let columns = options.column.map { [$0] } ?? usual
    if options.column == nil {
      let unknown = members.map(\.key).filter {
        !others.contains($0) && !columns.contains($0) && $0 != "weight"
      }
      guard unknown.isEmpty else { throw DataError.unknownColumns(place, names: unknown) }
    }
    let given = columns.filter { json[$0] != nil }
    guard given.count <= 1 else {
      throw DataError.malformed(
        place, reason: "captions in both '\(given[0])' and '\(given[1])'; name the one to read")
    }
    if let column = given.first, let value = json[column] {
      captions = try Self.captions(value, column, at: place)
    }
    if let value = json["weight"], value != .null {
      weight = try Self.weight(value, "'weight'", at: place)
    }
  }

  private static func captions(_ value: StrictJSON, _ column: String, at place: DataPlace) throws
    -> [Caption]
  {
    switch value {
    case .null: return []
    case .string(let text): return text.isBlank ? [] : [Caption(text)]
    case .array(let items): return try items.map { try caption($0, column, at: place) }
    default:
      throw DataError.malformed(
        place,
        reason: "'\(column)' must be a text or a list of texts, got \(value.text.shortened(to: 60))")
    }
  }

  /// One of a list.
  private static func caption(_ item: StrictJSON, _ column: String, at place: DataPlace) throws -> Caption {
    func malformed(_ reason: String) -> DataError {
      .malformed(place, reason: "in the list '\(column)': \(reason)")
    }
    var caption = Caption("")
    switch item {
    case .string(let text): caption.text = text
    case .object(let members):
      let unknown = members.map(\.key).filter { $0 != "text" && $0 != "weight" }
      guard unknown.isEmpty else {
        throw malformed("a caption has a text and a weight, and no '\(unknown[0])'")
      }
      guard let text = item["text"]?.string else {
        throw malformed("a caption without a 'text': \(item.text.shortened(to: 60))")
      }
      caption.text = text
      if let value = item["weight"] {
        caption.weight = try weight(value, "the weight of a caption", at: place)
      }
    default: throw malformed("a text or an object is expected, got \(item.text.shortened(to: 60))")
    }
    guard !caption.text.isBlank else { throw malformed("a blank caption") }
    return caption
  }

  private static func weight(_ value: StrictJSON, _ name: String, at place: DataPlace) throws -> Double {
    guard let weight = value.double, weight >= 1e-6, weight <= 1e6 else {
      throw DataError.malformed(
        place, reason: "\(name) must be a number from 1e-6 to 1e6, got \(value.text.shortened(to: 60))")
    }
    return weight
  }
}

extension CaptionEntry {
  /// One caption a line, without white space at its ends and without blank lines; a byte order mark is passed
  /// over.
  ///
  /// Throws `DataError.malformed` unless the bytes are UTF-8.
  init(text bytes: UnsafeRawBufferPointer, at place: DataPlace) throws {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw DataError.malformed(place, reason: "it is not UTF-8")
    }
    let lines = (text.first == "\u{FEFF}" ? text.dropFirst() : text[...]).split(whereSeparator: \.isNewline)
    captions = lines.map { $0.trimmed }.filter { !$0.isEmpty }.map { Caption($0) }
  }
}

extension StringProtocol {
  var isBlank: Bool { allSatisfy(\.isWhitespace) }

  /// Without white space at its ends.
  fileprivate var trimmed: String {
    String(drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
  }
}

extension StrictJSON {
  /// Parses one document of a data set. Throws `DataError.malformed`.
  init(parsing bytes: some Sequence<UInt8>, at place: DataPlace) throws {
    do {
      try self.init(parsing: Array(bytes))
    } catch ParseError.invalid(let reason) {
      throw DataError.malformed(place, reason: "no valid JSON: \(reason)")
    } catch ParseError.duplicateKey(let key) {
      throw DataError.malformed(place, reason: "the key '\(key)' appears twice")
    }
  }
}
