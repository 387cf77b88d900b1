/// The processes or devices that train one model together, each on its own part of every batch.
public protocol Collective: Sendable {
  /// Which of them this is, from 0.
  var rank: Int { get }
  /// How many they are.
  var count: Int { get }
  /// Every rank's numbers become the sum over all ranks, added in the order of the ranks: the same bits everywhere and
  /// each time. All ranks call it with as many numbers.
  ///
  /// Throws where a rank cannot be reached any more.
  func sum(_ values: inout [Float]) throws
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
