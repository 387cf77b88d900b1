import LangevinTensor

/// What one sample of a run is made of.
public struct SampleChoice: Sendable, Hashable {
  /// The picture's place in the data.
  public var index: Int
  /// The caption's place among the picture's; nil where it was dropped, and where the picture has none.
  public var caption: Int?
  /// Whether left and right are exchanged.
  public var isMirrored: Bool
  /// Where the crop lies, across and down, as a share in 0..<1 of the room that it has.
  public var crop: SIMD2<Double>
}

/// Which picture, caption and crop each sample of a run gets: a function of the run's seed and the sample's
/// number, so that no batch size, rank or interruption changes it.
///
/// Pictures of equal weights come in epochs, each picture once an epoch in an order of the epoch's own. Other
/// weights are probabilities, drawn anew for each sample.
public struct SampleOrder: Sendable {
  private let seed: UInt64
  private let permutation: KeyedPermutation
  /// Of the pictures; nil for equal weights.
  private let weights: Weighting?
  /// Of each picture's captions.
  private let captions: [Weighting?]
  private let counts: [Int]
  private let dropping: Double
  private let isMirroring: Bool

  /// - Parameters:
  ///   - data: at least one picture.
  ///   - seed: of the run.
  ///   - dropping: the probability that a sample has no caption, by which a model learns to be guided without
  ///     a classifier (arXiv:2207.12598).
  ///   - isMirroring: whether half of the samples, by lot, are mirrored.
  ///
  /// Throws `DataError.invalidOption` for a probability outside 0...1.
  public init(_ data: any TrainingData, seed: UInt64, dropping: Double = 0, isMirroring: Bool = false) throws
  {
    guard (0...1).contains(dropping) else {
      throw DataError.invalidOption("the share of captions to drop must be 0 to 1, got \(dropping)")
    }
    self.seed = seed
    self.dropping = dropping
    self.isMirroring = isMirroring
    let pictures = data.pictures
    permutation = KeyedPermutation(count: UInt64(pictures.count))
    weights = Weighting(pictures.map(\.weight))
    captions = pictures.map { Weighting($0.captions.map(\.weight)) }
    counts = pictures.map(\.captions.count)
  }

  /// The choice for a sample of the run, counted from 0.
  public func choice(_ sample: UInt64) -> SampleChoice {
    let (which, dropped, place) = (words(sample, 0), words(sample, 1), words(sample, 2))
    let index = weights?.place(uniform(which.x, which.y)) ?? inEpoch(sample)
    let isDropped = uniform(dropped.x, dropped.y) < dropping
    return SampleChoice(
      index: index, caption: isDropped ? nil : caption(of: index, uniform(which.z, which.w)),
      isMirrored: isMirroring && dropped.z & 1 == 1,
      crop: SIMD2(uniform(place.x, place.y), uniform(place.z, place.w)))
  }

  private func inEpoch(_ sample: UInt64) -> Int {
    let (epoch, place) = sample.quotientAndRemainder(dividingBy: permutation.count)
    let index = permutation(place) { round, digit in
      // Apart from the samples' own words by the last of the counter.
      let (low, high) = (UInt32(truncatingIfNeeded: epoch), UInt32(truncatingIfNeeded: epoch >> 32))
      let words = philox(digit, low, high, 16 + round)
      return UInt64(words.x) << 32 | UInt64(words.y)
    }
    return Int(index)
  }

  private func caption(of index: Int, _ uniform: Double) -> Int? {
    guard counts[index] > 0 else { return nil }
    return captions[index]?.place(uniform) ?? min(Int(uniform * Double(counts[index])), counts[index] - 1)
  }

  // MARK: Random numbers

  private func words(_ sample: UInt64, _ purpose: UInt32) -> SIMD4<UInt32> {
    philox(UInt32(truncatingIfNeeded: sample), UInt32(truncatingIfNeeded: sample >> 32), 0, purpose)
  }

  /// Words of the run's seed. The last of the counter, which is 0 for the samplers' noise, keeps them apart
  /// from it.
  private func philox(_ a: UInt32, _ b: UInt32, _ c: UInt32, _ purpose: UInt32) -> SIMD4<UInt32> {
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    return NoiseFunction.philox(counter: SIMD4(a, b, c, 0x6461_7400 + purpose), key: key)
  }

  /// In 0..<1, with the 53 bits that a Double holds.
  private func uniform(_ high: UInt32, _ low: UInt32) -> Double {
    Double((UInt64(high) << 32 | UInt64(low)) >> 11) * 0x1p-53
  }
}

/// Draws in proportion to weights.
struct Weighting: Sendable {
  /// The sum of the weights up to and with each.
  private let sums: [Double]

  /// Nil where all weights are equal.
  init?(_ weights: [Double]) {
    guard let first = weights.first, weights.contains(where: { $0 != first }) else { return nil }
    var sum = 0.0
    sums = weights.map { weight in
      sum += weight
      return sum
    }
  }

  /// The place that a number in 0..<1 falls on.
  func place(_ uniform: Double) -> Int {
    let target = uniform * sums[sums.count - 1]
    var (low, high) = (0, sums.count - 1)
    while low < high {
      let middle = (low + high) / 2
      if sums[middle] > target { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

/// Permutations of 0..<count, computed place by place, so that none is stored.
///
/// A Feistel network over two digits of bases a and b, a b >= count, repeated while the result lies outside
/// (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, sections 4 and 5).
struct KeyedPermutation: Sendable {
  let count: UInt64
  private let bases: (UInt64, UInt64)
  /// An even number. With 12, the 120 permutations of five are about equally likely; with 8 they are not.
  private static let rounds: UInt32 = 12

  init(count: UInt64) {
    self.count = max(count, 1)
    var base = UInt64(Double(self.count).squareRoot())
    while base * base < self.count { base += 1 }
    bases = (base, (self.count + base - 1) / base)
  }

  /// Where a place goes. `random` is the key: a random number for each round and digit.
  func callAsFunction(_ place: UInt64, _ random: (_ round: UInt32, _ digit: UInt32) -> UInt64) -> UInt64 {
    var result = place
    repeat {
      var (low, high) = (result % bases.0, result / bases.0)
      for round in 0..<Self.rounds {
        let base = round % 2 == 0 ? bases.0 : bases.1
        let sum = (low + random(round, UInt32(truncatingIfNeeded: high)) % base) % base
        (low, high) = (high, sum)
      }
      result = low + high * bases.0
    } while result >= count
    return result
  }
}
