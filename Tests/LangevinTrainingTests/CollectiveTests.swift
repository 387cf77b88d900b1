import Foundation
import LangevinTensor
import LangevinTraining
import Synchronization
import Testing

@Suite struct CollectiveTests {
  private struct Fault: Error, CustomStringConvertible { let description: String }

  /// Of many magnitudes, so that the order of addition shows.
  private func values(of rank: Int, seed: UInt32, count: Int) -> [Float] {
    (0..<(count + 3) / 4).flatMap { block in
      let noise = NoiseFunction.normals(
        block: UInt32(block), seed: UInt64(seed), stream: UInt32(rank), step: 0)
      return (0..<4).map { noise[$0] * (block % 3 == 0 ? 1e6 : 1) }
    }.prefix(count).map { $0 }
  }

  @Test func aloneTheSumIsTheRanksOwn() throws {
    var values: [Float] = [1, -2, .pi]
    Alone().sum(&values)
    #expect(values == [1, -2, .pi])
    #expect(try Alone().gathered(.max) == [.max])
    #expect(try Alone().any(true))
    #expect(try !Alone().any(false))
  }

  @Test(arguments: [1, 2, 3, 4, 5], [1, 3, 4096, 20_011])
  func everyThreadHasTheSumInTheOrderOfTheRanks(ranks: Int, count: Int) throws {
    for seed in UInt32(1)...3 {
      let sums = try ThreadCollective.run(ranks) { rank in
        var sum = values(of: rank.rank, seed: seed, count: count)
        try rank.sum(&sum)
        // A second one, so that the first's end is met too.
        var second = sum
        try rank.sum(&second)
        #expect(zip(sum, second).allSatisfy { abs($1 - $0 * Float(ranks)) <= abs($1) * 1e-6 })
        return sum
      }
      var expected = values(of: 0, seed: seed, count: count)
      for rank in 1..<max(ranks, 1) {
        for (i, value) in values(of: rank, seed: seed, count: count).enumerated() { expected[i] += value }
      }
      for sum in sums { #expect(sum.map(\.bitPattern) == expected.map(\.bitPattern)) }
    }
  }

  @Test func theOrderOfTheRanksShowsInTheSum() {
    // Else the test above could not fail.
    let parts = (0..<3).map { values(of: $0, seed: 1, count: 1000) }
    let forwards = (0..<1000).map { parts[0][$0] + parts[1][$0] + parts[2][$0] }
    let backwards = (0..<1000).map { parts[2][$0] + parts[1][$0] + parts[0][$0] }
    #expect(forwards != backwards)
  }

  @Test func nothingAndSpecialNumbersAreAddedToo() throws {
    let sums = try ThreadCollective.run(3) { rank in
      var none: [Float] = []
      try rank.sum(&none)
      #expect(none.isEmpty)
      var sum: [Float] = [
        -0.0, rank.rank == 1 ? .nan : 1, .infinity, rank.rank == 2 ? -.infinity : .infinity,
      ]
      try rank.sum(&sum)
      return sum
    }
    for sum in sums {
      #expect(sum[0].bitPattern == Float(-0.0).bitPattern)
      #expect(sum[1].isNaN && sum[2] == .infinity && sum[3].isNaN)
    }
  }

  @Test func flagsAndHashesReachEveryRank() throws {
    let hash: @Sendable (Int) -> UInt64 = { 0xFEDC_BA98_7654_3210 &* UInt64($0 + 1) }
    try _ = ThreadCollective.run(4) { rank in
      #expect(try rank.any(rank.rank == 2))
      #expect(try !rank.any(false))
      #expect(try rank.gathered(hash(rank.rank)) == (0..<4).map(hash))
      try rank.check("settings", hash: 7)
      #expect(throws: CollectiveError.different(what: "data", rank: 3)) {
        try rank.check("data", hash: rank.rank == 3 ? 8 : 7)
      }
    }
  }

  @Test(arguments: [2, 3, 5]) func aThreadThatFailsEndsTheOthers(ranks: Int) throws {
    let told = Mutex<[Int: any Error]>([:])
    let start = ContinuousClock.now
    #expect(throws: CollectiveError.rankFailed(rank: 1, count: ranks, reason: "no memory")) {
      _ = try ThreadCollective.run(ranks) { rank in
        do {
          for round in 0..<10 {
            if round == 4, rank.rank == 1 { throw Fault(description: "no memory") }
            var values: [Float] = [1, 2, 3]
            try rank.sum(&values)
          }
        } catch {
          told.withLock { $0[rank.rank] = error }
          throw error
        }
      }
    }
    #expect(ContinuousClock.now - start < .seconds(5))
    let errors = told.withLock { $0 }
    #expect(errors.count == ranks)
    for (rank, error) in errors where rank != 1 { #expect("\(error)" == "rank 1 of \(ranks): no memory") }
  }

  @Test func aThreadThatEndsBeforeTheOthersIsNamed() throws {
    #expect(
      throws: CollectiveError.rankFailed(rank: 2, count: 3, reason: "it ended before the others")
    ) {
      _ = try ThreadCollective.run(3) { rank in
        for _ in 0..<(rank.rank == 2 ? 1 : 2) { try rank.wait() }
      }
    }
  }

  @Test func whatAllThreadsThrowIsThrownAsItIs() throws {
    #expect {
      _ = try ThreadCollective.run(3) { rank in throw Fault(description: "of \(rank.rank)") }
    } throws: {
      ($0 as? Fault)?.description == "of 0"
    }
  }

  @Test func sumsOfDifferentLengthsAreRefused() throws {
    #expect(throws: CollectiveError.differentSizes([5, 6, 5])) {
      _ = try ThreadCollective.run(3) { rank in
        var values = [Float](repeating: 1, count: rank.rank == 1 ? 6 : 5)
        try rank.sum(&values)
      }
    }
  }
}
