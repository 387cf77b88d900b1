import Foundation
import LangevinDiffusion
import LangevinTensor
import LangevinTraining
import Testing

/// What a run draws at random: that it has the distribution that it should, and depends on nothing but seed and number.
@Suite struct TrainingDrawsTests {
  /// The largest distance between the share of values below x and what the theory says: Kolmogorov and Smirnov's
  /// statistic, of which 1 in 1000 true samples has more than 1.95 / sqrt(n).
  private func expectDistribution(
    _ values: [Double], _ distribution: (Double) -> Double, _ what: String,
    location: SourceLocation = #_sourceLocation
  ) {
    let sorted = values.sorted()
    var worst = 0.0
    for (index, value) in sorted.enumerated() {
      let below = distribution(value)
      worst = max(worst, abs(below - Double(index) / Double(sorted.count)))
      worst = max(worst, abs(below - Double(index + 1) / Double(sorted.count)))
    }
    let limit = 1.95 / Double(values.count).squareRoot()
    #expect(worst < limit, "\(what): \(worst) of \(limit)", sourceLocation: location)
  }

  /// Of neighbours; 0 but for chance, whose deviation is 1 / sqrt(n).
  private func expectIndependentNeighbours(_ values: [Double], _ what: String) {
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    let covariance = zip(values, values.dropFirst()).reduce(0) { $0 + ($1.0 - mean) * ($1.1 - mean) }
    #expect(abs(covariance / variance) < 4 / Double(values.count).squareRoot(), "\(what)")
  }

  private func normal(_ x: Double) -> Double { 0.5 * erfc(-x / 2.0.squareRoot()) }

  private let seeds: [UInt64] = [0, 1, 2, 99, 1 << 32, .max]

  // MARK: Timesteps

  @Test func uniformPlacesAreUniform() {
    var first: Set<Double> = []
    for seed in seeds {
      let places = (0..<20_000).map {
        TimestepSampling.uniform.place(ofSample: $0, seed: seed, batch: 16)
      }
      expectDistribution(places, { $0 }, "seed \(seed)")
      expectIndependentNeighbours(places, "seed \(seed)")
      first.insert(places[0])
    }
    #expect(first.count == seeds.count)
  }

  @Test(arguments: [1, 3, 16, 100]) func eachStratumHasOneSampleOfEachBatch(batch: Int) {
    for seed in seeds {
      var within: [Double] = []
      for step in 0..<(12_000 / batch) {
        let places = (0..<batch).map {
          TimestepSampling.stratified.place(ofSample: UInt64(step * batch + $0), seed: seed, batch: batch)
        }
        #expect(Set(places.map { Int($0 * Double(batch)) }) == Set(0..<batch))
        within += places.map { ($0 * Double(batch)).truncatingRemainder(dividingBy: 1) }
      }
      // Within a stratum, and so over the run, all places are alike.
      expectDistribution(within, { $0 }, "seed \(seed)")
    }
  }

  @Test(arguments: [(0.0, 1.0), (-1.2, 0.5), (2, 3)]) func logitsOfPlacesAreNormal(
    mean: Double, deviation: Double
  ) {
    let sampling = TimestepSampling.logitNormal(mean: mean, deviation: deviation)
    for seed in seeds {
      let places = (0..<20_000).map { sampling.place(ofSample: $0, seed: seed, batch: 16) }
      #expect(places.allSatisfy { (0..<1).contains($0) })
      expectDistribution(
        places, { normal((log($0 / (1 - $0)) - mean) / deviation) }, "seed \(seed)")
      expectIndependentNeighbours(places, "seed \(seed)")
    }
  }

  @Test func extremeLogitsStayPlaces() {
    for sampling: TimestepSampling in [
      .logitNormal(mean: 500, deviation: 1), .logitNormal(mean: -800, deviation: 1),
      .logitNormal(mean: 0, deviation: 1e6),
    ] {
      for sample in 0..<100 {
        let place = sampling.place(ofSample: UInt64(sample), seed: 1, batch: 4)
        #expect((0..<1).contains(place), "\(sampling): \(place)")
      }
    }
  }

