import Foundation

/// Byte strings with their ids, in the order of their bytes: those with a common beginning lie together, so that
/// all which a text begins with are found by narrowing a range byte by byte.
struct PieceTable: Sendable {
  /// All pieces, one after the other.
  private let bytes: [UInt8]
  /// Where each piece begins, and where the last ends.
  private let starts: [Int32]
  private let ids: [Int32]
  /// Where pieces with each first byte begin, and where the last end.
  private let first: [Int32]

  /// Ids count the pieces where none are given; of equal pieces the last counts, empty ones never.
  init(_ pieces: [String], ids given: [Int32]? = nil) {
    var source: [UInt8] = []
    var offsets = [0]
    offsets.reserveCapacity(pieces.count + 1)
    for piece in pieces {
      source.append(contentsOf: piece.utf8)
      offsets.append(source.count)
    }
    let order = Self.sorted(source, offsets)
    var (bytes, starts, ids): ([UInt8], [Int32], [Int32]) = ([], [0], [])
    bytes.reserveCapacity(source.count)
    var first = [Int32](repeating: 0, count: 257)
    for (place, index) in order.enumerated() {
      let piece = source[offsets[index]..<offsets[index + 1]]
      if piece.isEmpty { continue }
      if place + 1 < order.count {
        let next = order[place + 1]
        if piece.elementsEqual(source[offsets[next]..<offsets[next + 1]]) { continue }
      }
      bytes.append(contentsOf: piece)
      starts.append(Int32(bytes.count))
      ids.append(given?[index] ?? Int32(index))
      first[Int(piece[piece.startIndex]) + 1] += 1
    }
    for byte in 1...256 { first[byte] += first[byte - 1] }
    (self.bytes, self.starts, self.ids, self.first) = (bytes, starts, ids, first)
  }

  /// Indices of the pieces by their bytes, equal ones in the order in which they were given.
  private static func sorted(_ source: [UInt8], _ offsets: [Int]) -> [Int] {
    source.withUnsafeBufferPointer { bytes in
      offsets.withUnsafeBufferPointer { offsets in
        (0..<offsets.count - 1).sorted { a, b in
          let (x, y) = (offsets[a + 1] - offsets[a], offsets[b + 1] - offsets[b])
          let order =
            min(x, y) == 0
            ? 0 : memcmp(bytes.baseAddress! + offsets[a], bytes.baseAddress! + offsets[b], min(x, y))
          return order != 0 ? order < 0 : x != y ? x < y : a < b
        }
      }
    }
  }

  /// Calls `body` with length and id of every piece that the text has at `position`, the shortest first.
  func forEachPiece(
    in text: UnsafeBufferPointer<UInt8>, at position: Int, _ body: (_ length: Int, _ id: Int32) -> Void
  ) {
    guard position < text.count else { return }
    bytes.withUnsafeBufferPointer { bytes in
      starts.withUnsafeBufferPointer { starts in
        /// The first of a range of pieces, alike up to `depth`, whose next byte is not below `byte`.
        func bound(_ byte: Int, _ depth: Int, _ range: Range<Int>) -> Int {
          var (lower, upper) = (range.lowerBound, range.upperBound)
          while lower < upper {
            let middle = (lower + upper) / 2
            if Int(bytes[Int(starts[middle]) + depth]) < byte { lower = middle + 1 } else { upper = middle }
          }
          return lower
        }
        let byte = Int(text[position])
        var (lower, upper) = (Int(first[byte]), Int(first[byte + 1]))
        var depth = 1
        while lower < upper {
          // A piece that ends here comes before those that it begins.
          if Int(starts[lower + 1] - starts[lower]) == depth {
            body(depth, ids[lower])
            lower += 1
          }
          guard position + depth < text.count else { return }
          let byte = Int(text[position + depth])
          lower = bound(byte, depth, lower..<upper)
          upper = bound(byte + 1, depth, lower..<upper)
          depth += 1
        }
      }
    }
  }

  /// The longest piece that the text has at `position`.
  func longest(in text: UnsafeBufferPointer<UInt8>, at position: Int) -> (length: Int, id: Int32)? {
    var result: (length: Int, id: Int32)?
    forEachPiece(in: text, at: position) { result = ($0, $1) }
    return result
  }

  /// The id of exactly these bytes.
  func id(of piece: some Collection<UInt8>) -> Int32? {
    let whole = Array(piece)
    let found = whole.withUnsafeBufferPointer { longest(in: $0, at: 0) }
    return found.flatMap { $0.length == whole.count ? $0.id : nil }
  }
}
