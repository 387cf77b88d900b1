import Foundation

/// Cleans a prompt as the reference's pipeline does before the prompt is tokenized.
public enum PromptCleaning {
  /// As diffusers' `WanPipeline`: `ftfy.fix_text`, `html.unescape` twice, runs of white space as one space.
  ///
  /// One thing that ftfy does is left out: it guesses that text such as `âœ”` was decoded in the wrong encoding.
  /// Text without such damage comes out exactly as the reference's.
  public static func wan(_ text: String) -> String {
    let repaired = TextRepair.repaired(Array(text.unicodeScalars))
    let plain = HTMLText.unescaped(HTMLText.unescaped(repaired))
    let words = plain.split(whereSeparator: isSpace)
    return words.map { String(String.UnicodeScalarView($0)) }.joined(separator: " ")
  }

  /// Python's `str.isspace`, which also counts the information separators.
  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
  }
}

/// What ftfy (version 6) repairs in a text apart from its encoding, with its defaults.
enum TextRepair {
  /// Line by line; once a line has a `<`, the text is taken for HTML, and references in it and after it stay.
  static func repaired(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    var unescapes = true
    var start = 0
    while start < text.count {
      let end = text[start...].firstIndex(of: "\n").map { $0 + 1 } ?? text.count
      unescapes = unescapes && !text[start..<end].contains("<")
      result += line(Array(text[start..<end]), unescapes: unescapes)
      start = end
    }
    return result
  }

  /// Until nothing changes any more; text that was escaped more than 32 times stays so, since each round takes off one.
  private static func line(_ text: [Unicode.Scalar], unescapes: Bool) -> [Unicode.Scalar] {
    var text = text
    for _ in 0..<32 {
      let before = text
      if unescapes { text = HTMLText.unescapedWhereCertain(text) }
      text = text.flatMap(replacement)
      text = withoutControls(withoutEscapeSequences(withUnixLineBreaks(text)))
      let composed = String(String.UnicodeScalarView(text)).precomposedStringWithCanonicalMapping
      text = Array(composed.unicodeScalars)
      if text == before { break }
    }
    return text
  }

  /// C1 controls as Windows-1252 has them, Latin ligatures in letters, standard widths, straight quotes.
  private static func replacement(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
    if scalar.isASCII { return [scalar] }
    let mapped = HTMLText.windows1252[scalar.value] ?? scalar
    return (ligatures[mapped].map { Array($0.unicodeScalars) } ?? [mapped]).flatMap(standardWidth).map {
      scalar in
      switch scalar.value {
      case 0x02BC, 0x2018...0x201B: "'"
      case 0x201C...0x201F: "\""
      default: scalar
      }
    }
  }

  private static let ligatures: [Unicode.Scalar: String] = [
    "Ĳ": "IJ", "ĳ": "ij", "ŉ": "ʼn", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž",
    "Ǉ": "LJ",
    "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi",
    "ﬄ": "ffl",
    "ﬅ": "ſt", "ﬆ": "st",
  ]

  private static func standardWidth(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
    switch scalar.value {
    case 0x3000: [" "]
    case 0xFF01..<0xFFF0: Array(String(scalar).precomposedStringWithCompatibilityMapping.unicodeScalars)
    default: [scalar]
    }
  }

  private static func withUnixLineBreaks(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    text.indices.compactMap { index in
      switch text[index] {
      case "\r": index + 1 < text.count && text[index + 1] == "\n" ? nil : "\n"
      case "\u{2028}", "\u{2029}", "\u{85}": "\n"
      default: text[index]
      }
    }
  }

  /// Without what colours a terminal's text: escape, `[`, digits and semicolons, a letter.
  private static func withoutEscapeSequences(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    var position = 0
    while position < text.count {
      if text[position] == "\u{1B}", position + 1 < text.count, text[position + 1] == "[" {
        let end =
          text[(position + 2)...].firstIndex {
            !($0 == ";" || $0.properties.generalCategory == .decimalNumber)
          } ?? text.count
        if end < text.count, text[end].isASCII, text[end].properties.isAlphabetic {
          position = end + 1
          continue
        }
      }
      result.append(text[position])
      position += 1
    }
    return result
  }

  private static func withoutControls(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    text.filter { scalar in
      switch scalar.value {
      case 0x00..<0x09, 0x0B, 0x0E..<0x20, 0x7F, 0x206A..<0x2070, 0xFEFF, 0xFFF9..<0xFFFD: false
      default: true
      }
    }
  }
}
