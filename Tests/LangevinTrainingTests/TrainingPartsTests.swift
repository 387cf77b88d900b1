import Foundation
import LangevinCPU
import LangevinDiffusion
import LangevinTensor
import LangevinTestSupport
import LangevinTraining
import Testing

@testable import Langevin

/// What make_training_parts.py wrote: the parts of a step as PyTorch, diffusers and transformers have them.
private struct GoldenParts: Decodable {
  struct Rates: Decodable, CustomTestStringConvertible {
    let shape: LearningRate.Shape
    let warmUp: Int
    let total: Int
    let cooldown: Double
    let rates: [Double]
    var testDescription: String { "\(shape) of \(total), \(warmUp) up" }
  }

  struct Averages: Decodable {
    let decay: Double
    let decays: [Double]
    let averages: [Double]
  }

  struct Chain: Decodable {
    let name: String
    let timesteps: [Int]
    let clean: [Float]
    let noise: [Float]
    let noisy: [Float]
    let velocity: [Float]
    let weights: [String: [String: [Double]]]
  }

  struct Flow: Decodable {
    let places: [Double]
    let timesteps: [Float]
    let clean: [Float]
    let noise: [Float]
    let noisy: [Float]
    let target: [Float]
  }

  let rates: [Rates]
  let averages: [Averages]
  let chains: [Chain]
  let flows: [Flow]

  static let file = Fixtures.url.appending(path: "training/parts.json")

  static func read() throws -> GoldenParts {
    try JSONDecoder().decode(GoldenParts.self, from: Data(contentsOf: file))
  }

  /// The scheduler_config.json of one of `chains` or `flows`.
  static func schedule(_ list: String, _ index: Int) throws -> NoiseSchedule {
    let all = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
    let entry = try #require((all?[list] as? [[String: Any]])?[index]["config"])
    return try NoiseSchedule(json: JSONSerialization.data(withJSONObject: entry))
  }
}

@Suite struct TrainingPartsTests {
  private let golden: GoldenParts

  init() throws { golden = try GoldenParts.read() }

  // MARK: Rates and averages

  /// LambdaLR's first step has rate 0 where there is a warm-up. Ours has the second of its rates, and so on to the top;
  /// from there on step n has LambdaLR's rate n.
  @Test func ratesAreThoseOfLambdaLROnceItsEmptyStepIsLeftOut() throws {
    for golden in golden.rates {
      let rate = LearningRate(
        base: 2e-3, warmUp: golden.warmUp, total: golden.total, shape: golden.shape,
        cooldown: golden.cooldown)
      for step in 0..<golden.total {
        let expected = 2e-3 * golden.rates[step < golden.warmUp ? step + 1 : step]
        #expect(abs(Double(rate(step)) - expected) < 2e-10, "\(golden.testDescription), step \(step)")
        #expect(rate(step) > 0)
      }
    }
  }

