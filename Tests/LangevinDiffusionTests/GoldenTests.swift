import Foundation
import LangevinDiffusion
import LangevinTensor
import Testing

/// Whole trajectories against diffusers' schedulers, the noise included.
@Suite struct GoldenTests {
  struct Trajectories: Decodable {
    var shape: [Int]
    var seeds: [UInt64]
    var rows: [Case]
  }

  struct Case: Decodable {
    var name: String
    var sampler: String
    var steps: Int
    var eta: Double
    var strength: Double?
    var config: String
    var timesteps: [Float]
    var final: [Float]
    /// The user's choice of levels, as `NoiseSchedule.Levels`.
    var spacing: String?
    /// `timesteps` is what the network was told; these are what was asked for.
    var learned: Bool?
    var sigmas: [Double]?

    var levels: NoiseSchedule.Levels? {
      if let sigmas { return .theseSigmas(sigmas) }
      if name.contains("timesteps=[") { return .theseTimesteps(timesteps.map { Int($0) }) }
      return spacing.flatMap { NoiseSchedule.Levels(spacing: $0) }
    }
  }

  /// Float32 latents in both, rounded in another order: 2e-6, but for zero terminal SNR, where diffusers' Euler
  /// keeps x0 + 4096 noise in float32 and is itself 1.2e-5 from the same loop in float64. The solvers that came later
  /// compute coefficients in float32 in diffusers (LMS's by quadrature, UniPC's by a linear system), here in double
  /// precision: 3e-6, and up to 2.2e-5 where LMS or a flow's Heun begin with little signal. unCLIP's rows are worse
  /// conditioned: its first beta is 1 - 4e-8, which diffusers' float32 rounds to 1 - 6e-8.
  static func tolerance(_ file: String, _ row: Case) -> Float {
    if file == "trajectories.json" { return 2e-5 }
    return row.sampler == "unclip" ? 2e-4 : 3e-5
  }

  static let least = [
    "trajectories.json": 250, "solvers.json": 100, "flows.json": 50, "unclip.json": 15, "choices.json": 50,
    "consistency.json": 36,
  ]

  @Test(arguments: least.keys.sorted())
  func trajectoriesAgreeWithDiffusers(_ file: String) throws {
    let golden: Trajectories = try fixture(file)
    #expect(golden.rows.count >= Self.least[file] ?? .max)
    var worst: [String: Float] = [:]
    for row in golden.rows {
      let error = try deviation(of: row, golden)
      #expect(error < Self.tolerance(file, row), "\(row.name): \(error)")
      worst[row.sampler] = max(worst[row.sampler] ?? 0, error)
    }
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil {
      for (sampler, error) in worst.sorted(by: { $0.key < $1.key }) { print("\(file) \(sampler) \(error)") }
    }
  }

  @Test func everySamplerHasATrajectory() throws {
    let rows = try Self.least.keys.flatMap { try fixture($0, as: Trajectories.self).rows }
    #expect(Set(rows.map(\.sampler)) == Set(SamplerRegistry.all.map(\.name)))
  }

  /// The relative error of one row's latent.
  private func deviation(of row: Case, _ golden: Trajectories) throws -> Float {
    let shape: Shape = [golden.shape[0], golden.shape[2], golden.shape[3], golden.shape[1]]
    let file = try SchedulerFile(json: Data(row.config.utf8))
    let sampler = try #require(SamplerChoice(named: row.sampler)).make(file, eta: row.eta)
    var schedule = try sampler.schedule(file.noise, steps: row.steps, choosing: row.levels)
    var noise = NoiseSource(.torch, seeds: golden.seeds, on: cpu)
    let start: Tensor
    if let strength = row.strength {
      schedule = try schedule.starting(at: strength)
      let ramp = (0..<48).map { Float(-1 + 2 * Double($0) / 47) }
      let posterior = try noise.normal(shape, for: .posterior)
      let clean = try Tensor.combination([(1, channelsLast(ramp, golden.shape)), (0.1, posterior)])
      start = try schedule.addingNoise(noise.normal(shape, for: .initial), to: clean)
    } else {
      start = try schedule.initial(noise: noise.normal(shape, for: .initial))
    }
    let times = schedule.steps.map(\.from.timestep)
    if times.allSatisfy({ $0 == $0.rounded() }) {
      #expect(times == row.timesteps, "\(row.name)")
    } else {
      // Timesteps that are not rounded come from logarithms, whose last bits are the library's: float32 near 1000
      // has steps of 6e-5.
      #expect(largestDifference(times, row.timesteps) < 1.3e-4, "\(row.name)")
    }
    let isLearned = row.learned == true
    let network: Network = { x, t in try isLearned ? learnedNetwork(x, t) : goldenNetwork(x, t) }
    let final = try sampler.sample(
      NetworkDenoiser(file.noise.prediction, network), from: start, along: schedule, noise: &noise)
    return relativeError(try final.floats(), try channelsLast(row.final, golden.shape).floats())
  }

  @Test func guidanceAgreesWithDiffusers() throws {
    struct Guidance: Decodable {
      var shape: [Int]
      var scale: Double
      var rescale: Double
      var negative: [Float]
      var positive: [Float]
      var guided: [Float]
      var rescaled: [Float]
    }
    let golden: Guidance = try fixture("guidance.json")
    let negative = try channelsLast(golden.negative, golden.shape)
    let positive = try channelsLast(golden.positive, golden.shape)
    var rowsSeen: [Int] = []
    let network: Network = { x, _ in
      rowsSeen.append(x.shape[0])
      return try Tensor.concatenated([negative, positive], axis: 0)
    }
    for (rescale, expected) in [(0, golden.guided), (golden.rescale, golden.rescaled)] {
      let guided = ClassifierFreeGuidance(scale: golden.scale, rescale: rescale, network)
      let output = try guided(positive, 500).floats()
      #expect(relativeError(output, try channelsLast(expected, golden.shape).floats()) < 1e-6)
    }
    #expect(rowsSeen == [4, 4])
  }

  @Test func noGuidanceAtScaleOne() throws {
    let x = try Tensor([1, 2, 3, 4] as [Float], [2, 2], on: cpu)
    var rowsSeen: [Int] = []
    for scale in [0, 0.5, 1, 1.5] {
      let guided = ClassifierFreeGuidance(scale: scale) { x, _ in
        rowsSeen.append(x.shape[0])
        return x
      }
      #expect(try guided(x, 0).floats() == [1, 2, 3, 4])
    }
    #expect(rowsSeen == [2, 2, 2, 4])
    #expect(throws: DiffusionError.guidanceBatch(expected: 4, got: 2)) {
      _ = try ClassifierFreeGuidance(scale: 2) { _, _ in x }(x, 0)
    }
  }
}
