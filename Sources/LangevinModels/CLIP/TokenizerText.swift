import Foundation

/// How CLIP's tokenizer cleans and divides text before byte-pair encoding, as `transformers` does it.
enum TokenizerText {
  /// Canonical composition, then lower case letter by letter (no rule for final sigma, no locale).
  static func normalized(_ scalars: some Sequence<Unicode.Scalar>) -> [Unicode.Scalar] {
    var text = String.UnicodeScalarView()
    var isASCII = true
    for scalar in scalars {
      text.append(scalar)
      isASCII = isASCII && scalar.isASCII
    }
    let composed = isASCII ? text : String(text).precomposedStringWithCanonicalMapping.unicodeScalars
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(composed.count)
    for scalar in composed {
      if scalar.isASCII {
        let isUpper = scalar.value >= 65 && scalar.value <= 90
        result.append(isUpper ? Unicode.Scalar(UInt8(scalar.value) + 32) : scalar)
      } else {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
    }
    return result
  }

  private enum Kind {
    case space, letter, number, other

    init(_ scalar: Unicode.Scalar) {
      if scalar.isASCII {
        self =
          switch scalar.value {
          case 9...13, 32: .space
          case 48...57: .number
          case 65...90, 97...122: .letter
          default: .other
          }
        return
      }
      switch scalar.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
      case .decimalNumber, .letterNumber, .otherNumber: self = .number
      default: self = scalar.properties.isWhitespace ? .space : .other
      }
    }
  }

  private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map {
    Array($0.unicodeScalars)
  }

  /// Where these are spelled out they are cut from what surrounds them, and then into letters and signs.
  private static let markers = [["<|", "startoftext", "|>"], ["<|", "endoftext", "|>"]].map { parts in
    parts.map { Array($0.unicodeScalars) }
  }

  /// Calls `body` with each word of normalized text: the matches of
  /// `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`.
  /// It stops where `body` returns false.
  static func forEachWord(_ text: [Unicode.Scalar], _ body: (ArraySlice<Unicode.Scalar>) -> Bool) {
    var start = 0
    scan: while start < text.count {
      if text[start] == "<" {
        for parts in markers where text[start...].starts(with: parts.joined()) {
          for part in parts {
            guard body(text[start..<start + part.count]) else { return }
            start += part.count
          }
          continue scan
        }
      }
      var end = start + 1
      if text[start] == "'", let contraction = contractions.first(where: { text[start...].starts(with: $0) })
      {
        end = start + contraction.count
      } else {
        let kind = Kind(text[start])
        if kind == .space {
          start = end
          continue
        }
        while kind != .number, end < text.count, Kind(text[end]) == kind { end += 1 }
      }
      guard body(text[start..<end]) else { return }
      start = end
    }
  }

  static func utf8(_ scalars: ArraySlice<Unicode.Scalar>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(scalars.count)
    for scalar in scalars {
      result.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    }
    return result
  }
}

/// Tokens that are recognised as a whole, wherever they stand.
struct MarkedTokens: Sendable {
  struct Token: Sendable, Equatable {
    let content: [Unicode.Scalar]
    let ids: [Int32]
  }

  enum Piece {
    case text(ArraySlice<Unicode.Scalar>)
    case token([Int32])
  }

  /// The special tokens, the longest first, so that none hides a longer one.
  private let tokens: [Token]
  private let beginnings: Set<Unicode.Scalar>

  init(_ tokens: [Token]) {
    self.tokens = tokens.filter { !$0.content.isEmpty }.sorted { $0.content.count > $1.content.count }
    beginnings = Set(self.tokens.map { $0.content[0] })
  }

  /// With more of them.
  func adding(_ others: [Token]) -> MarkedTokens { MarkedTokens(tokens + others) }

  /// Cuts text at every token, leftmost first and of those the longest.
  func split(_ text: [Unicode.Scalar]) -> [Piece] {
    guard !tokens.isEmpty else { return [.text(text[...])] }
    var pieces: [Piece] = []
    var (start, position) = (0, 0)
    while position < text.count {
      if beginnings.contains(text[position]),
        let token = tokens.first(where: { text[position...].starts(with: $0.content) })
      {
        if start < position { pieces.append(.text(text[start..<position])) }
        pieces.append(.token(token.ids))
        position += token.content.count
        start = position
      } else {
        position += 1
      }
    }
    if start < text.count { pieces.append(.text(text[start...])) }
    return pieces
  }
}
