import LangevinDiffusion
import LangevinTensor
import Testing

@Suite struct NoiseTests {
  struct Draws: Decodable {
    struct Row: Decodable {
      var seed: String
      var counts: [Int]
      var every: Int?
      var draws: [[Float]]
    }
    var rows: [Row]
  }

  /// torch's vectorised logarithm and cosine differ from the C library's by units in the last place.
  @Test func torchGeneratorAgreesWithTorch() throws {
    let golden: Draws = try fixture("torch_random.json")
    var seen: Set<Int> = []
    for row in golden.rows {
      var generator = TorchGenerator(seed: try #require(UInt64(row.seed)))
      for (count, expected) in zip(row.counts, row.draws) {
        let all = generator.normals(count)
        #expect(all.count == count)
        let values = stride(from: 0, to: count, by: row.every ?? 1).map { all[$0] }
        let difference = largestDifference(values, expected)
        #expect(difference < 2e-6, "seed \(row.seed), \(count) numbers: \(difference)")
        seen.insert(count)
      }
    }
    #expect(seen.isSuperset(of: [1, 5, 15, 16, 17, 31, 100, 16384]))
  }

  /// The twelve numbers that AUTOMATIC1111's rng_philox.py gives in its documentation for seed 0.
  @Test func torchCUDAGeneratorAgreesWithPublishedNumbers() {
    var generator = TorchCUDAGenerator(seed: 0)
    let published: [Float] = [
      -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709,
      -1.07454231, -0.36314407, -1.67105067, 2.26550497,
    ]
    #expect(largestDifference(generator.normals(12), published) < 2e-6)
    // A second draw is other numbers; a tensor twice as long begins with the same.
    #expect(largestDifference(generator.normals(12), published) > 0.1)
    var again = TorchCUDAGenerator(seed: 0)
    #expect(largestDifference(Array(again.normals(24).prefix(12)), published) < 2e-6)
  }

  /// Both 32-bit halves of the seed count.
  @Test func torchCUDASeedHas64Bits() {
    var low = TorchCUDAGenerator(seed: 5)
    var high = TorchCUDAGenerator(seed: 5 + 1 << 32)
    #expect(low.normals(4) != high.normals(4))
  }

  @Test(arguments: NoiseKind.allCases)
  func imageDoesNotDependOnItsBatch(_ kind: NoiseKind) throws {
    let seeds: [UInt64] = [3, 1 << 40, 3, 77]
    let uses: [NoiseUse] = [.posterior, .initial, .step(0), .step(1), .step(7)]
    var batch = NoiseSource(kind, seeds: seeds, on: cpu)
    let together = try uses.map { try batch.normal([4, 3, 5, 4], for: $0).floats() }
    for (index, seed) in seeds.enumerated() {
      var single = NoiseSource(kind, seeds: [seed], on: cpu)
      for (use, all) in zip(uses, together) {
        let alone = try single.normal([1, 3, 5, 4], for: use).floats()
        #expect(alone == Array(all[index * 60..<index * 60 + 60]), "\(kind) image \(index), \(use)")
      }
    }
    // Different uses and different seeds are different numbers.
    #expect(Set(together).count == uses.count)
    #expect(together.allSatisfy { $0[0..<60] != $0[60..<120] && $0[0..<60] == $0[120..<180] })
  }

  @Test(arguments: NoiseKind.allCases)
  func momentsAreStandardNormal(_ kind: NoiseKind) throws {
    var source = NoiseSource(kind, seeds: [11], on: cpu)
    let values = try source.normal([1, 64, 64, 4], for: .initial).floats().map { Double($0) }
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let squares = values.map { value in (value - mean) * (value - mean) }
    let variance = squares.reduce(0, +) / count
    let fourth = squares.map { $0 * $0 }.reduce(0, +) / count
    // Four standard errors: 1, sqrt(2) and sqrt(96) over the root of 16384.
    let (ofMean, ofVariance, ofFourth) = (4 / 128.0, 4 * 1.4142 / 128, 4 * 9.798 / 128)
    #expect(abs(mean) < ofMean)
    #expect(abs(variance - 1) < ofVariance)
    #expect(abs(fourth - 3) < ofFourth)
  }

  /// The contract of streams and steps; a change of it changes every picture.
  @Test func philoxStreams() throws {
    var source = NoiseSource(.philox, seeds: [9], on: cpu)
    let uses: [(NoiseUse, UInt32, UInt32)] = [
      (.initial, 0, 0), (.step(0), 1, 0), (.step(12), 1, 12), (.posterior, 2, 0),
    ]
    for (use, stream, step) in uses {
      let expected = (0..<6).flatMap { block in
        let four = NoiseFunction.normals(block: UInt32(block), seed: 9, stream: stream, step: step)
        return (0..<4).map { four[$0] }
      }
      #expect(try source.normal([1, 2, 3, 4], for: use).floats() == expected)
    }
  }

  /// torch's tensors are [C, H, W]; ours are [H, W, C].
  @Test func torchNumbersAreTransposed() throws {
    var source = NoiseSource(.torch, seeds: [9], on: cpu)
    var generator = TorchGenerator(seed: 9)
    let ours = try source.normal([1, 2, 3, 4], for: .initial).floats()
    let theirs = generator.normals(24)
    for channel in 0..<4 {
      for place in 0..<6 { #expect(ours[place * 4 + channel] == theirs[channel * 6 + place]) }
    }
  }

  @Test func wrongNumberOfSeedsThrows() {
    var source = NoiseSource(.philox, seeds: [1, 2], on: cpu)
    #expect(throws: DiffusionError.seedCount(images: 3, seeds: 2)) {
      _ = try source.normal([3, 2, 2, 4], for: .initial)
    }
  }
}