  // MARK: Noise

  @Test(arguments: devices) func noiseIsASamplesOwnHoweverABatchIsDivided(device: Device) throws {
    for draw in [TrainingNoise.noise, TrainingNoise.posterior] {
      let whole = try draw(1000..<1006, [3, 5, 2], 7, device).floats()
      let parts = try [1000..<1001, 1001..<1004, 1004..<1006].flatMap {
        try draw($0, [3, 5, 2], 7, device).floats()
      }
      #expect(whole == parts && Set(whole).count == whole.count)
      // Samples beyond 32 bits and other seeds have noise of their own.
      let (first, far) = (Array(whole[..<30]), UInt64(1000 + 1 << 32))
      #expect(try draw(far..<far + 1, [3, 5, 2], 7, device).floats() != first)
      #expect(try draw(1000..<1001, [3, 5, 2], 8, device).floats() != first)
    }
    let noise = try TrainingNoise.noise(0..<100, [20, 20], seed: 3, on: device).floats().map(Double.init)
    expectDistribution(noise, normal, "noise on \(device.name)")
    expectIndependentNeighbours(noise, "noise on \(device.name)")
    // A sample's noise has nothing to do with the next one's.
    let products = zip(noise, noise.dropFirst(400)).map { $0 * $1 }
    let mean = products.reduce(0, +) / Double(products.count)
    #expect(abs(mean) < 4 / Double(products.count).squareRoot())
    let other = try TrainingNoise.posterior(0..<100, [20, 20], seed: 3, on: device).floats()
    #expect(zip(noise, other).allSatisfy { Float($0) != $1 })
  }

  // MARK: Initial weights

  /// A layer's weight and bias as a model asks for them.
  private func initial(_ weights: InitialWeights, _ shapes: [(String, Shape)], on device: Device) throws
    -> [[Double]]
  {
    for (name, shape) in shapes { _ = weights.spec(of: name, expecting: shape) }
    return try shapes.map { try weights.load($0.0, on: device).floats().map(Double.init) }
  }

  @Test(arguments: devices) func layersStartAsPyTorchs(device: Device) throws {
    let values = try initial(
      InitialWeights(seed: 5),
      [
        ("a.weight", [200, 64]), ("a.bias", [4000]), ("b.weight", [90, 16, 3, 3]), ("b.bias", [3000]),
        ("norm.weight", [40]), ("norm.bias", [40]), ("token_embedding.weight", [300, 50]),
      ], on: device)
    for (index, fanIn) in [(0, 64.0), (1, 64), (2, 144), (3, 144)] {
      let bound = 1 / fanIn.squareRoot()
      #expect(values[index].allSatisfy { abs($0) <= bound })
      expectDistribution(values[index], { ($0 / bound + 1) / 2 }, "tensor \(index) on \(device.name)")
      expectIndependentNeighbours(values[index], "tensor \(index)")
    }
    #expect(values[4].allSatisfy { $0 == 1 } && values[5].allSatisfy { $0 == 0 })
    expectDistribution(values[6], { normal($0 / 0.02) }, "embeddings on \(device.name)")
  }

  @Test func initialWeightsAreOfTheirSeedAndName() throws {
    let shapes: [(String, Shape)] = [
      ("a.weight", [8, 8]), ("b.weight", [8, 8]), ("token_embedding.weight", [8, 8]),
    ]
    let first = try initial(InitialWeights(seed: 5), shapes, on: devices[0])
    #expect(Set(first).count == 3)
    for device in devices {
      let again = try initial(InitialWeights(seed: 5), shapes.reversed(), on: device)
      #expect(again[1...2] == [first[1], first[0]], "on \(device.name)")
      for (value, expected) in zip(again[0], first[2]) { #expect(abs(value - expected) <= 1e-7) }
    }
    #expect(try initial(InitialWeights(seed: 6), shapes, on: devices[0]).allSatisfy { !first.contains($0) })
  }
}