  @Test(arguments: LearningRate.Shape.allCases) func ratesBehindTheEndAreNeitherNegativeNorAboveTheBase(
    shape: LearningRate.Shape
  ) {
    for warmUp in [0, 7, 100] {
      let rate = LearningRate(base: 1, warmUp: warmUp, total: 20, shape: shape)
      for step in 0..<200 { #expect((0...1).contains(rate(step)) && rate(step).isFinite) }
      #expect(shape == .constant || warmUp > 7 || rate(20) == 0)
    }
  }

  /// One weight whose values are whatever AdamW makes of them; their average is held against diffusers' decays.
  @Test func averagesForgetTheirStartAsDiffusersDo() throws {
    for golden in golden.averages {
      let device = Device(CPUBackend())
      var settings = TrainerSettings(batch: 1, rate: LearningRate(base: 0.1, total: 40))
      settings.averaging = Float(golden.decay)
      var trainer = try Trainer(Parabola(on: device), settings, on: device)
      var expected = Double(try trainer.parameters.entries[0].average.floats()[0])
      for (step, decay) in golden.decays.enumerated() {
        try trainer.step()
        let entry = trainer.parameters.entries[0]
        expected = decay * expected + (1 - decay) * Double(try entry.value.floats()[0])
        let error = abs(Double(try entry.average.floats()[0]) - expected)
        #expect(error < 1e-5, "decay \(golden.decay), step \(step)")
      }
      // diffusers' own averages of 1, 4, 9, ... are the same recursion.
      var average = 0.0
      for (step, decay) in golden.decays.enumerated() {
        average = decay * average + (1 - decay) * Double((step + 1) * (step + 1))
        // EMAModel keeps its sum of float64 in steps of its own.
        #expect(abs(average - golden.averages[step]) <= 1e-9 * average)
      }
    }
  }

  // MARK: Weights and targets

  @Test func weightsByNoiseAreThoseOfComputeSNR() throws {
    for (index, chain) in golden.chains.enumerated() {
      let levels = try NoiseSchedule.TrainingLevels(GoldenParts.schedule("chains", index))
      for (gamma, weights) in chain.weights {
        let weighting = LossWeighting.minSNR(gamma: try #require(Double(gamma)))
        for (name, expected) in weights {
          let prediction: Prediction = name == "epsilon" ? .epsilon : name == "sample" ? .sample : .v
          for (timestep, expected) in zip(chain.timesteps, expected) {
            let weight = weighting.weight(levels.level(ofTimestep: timestep), prediction)
            // diffusers takes the ratio of float32 roots.
            #expect(
              abs(weight - expected) <= 1e-5 * max(expected, 1e-3), "\(chain.name), \(name) at \(timestep)")
          }
        }
      }
    }
    let level = NoiseLevel(timestep: 3, alpha: 0.6, sigma: 0.8)
    for prediction: Prediction in [.epsilon, .v, .sample, .flow] {
      #expect(LossWeighting.none.weight(level, prediction) == 1)
    }
  }

  @Test func noisyInputsAndTargetsOfChainsAreDiffusers() throws {
    let device = Device(CPUBackend())
    for (index, chain) in golden.chains.enumerated() {
      let levels = try NoiseSchedule.TrainingLevels(GoldenParts.schedule("chains", index))
      let batch = BatchLevels(chain.timesteps.map(levels.level(ofTimestep:)))
      #expect(batch.timesteps == chain.timesteps.map(Float.init))
      let clean = try Tensor(chain.clean, [chain.timesteps.count, 2, 1, 3], on: device)
      let noise = try Tensor(chain.noise, clean.shape, on: device)
      expectNear(try batch.noisy(clean, noise).floats(), chain.noisy, "\(chain.name): noisy")
      expectNear(try batch.target(.v, clean, noise).floats(), chain.velocity, "\(chain.name): v")
      #expect(try batch.target(.epsilon, clean, noise).floats() == chain.noise)
      #expect(try batch.target(.sample, clean, noise).floats() == chain.clean)
    }
  }

  @Test func noisyInputsAndTargetsOfFlowsAreDiffusers() throws {
    let device = Device(CPUBackend())
    for (index, flow) in golden.flows.enumerated() {
      let levels = try NoiseSchedule.TrainingLevels(GoldenParts.schedule("flows", index))
      let batch = BatchLevels(flow.places.map(levels.level(at:)))
      for (timestep, expected) in zip(batch.timesteps, flow.timesteps) {
        #expect(abs(timestep - expected) <= 1e-4 * expected)
      }
      let clean = try Tensor(flow.clean, [flow.places.count, 2, 1, 3], on: device)
      let noise = try Tensor(flow.noise, clean.shape, on: device)
      expectNear(try batch.noisy(clean, noise).floats(), flow.noisy, "flow \(index): noisy")
      expectNear(try batch.target(.flow, clean, noise).floats(), flow.target, "flow \(index): target")
    }
  }

  /// Every timestep of a chain is reached, by equal shares of the places.
  @Test func placesAreSharedOutEvenlyAmongTimesteps() throws {
    let schedule = try GoldenParts.schedule("chains", 0)
    let levels = try NoiseSchedule.TrainingLevels(schedule)
    for place in 0..<4000 {
      let timestep = levels.level(at: (Double(place) + 0.5) / 4000).timestep
      #expect(timestep == Float(place / 4))
    }
    #expect(levels.level(at: 1 - 0x1p-53).timestep == 999 && levels.level(at: 0).timestep == 0)
  }

  @Test func theLossIsTheWeightedMeanOfTheSamplesOwn() throws {
    let device = Device(CPUBackend())
    let levels = BatchLevels([
      NoiseLevel(timestep: 1, alpha: 0.8, sigma: 0.6), NoiseLevel(timestep: 2, alpha: 0.1, sigma: 0.995),
    ])
    let output = try Tensor([1, 2, 3, 4, 5, 6, 7, 8] as [Float], [2, 2, 1, 2], on: device)
    let target = try Tensor([0, 0, 0, 0, 1, 1, 1, 1] as [Float], [2, 2, 1, 2], on: device)
    // The means of 1, 4, 9, 16 and of 16, 25, 36, 49.
    let errors = [7.5, 31.5]
    #expect(try levels.loss(output, target, .none, .epsilon).floats() == [19.5])
    let weighting = LossWeighting.minSNR(gamma: 1)
    let weights = levels.levels.map { weighting.weight($0, .v) }
    let loss = try levels.loss(output, target, weighting, .v).floats()
    #expect(abs(Double(loss[0]) - (weights[0] * errors[0] + weights[1] * errors[1]) / 2) < 1e-5)
  }

  private func expectNear(_ values: [Float], _ expected: [Float], _ what: String) {
    #expect(values.count == expected.count)
    let error = zip(values, expected).map { abs($0 - $1) }.max() ?? 0
    #expect(error <= 1e-6, "\(what) is off by \(error)")
  }
}

/// The square of one weight, which begins at 1.
private struct Parabola: TrainingTask {
  let networks: [TrainedNetwork]
  init(on device: Device) {
    let start = InitialWeights(seed: 1) { _, _, _ in .constant(1) }
    networks = [TrainedNetwork("parabola", start: start) { _ = try $0.tensor("x", [1]) }]
  }
  func batch(_ samples: Range<UInt64>) {}
  func loss(_ batch: Void, _ weights: TrainingWeights) throws -> Tensor {
    try weights["parabola"].tensor("x", [1]).map(.square)
  }
}
