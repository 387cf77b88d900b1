/// The processes or devices that train one model together, each on its own part of every batch.
///
/// All ranks call the same functions in the same order. After one has thrown, the collective is of no more use.
public protocol Collective: Sendable {
  /// Which of them this is, from 0.
  var rank: Int { get }
  /// How many they are.
  var count: Int { get }
  /// Every rank's numbers become the sum over all ranks, added in the order of the ranks: the same bits everywhere and
  /// each time.
  ///
  /// Throws `CollectiveError` on every rank where one of them has failed or gives another number of values.
  func sum(_ values: inout [Float]) throws
}

extension Collective {
  /// Whether this rank prints and writes for all.
  public var isFirst: Bool { rank == 0 }

  /// Whether the flag is set on any rank. All ranks have the same answer.
  ///
  /// Throws as `sum` does.
  public func any(_ flag: Bool) throws -> Bool {
    var sum: [Float] = [flag ? 1 : 0]
    try self.sum(&sum)
    return sum[0] > 0
  }

  /// Returns when all ranks have come here: until the first has written what the others are going to read, or before
  /// they end.
  ///
  /// Throws as `sum` does.
  public func wait() throws { _ = try any(false) }

  /// Every rank's value, in the order of the ranks, on every rank.
  ///
  /// Throws as `sum` does.
  public func gathered(_ value: UInt64) throws -> [UInt64] {
    // In pieces that a Float holds exactly; the other ranks add zeros.
    var pieces = [Float](repeating: 0, count: 4 * count)
    for piece in 0..<4 { pieces[4 * rank + piece] = Float(UInt16(truncatingIfNeeded: value >> (16 * piece))) }
    try sum(&pieces)
    return (0..<count).map { rank in
      (0..<4).reduce(0) { $0 | UInt64(pieces[4 * rank + $1]) << (16 * $1) }
    }
  }

  /// The first rank's numbers on every rank, to the bit.
  ///
  /// Throws as `sum` does.
  public func broadcast(_ values: inout [Float]) throws {
    // x + -0 is x, and where x is -0 too.
    if !isFirst { values = [Float](repeating: -0.0, count: values.count) }
    try sum(&values)
  }

  /// Checks that all ranks have the same: settings, data or weights, by their hash.
  ///
  /// Throws `CollectiveError.different` on every rank where they do not, and as `sum` does.
  public func check(_ what: String, hash: UInt64) throws {
    let hashes = try gathered(hash)
    guard let other = hashes.firstIndex(where: { $0 != hashes[0] }) else { return }
    throw CollectiveError.different(what: what, rank: other)
  }
}

/// One process that trains by itself.
public struct Alone: Collective {
  /// The first.
  public let rank = 0
  /// One.
  public let count = 1

  /// No others.
  public init() {}

  /// Leaves the numbers as they are.
  public func sum(_ values: inout [Float]) {}
}

/// Why ranks cannot go on together.
public enum CollectiveError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A rank failed, or ended before the others. The others throw this too.
  case rankFailed(rank: Int, count: Int, reason: String)
  /// The ranks gave different numbers of values to one sum.
  case differentSizes([Int])
  /// A rank has other settings, data or weights than the first.
  case different(what: String, rank: Int)

  /// One line that names the rank.
  public var description: String {
    switch self {
    case .rankFailed(let rank, let count, let reason): "rank \(rank) of \(count): \(reason)"
    case .differentSizes(let sizes):
      "the ranks add different numbers of values: \(sizes.map(String.init).joined(separator: ", "))"
    case .different(let what, let rank): "\(what): rank \(rank) has another than rank 0"
    }
  }
}
