/// A part of what is tokenized.
struct PieceOfText: Sendable {
  var string: String
  /// Whether its first character is that of the whole text.
  var isBeginning: Bool
}

/// The steps of a tokenizer.json's `pre_tokenizer`: how a normalized text is cut before pieces are looked for.
indirect enum PreTokenizer: Sendable {
  case sequence([PreTokenizer])
  /// Cuts at white space, which is dropped.
  case whitespaceSplit
  /// Writes spaces as `replacement`, sets one before the text, and cuts before each.
  case metaspace(replacement: Unicode.Scalar, scheme: PrependScheme, split: Bool)

  enum PrependScheme: String, Sendable, CaseIterable {
    case always, first, never
  }

  func apply(to pieces: [PieceOfText]) -> [PieceOfText] {
    switch self {
    case .sequence(let steps): return steps.reduce(pieces) { $1.apply(to: $0) }
    case .whitespaceSplit:
      return pieces.flatMap { piece in
        piece.string.unicodeScalars.split { $0.properties.isWhitespace }.map {
          PieceOfText(
            string: String($0), isBeginning: piece.isBeginning && $0.startIndex == piece.string.startIndex)
        }
      }
    case .metaspace(let replacement, let scheme, let split):
      return pieces.flatMap { piece in
        var scalars = String.UnicodeScalarView(
          piece.string.unicodeScalars.map { $0 == " " ? replacement : $0 })
        if scheme == .always || scheme == .first && piece.isBeginning, scalars.first != replacement {
          scalars.insert(replacement, at: scalars.startIndex)
        }
        return split
          ? Self.cut(scalars, before: replacement, isBeginning: piece.isBeginning)
          : [PieceOfText(string: String(scalars), isBeginning: piece.isBeginning)]
      }
    }
  }

  private static func cut(
    _ scalars: String.UnicodeScalarView, before mark: Unicode.Scalar, isBeginning: Bool
  ) -> [PieceOfText] {
    var pieces: [PieceOfText] = []
    var start = scalars.startIndex
    while start < scalars.endIndex {
      let end = scalars[scalars.index(after: start)...].firstIndex(of: mark) ?? scalars.endIndex
      pieces.append(
        PieceOfText(
          string: String(scalars[start..<end]), isBeginning: isBeginning && start == scalars.startIndex))
      start = end
    }
    return pieces
  }
}
