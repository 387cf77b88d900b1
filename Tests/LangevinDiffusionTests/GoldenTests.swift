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
  }

  /// Float32 latents in both, rounded in another order: 2e-6, but for zero terminal SNR, where diffusers' Euler
  /// keeps x0 + 4096 noise in float32 and is itself 1.2e-5 from the same loop in float64.
  static let tolerance: Float = 2e-5

  @Test func trajectoriesAgreeWithDiffusers() throws {
    let golden: Trajectories = try fixture("trajectories.json")
    #expect(golden.rows.count > 250)
    #expect(Set(golden.rows.map(\.sampler)) == Set(Sampler.allCases.map(\.rawValue)))
    let shape: Shape = [golden.shape[0], golden.shape[2], golden.shape[3], golden.shape[1]]
    for row in golden.rows {
      let sampler = try #require(Sampler(rawValue: row.sampler))
      let config = try NoiseSchedule(json: Data(row.config.utf8))
      var schedule = try sampler.schedule(config, steps: row.steps)
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
      if times.allSatisfy({ $0 == $0.rounded() }) || row.config.contains("karras") == false {
        #expect(times == row.timesteps, "\(row.name)")
      } else {
        // Karras timesteps that are not rounded come from logarithms, whose last bits are the library's: float32
        // near 1000 has steps of 6e-5.
        #expect(largestDifference(times, row.timesteps) < 1.3e-4, "\(row.name)")
      }
      let final = try sampler.sample(
        NetworkDenoiser(config.prediction, goldenNetwork), from: start, along: schedule, config: config,
        eta: row.eta, noise: &noise)
      let expected = try channelsLast(row.final, golden.shape).floats()
      let error = relativeError(try final.floats(), expected)
      #expect(error < Self.tolerance, "\(row.name): \(error)")
    }
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
