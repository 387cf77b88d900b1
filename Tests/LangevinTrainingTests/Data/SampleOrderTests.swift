import Testing

@testable import Langevin

@Suite struct SampleOrderTests {
  /// How far counts lie from equal ones, or from these shares, in standard deviations of chi-square.
  private func deviation(_ counts: [Int], _ shares: [Double]? = nil) -> Double {
    let total = Double(counts.reduce(0, +))
    let expected = shares ?? counts.map { _ in 1 / Double(counts.count) }
    let chi = zip(counts, expected).reduce(0.0) { sum, pair in
      let mean = total * pair.1
      return sum + (Double(pair.0) - mean) * (Double(pair.0) - mean) / mean
    }
    let freedom = Double(counts.count - 1)
    return (chi - freedom) / (2 * freedom).squareRoot()
  }

  private func indices(_ order: SampleOrder, _ samples: Range<UInt64>) -> [Int] {
    samples.map { order.choice($0).index }
  }

  @Test(arguments: [1, 2, 3, 4, 5, 7, 16, 17, 335, 1000])
  func anEpochShowsEachPictureOnce(_ count: Int) throws {
    for seed: UInt64 in [0, 1, .max] {
      let order = try SampleOrder(SolidData(count: count), seed: seed)
      for epoch: UInt64 in [0, 1, 5, 1 << 33] {
        let start = epoch * UInt64(count)
        #expect(indices(order, start..<start + UInt64(count)).sorted() == Array(0..<count))
      }
    }
  }

  @Test func epochsAndSeedsHaveOrdersOfTheirOwn() throws {
    let order = try SampleOrder(SolidData(count: 50), seed: 7)
    let other = try SampleOrder(SolidData(count: 50), seed: 8)
    let orders = [indices(order, 0..<50), indices(order, 50..<100), indices(other, 0..<50)]
    #expect(Set(orders).count == 3)
    #expect(indices(try SampleOrder(SolidData(count: 50), seed: 7), 0..<50) == orders[0])
  }

  /// Of few pictures every order can be counted.
  @Test(arguments: [3, 4, 5]) func allOrdersAreEquallyLikely(_ count: Int) throws {
    var seen: [[Int]: Int] = [:]
    let data = SolidData(count: count)
    for seed in 0..<2000 as Range<UInt64> {
      let order = try SampleOrder(data, seed: seed)
      for epoch in 0..<3 as Range<UInt64> {
        seen[indices(order, epoch * UInt64(count)..<(epoch + 1) * UInt64(count)), default: 0] += 1
      }
    }
    let all = (1...count).reduce(1, *)
    #expect(seen.count == all)
    #expect(abs(deviation(Array(seen.values))) < 4)
  }

  /// Which picture stands first, and which follows which, is even over many seeds.
  @Test func placesAndNeighboursAreEven() throws {
    let count = 11
    let data = SolidData(count: count)
    var places = [Int](repeating: 0, count: count * count)
    var pairs: [Int: Int] = [:]
    for seed in 0..<1500 as Range<UInt64> {
      let order = indices(try SampleOrder(data, seed: seed), 0..<UInt64(count))
      for (place, index) in order.enumerated() { places[place * count + index] += 1 }
      for (a, b) in zip(order, order.dropFirst()) { pairs[a * count + b, default: 0] += 1 }
    }
    #expect(pairs.count == count * (count - 1))
    #expect(abs(deviation(places)) < 4 && abs(deviation(Array(pairs.values))) < 4)
  }

  @Test func weightsAreProbabilities() throws {
    let weights = [1, 2, 0.5, 4, 2.5]
    let data = SolidData(count: 5, weight: { weights[$0] })
    for seed in 0..<5 as Range<UInt64> {
      let order = try SampleOrder(data, seed: seed)
      var counts = [Int](repeating: 0, count: 5)
      for index in indices(order, 0..<4000) { counts[index] += 1 }
      #expect(abs(deviation(counts, weights.map { $0 / 10 })) < 4)
    }
    // Equal ones are no weights, whatever they are.
    let equal = try SampleOrder(SolidData(count: 5, weight: { _ in 3 }), seed: 1)
    #expect(indices(equal, 0..<5).sorted() == [0, 1, 2, 3, 4])
  }

  @Test func captionsAreChosenByTheirWeights() throws {
    var data = SolidData(count: 3)
    data.pictures[0].captions = [Caption("a", weight: 6), Caption("b", weight: 3), Caption("c")]
    data.pictures[1].captions = ["a", "b", "c", "d"].map { Caption($0) }
    data.pictures[2].captions = []
    let order = try SampleOrder(data, seed: 3)
    var counts = [[0, 0, 0], [0, 0, 0, 0]]
    for sample in 0..<9000 as Range<UInt64> {
      let choice = order.choice(sample)
      if let caption = choice.caption {
        counts[choice.index][caption] += 1
      } else {
        #expect(choice.index == 2)
      }
    }
    #expect(counts.map { $0.reduce(0, +) } == [3000, 3000])
    #expect(abs(deviation(counts[0], [0.6, 0.3, 0.1])) < 4 && abs(deviation(counts[1])) < 4)
  }

  @Test func captionsAreDroppedAsOftenAsAsked() throws {
    let data = SolidData(count: 40, captions: 2)
    let samples = 0..<4000 as Range<UInt64>
    let whole = try SampleOrder(data, seed: 5)
    let dropping = try SampleOrder(data, seed: 5, dropping: 0.1, isMirroring: true)
    var dropped = 0
    for sample in samples {
      let (a, b) = (whole.choice(sample), dropping.choice(sample))
      // An option changes nothing but what it is for.
      #expect(a.index == b.index && a.crop == b.crop && (b.caption == nil || a.caption == b.caption))
      if b.caption == nil { dropped += 1 }
    }
    #expect(abs(deviation([dropped, 4000 - dropped], [0.1, 0.9])) < 4)
    let all = try SampleOrder(data, seed: 5, dropping: 1)
    #expect(samples.allSatisfy { all.choice($0).caption == nil })
    #expect(samples.allSatisfy { whole.choice($0).caption != nil })
    for share in [-0.1, 1.1, .nan] {
      #expect(throws: DataError.self) { try SampleOrder(data, seed: 5, dropping: share) }
    }
  }

  @Test func mirrorsAndCropsAreEven() throws {
    let order = try SampleOrder(SolidData(count: 10), seed: 2, isMirroring: true)
    let plain = try SampleOrder(SolidData(count: 10), seed: 2)
    var mirrored = 0
    var cells = [Int](repeating: 0, count: 64)
    for sample in 0..<8000 as Range<UInt64> {
      let choice = order.choice(sample)
      if choice.isMirrored { mirrored += 1 }
      #expect(!plain.choice(sample).isMirrored)
      #expect((0..<1).contains(choice.crop.x) && (0..<1).contains(choice.crop.y))
      cells[Int(choice.crop.x * 8) * 8 + Int(choice.crop.y * 8)] += 1
    }
    #expect(abs(deviation([mirrored, 8000 - mirrored])) < 4 && abs(deviation(cells)) < 4)
  }
}
