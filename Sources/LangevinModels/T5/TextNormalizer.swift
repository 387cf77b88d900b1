import Foundation

/// The steps of a tokenizer.json's `normalizer`, as Hugging Face's tokenizers take them.
indirect enum TextNormalizer: Sendable {
  case sequence([TextNormalizer])
  case characterMap(CharacterMap)
  case replace(Pattern, with: String)
  /// White space at the beginning, at the end.
  case strip(left: Bool, right: Bool)
  case prepend(String)
  case form(NormalizationForm)
  case lowercase

  enum NormalizationForm: String, Sendable, CaseIterable {
    case nfc = "NFC"
    case nfd = "NFD"
    case nfkc = "NFKC"
    case nfkd = "NFKD"
  }

  /// What `replace` looks for; of regular expressions those that conversions of SentencePiece models write.
  enum Pattern: Sendable {
    case string(String)
    /// Runs of two and more spaces: ` {2,}`.
    case spaces
    /// `\A +| +\z`.
    case outerSpaces
    /// `\A` and a string.
    case beginning(String)

    init?(regex: String) {
      switch regex {
      case " {2,}": self = .spaces
      case "\\A +| +\\z": self = .outerSpaces
      case let regex where regex.hasPrefix("\\A"):
        let text = String(regex.unicodeScalars.dropFirst(2))
        guard !text.isEmpty, text.unicodeScalars.allSatisfy({ !$0.isASCII || $0.properties.isAlphabetic })
        else {
          return nil
        }
        self = .beginning(text)
      default: return nil
      }
    }
  }

  func apply(to text: inout PieceOfText) {
    switch self {
    case .sequence(let steps): for step in steps { step.apply(to: &text) }
    case .characterMap(let map): text.string = map.normalized(text.string)
    case .replace(let pattern, let content): replace(pattern, content, in: &text)
    case .strip(let left, let right):
      var scalars = text.string.unicodeScalars[...]
      if left {
        scalars = scalars.drop { $0.properties.isWhitespace }
        text.isBeginning = text.isBeginning && scalars.startIndex == text.string.startIndex
      }
      if right { while scalars.last?.properties.isWhitespace == true { scalars.removeLast() } }
      text.string = String(scalars)
    case .prepend(let content): if !text.string.isEmpty { text.string = content + text.string }
    case .form(.nfc): text.string = text.string.precomposedStringWithCanonicalMapping
    case .form(.nfd): text.string = text.string.decomposedStringWithCanonicalMapping
    case .form(.nfkc): text.string = text.string.precomposedStringWithCompatibilityMapping
    case .form(.nfkd): text.string = text.string.decomposedStringWithCompatibilityMapping
    case .lowercase:
      var result = String.UnicodeScalarView()
      for scalar in text.string.unicodeScalars {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
      text.string = String(result)
    }
  }

  private func replace(_ pattern: Pattern, _ content: String, in text: inout PieceOfText) {
    let utf8 = Array(text.string.utf8)
    var result: [UInt8] = []
    result.reserveCapacity(utf8.count)
    var position = 0
    // Once for all, or text full of spaces would take time by their square.
    let outer = utf8.count - utf8.reversed().prefix { $0 == UInt8(ascii: " ") }.count
    while position < utf8.count {
      let length = pattern.length(in: utf8, at: position, outer: outer)
      if length == 0 {
        result.append(utf8[position])
        position += 1
        continue
      }
      if position == 0 {
        // A text whose first characters are gone does not begin where the original does.
        let count = String(decoding: utf8[..<length], as: UTF8.self).unicodeScalars.count
        text.isBeginning = text.isBeginning && !content.isEmpty && count == 1
      }
      result += content.utf8
      position += length
    }
    text.string = String(decoding: result, as: UTF8.self)
  }
}

extension TextNormalizer.Pattern {
  /// Bytes of the match at `position`; 0 where there is none. The spaces at the end begin at `outer`.
  fileprivate func length(in text: [UInt8], at position: Int, outer: Int) -> Int {
    let space = UInt8(ascii: " ")
    switch self {
    case .string(let literal): return text[position...].starts(with: literal.utf8) ? literal.utf8.count : 0
    case .beginning(let literal):
      return position == 0 && text.starts(with: literal.utf8) ? literal.utf8.count : 0
    case .spaces:
      let count = text[position...].prefix { $0 == space }.count
      return count >= 2 ? count : 0
    case .outerSpaces:
      return position == 0 || position >= outer ? text[position...].prefix { $0 == space }.count : 0
    }
  }
}
