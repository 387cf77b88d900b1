/// Cuts a text into the pieces whose log probabilities have the greatest sum (arXiv:1804.10959), as the Unigram
/// model of Hugging Face's tokenizers does.
struct UnigramModel: Sendable {
  private let pieces: PieceTable
  /// The score of each token, by its id.
  private let scores: [Double]
  private let unknown: Int32
  private let unknownScore: Double
  /// Ids of `<0x00>` to `<0xFF>`; nil where a piece is missing or bytes are not to be used.
  private let bytes: [Int32?]

  /// - Parameter byteFallback: whether what has no piece is spelled in pieces `<0xE7>`.
  init(_ vocabulary: [(piece: String, score: Double)], unknown: Int32, byteFallback: Bool) {
    let table = PieceTable(vocabulary.map(\.piece))
    pieces = table
    scores = vocabulary.map(\.score)
    self.unknown = unknown
    unknownScore = (scores.min() ?? 0) - 10
    bytes = (0..<256).map { byte in
      let digits = String(byte, radix: 16, uppercase: true)
      return byteFallback ? table.id(of: "<0x\(byte < 16 ? "0" : "")\(digits)>".utf8) : nil
    }
  }

  /// The id of exactly this piece.
  func id(of piece: String) -> Int32? { pieces.id(of: piece.utf8) }

  /// Appends the ids of a text in UTF-8.
  func encode(_ text: [UInt8], into ids: inout [Int32]) {
    text.withUnsafeBufferPointer { text in
      for piece in bestPath(text).reversed() {
        let range = piece.start..<piece.end
        if piece.id != unknown {
          ids.append(piece.id)
        } else if let id = pieces.id(of: text[range]) {
          ids.append(id)  // The unknown token's own spelling.
        } else {
          let spelled = text[range].compactMap { bytes[Int($0)] }
          if spelled.count == range.count { ids += spelled } else { ids.append(unknown) }
        }
      }
    }
  }

  private struct Piece {
    var start: Int
    var end: Int
    var id: Int32
  }

  /// The pieces of the best path, the last first; neighbours that are unknown are one.
  private func bestPath(_ text: UnsafeBufferPointer<UInt8>) -> [Piece] {
    var best = [Double](repeating: 0, count: text.count + 1)
    var last = [Piece](repeating: Piece(start: -1, end: 0, id: unknown), count: text.count + 1)
    var start = 0
    best.withUnsafeMutableBufferPointer { best in
      last.withUnsafeMutableBufferPointer { last in
        func offer(_ length: Int, _ id: Int32, _ score: Double) {
          let (end, sum) = (start + length, score + best[start])
          if last[end].start < 0 || sum > best[end] {
            best[end] = sum
            last[end] = Piece(start: start, end: end, id: id)
          }
        }
        while start < text.count {
          let width = Self.width(text[start])
          var hasSingle = false
          pieces.forEachPiece(in: text, at: start) { length, id in
            offer(length, id, scores[Int(id)])
            hasSingle = hasSingle || length == width
          }
          if !hasSingle { offer(width, unknown, unknownScore) }
          start += width
        }
      }
    }
    var path: [Piece] = []
    var end = text.count
    while end > 0 {
      let piece = last[end]
      if piece.id == unknown, let next = path.last, next.id == unknown, next.start == end {
        path[path.count - 1].start = piece.start
      } else {
        path.append(piece)
      }
      end = piece.start
    }
    return path
  }

  /// Bytes of a character in UTF-8.
  private static func width(_ byte: UInt8) -> Int { byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4 }
}
