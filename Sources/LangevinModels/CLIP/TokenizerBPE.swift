/// Byte-pair encoding of single words over a byte-level alphabet (arXiv:1508.07909).
struct BytePairEncoding: Sendable {
  /// A merge's place in the list, the lowest first, and the token it makes.
  struct Merge: Sendable {
    let rank: Int32
    let token: Int32
  }

  /// Appended to the last symbol of a word.
  static let wordEnd = "</w>"

  let tokens: [String: Int32]
  let unknown: Int32
  /// The token of each byte inside a word, and of each as a word's last; `unknown` where there is none.
  private let inner: [Int32]
  private let final: [Int32]
  /// By `left << 32 | right`.
  private let merges: [UInt64: Merge]

  /// `merges` are pairs, the first to be applied first. Throws a reason.
  init(tokens: [String: Int32], merges pairs: [(left: Substring, right: Substring)], unknown: Int32)
    throws(Reason)
  {
    self.tokens = tokens
    self.unknown = unknown
    inner = Self.alphabet.map { tokens[String($0)] ?? unknown }
    final = Self.alphabet.map { tokens[String($0) + Self.wordEnd] ?? unknown }
    var merges: [UInt64: Merge] = [:]
    merges.reserveCapacity(pairs.count)
    for (rank, pair) in pairs.enumerated() {
      guard let left = tokens[String(pair.left)], let right = tokens[String(pair.right)],
        let token = tokens[String(pair.left) + String(pair.right)]
      else {
        throw Reason("the merge '\(pair.left) \(pair.right)' is of or makes a token not in the vocabulary")
      }
      merges[Self.key(left, right)] = Merge(rank: Int32(rank), token: token)
    }
    self.merges = merges
  }

  struct Reason: Error {
    let text: String
    init(_ text: String) { self.text = text }
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// The tokens of one word, in time n log n of its bytes: the merge of the lowest rank goes first, the
  /// leftmost of equals.
  func encode(_ word: some Sequence<UInt8>, into result: inout [Int32]) {
    let bytes = Array(word)
    guard bytes.count > 1 else {
      if let byte = bytes.first { result.append(final[Int(byte)]) }
      return
    }
    // A doubly linked list of symbols; a merged symbol's right half is left out of it and becomes -1.
    var symbols = bytes.map { inner[Int($0)] }
    symbols[bytes.count - 1] = final[Int(bytes[bytes.count - 1])]
    var next = Array(1...bytes.count)
    var previous = Array(-1..<bytes.count - 1)
    var queue = MergeQueue()

    func consider(_ left: Int, _ queue: inout MergeQueue) {
      guard left >= 0, next[left] < symbols.count else { return }
      if let merge = merges[Self.key(symbols[left], symbols[next[left]])] {
        queue.push(MergeQueue.Entry(rank: merge.rank, position: Int32(left), token: merge.token))
      }
    }
    for left in 0..<bytes.count - 1 { consider(left, &queue) }
    while let entry = queue.pop() {
      let left = Int(entry.position)
      let right = next[left]
      // The pair may have changed since it was queued.
      guard symbols[left] >= 0, right < symbols.count,
        let merge = merges[Self.key(symbols[left], symbols[right])], merge.token == entry.token
      else { continue }
      symbols[left] = merge.token
      symbols[right] = -1
      next[left] = next[right]
      if next[left] < symbols.count { previous[next[left]] = left }
      consider(previous[left], &queue)
      consider(left, &queue)
    }
    for symbol in symbols where symbol >= 0 { result.append(symbol) }
  }

  // MARK: The byte-level alphabet

  /// The character that stands for each byte: itself where it is printable, else the next one from U+0100.
  static let alphabet: [Unicode.Scalar] = {
    var result = [Unicode.Scalar](repeating: "\0", count: 256)
    var spare: UInt32 = 256
    for byte in UInt8.min...UInt8.max {
      if isPrintable(byte) {
        result[Int(byte)] = Unicode.Scalar(byte)
      } else if let scalar = Unicode.Scalar(spare) {
        result[Int(byte)] = scalar
        spare += 1
      }
    }
    return result
  }()

  /// The bytes in the order in which OpenAI numbers their tokens: the printable ones first.
  static let vocabularyOrder: [UInt8] =
    (UInt8.min...UInt8.max).filter(isPrintable) + (UInt8.min...UInt8.max).filter { !isPrintable($0) }

  private static func isPrintable(_ byte: UInt8) -> Bool {
    (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
  }

  private static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
    uniqueKeysWithValues: alphabet.enumerated().map { ($1, UInt8($0)) })

  /// How a word is spelled as one token.
  static func spelling(of word: String) -> String {
    var result = String.UnicodeScalarView()
    for byte in word.utf8 { result.append(alphabet[Int(byte)]) }
    return String(result) + wordEnd
  }

  /// The bytes that a token stands for.
  static func bytes(of token: Substring) -> [UInt8] { token.unicodeScalars.compactMap { bytes[$0] } }
}

/// Possible merges, the lowest rank first, the leftmost of equals: a binary heap.
private struct MergeQueue {
  struct Entry {
    let rank: Int32
    let position: Int32
    let token: Int32

    static func < (a: Entry, b: Entry) -> Bool { (a.rank, a.position) < (b.rank, b.position) }
  }

  private var heap: [Entry] = []

  mutating func push(_ entry: Entry) {
    heap.append(entry)
    var child = heap.count - 1
    while child > 0, heap[child] < heap[(child - 1) / 2] {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func pop() -> Entry? {
    guard let last = heap.popLast() else { return nil }
    guard let first = heap.first else { return last }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child] < heap[least] {
        least = child
      }
      if least == parent { return first }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}
