import ArgumentParser
import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import LangevinTraining

/// `mpirun -n 2 langevin ranks`: whether the processes of a training run find each other, and what a sum costs them.
struct RanksCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ranks", abstract: "Adds numbers over the ranks of a training run, checks and times it.",
    shouldDisplay: false)

  @Option(help: "How many numbers each rank has: as many as a model's parameters.")
  var numbers = 15_000_000
  @Option(help: "How many sums.")
  var rounds = 5
  @Option(help: "Where the numbers come from.")
  var seed: UInt32 = 1
  @Option(help: "Ranks on threads of one process instead of an MPI launcher's processes.")
  var threads = 1
  @Option(help: "Seconds between the sums.")
  var pause = 0.0
  @Option(help: "This rank fails in the second round.")
  var failingRank: Int?
  @Option(help: "This rank ends before the second round.")
  var earlyRank: Int?
  @Option(help: "This rank has one number more.")
  var longerRank: Int?

  func validate() throws {
    guard numbers > 0, rounds > 0, threads > 0, pause >= 0 else {
      throw ValidationError("numbers, rounds and threads are at least 1, and a pause is not negative")
    }
  }

  func run() throws {
    Interrupt.install()
    let command = self
    try Ranks.run(devices: Array(repeating: .cpu, count: threads)) { ranks, _ in try command.add(ranks) }
  }

  private func add(_ ranks: any Collective) throws {
    let cores = Cores.allowed.map(String.init).joined(separator: ",")
    let name = "rank \(ranks.rank) of \(ranks.count)"
    Output.result("\(name): process \(ProcessInfo.processInfo.processIdentifier), cores \(cores)")
    let size = numbers + (ranks.rank == longerRank ? 1 : 0)
    let own = values(of: ranks.rank, size)
    var (sum, times): ([Float], [Double]) = ([], [])
    for round in 1...rounds {
      if try ranks.any(Interrupt.isRequested) {
        Output.result("\(name): stopped before round \(round)")
        try ranks.wait()
        throw Interrupted(reason: "\(round - 1) rounds are done")
      }
      if round == 2, ranks.rank == failingRank { throw RanksFault.asked }
      if round == 2, ranks.rank == earlyRank { return }
      sum = own
      let start = ContinuousClock.now
      try ranks.sum(&sum)
      times.append((ContinuousClock.now - start) / .milliseconds(1))
      Thread.sleep(forTimeInterval: pause)
    }
    var expected = values(of: 0, size)
    for rank in 1..<max(1, ranks.count) {
      for (i, value) in values(of: rank, size).enumerated() { expected[i] += value }
    }
    guard sum.map(\.bitPattern) == expected.map(\.bitPattern) else { throw RanksFault.wrongSum }
    let hash = FNV.hash(sum.flatMap { value in withUnsafeBytes(of: value) { Array($0) } })
    Output.result("\(name): right, hash \(String(hash, radix: 16))")
    try ranks.wait()
    if ranks.isFirst {
      let median = times.sorted()[times.count / 2]
      Output.result("\(numbers) numbers: \(median.formatted(.number.precision(.fractionLength(1)))) ms a sum")
    }
  }

  /// A rank's numbers, of many magnitudes: their sum depends on its order.
  private func values(of rank: Int, _ count: Int) -> [Float] {
    var state = UInt32(truncatingIfNeeded: rank) &* 0x9E37_79B9 &+ seed
    return (0..<count).map { _ in
      state = state &* 1_664_525 &+ 1_013_904_223
      // The upper bits are the random ones; an exponent of 112 to 143.
      return Float(
        bitPattern: state & 0x8000_0000 | (112 + (state >> 26) & 31) << 23 | (state >> 3) & 0x7F_FFFF)
    }
  }
}

/// What can be wrong with a sum over ranks.
private enum RanksFault: Error, CustomStringConvertible {
  case asked
  case wrongSum

  var description: String {
    switch self {
    case .asked: "told to fail"
    case .wrongSum: "the sum over the ranks is not the sum in their order"
    }
  }
}
