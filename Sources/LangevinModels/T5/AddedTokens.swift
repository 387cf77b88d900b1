/// A tokenizer.json's `added_tokens`: found in a text as a whole before anything else looks at it, the leftmost
/// first and of those the longest.
struct AddedTokens: Sendable {
  struct Token: Sendable {
    var id: Int32
    var content: String
    /// Whether it takes the white space before it, and after it.
    var stripsLeft = false
    var stripsRight = false
    /// Whether it counts only where no letter or digit touches it.
    var isSingleWord = false
    /// Whether it is looked for in the normalized text, and is itself normalized.
    var isNormalized = false
  }

  enum Piece {
    case text(PieceOfText)
    case token(Int32)
  }

  private let tokens: [Token]
  /// Ids are places in `tokens`.
  private let table: PieceTable

  init(_ tokens: [Token]) {
    self.tokens = tokens
    table = PieceTable(tokens.map(\.content))
  }

  /// Pieces that are empty are left out.
  func split(_ text: PieceOfText) -> [Piece] {
    if text.string.isEmpty { return [] }
    if tokens.isEmpty { return [.text(text)] }
    let utf8 = Array(text.string.utf8)
    var pieces: [Piece] = []
    var (start, position) = (0, 0)
    func add(_ range: Range<Int>) {
      pieces.append(
        .text(
          PieceOfText(
            string: String(decoding: utf8[range], as: UTF8.self),
            isBeginning: text.isBeginning && range.lowerBound == 0)))
    }
    while position < utf8.count {
      guard let match = utf8.withUnsafeBufferPointer({ table.longest(in: $0, at: position) }) else {
        position += 1
        continue
      }
      let token = tokens[Int(match.id)]
      var (lower, upper) = (position, position + match.length)
      position = upper
      if token.isSingleWord, Self.endsWithWord(utf8[..<lower]) || Self.beginsWithWord(utf8[upper...]) {
        continue
      }
      if token.stripsLeft { lower = Self.endOfText(utf8[start..<lower]) }
      if token.stripsRight { upper = Self.beginningOfText(utf8[upper...]) }
      if start < lower { add(start..<lower) }
      pieces.append(.token(token.id))
      start = upper
    }
    if start < utf8.count { add(start..<utf8.count) }
    return pieces
  }

  // MARK: What touches a token

  private static func scalars(_ bytes: ArraySlice<UInt8>) -> String.UnicodeScalarView {
    String(decoding: bytes, as: UTF8.self).unicodeScalars
  }

  /// The last 4 bytes hold the last character, perhaps after parts of others.
  private static func endsWithWord(_ bytes: ArraySlice<UInt8>) -> Bool {
    scalars(bytes.suffix(4)).last.map(isWord) ?? false
  }

  private static func beginsWithWord(_ bytes: ArraySlice<UInt8>) -> Bool {
    scalars(bytes.prefix(4)).first.map(isWord) ?? false
  }

  /// Where the white space at the end begins.
  private static func endOfText(_ bytes: ArraySlice<UInt8>) -> Int {
    let text = scalars(bytes)
    let space = text.reversed().prefix { $0.properties.isWhitespace }
    return bytes.endIndex - space.reduce(0) { $0 + UTF8.width($1) }
  }

  /// Where the white space at the beginning ends.
  private static func beginningOfText(_ bytes: ArraySlice<UInt8>) -> Int {
    var (decoder, rest, end) = (UTF8(), bytes.makeIterator(), bytes.startIndex)
    // One by one: decoding all that follows each token would take time by the square.
    while case .scalarValue(let scalar) = decoder.decode(&rest), scalar.properties.isWhitespace {
      end += UTF8.width(scalar)
    }
    return end
  }

  /// `\w`: letters, marks, decimal digits, connecting punctuation and joiners (Unicode TS 18, annex C).
  private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
    default: return properties.isAlphabetic || properties.isJoinControl
    }
  }
}
