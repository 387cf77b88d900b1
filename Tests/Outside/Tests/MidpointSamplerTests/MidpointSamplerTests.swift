import Foundation
import LangevinCPU
import LangevinDiffusion
import LangevinTensor
import MidpointSampler
import Testing

/// A sampler of another package, by its public face alone.
struct MidpointSamplerTests {
  /// Of normal data, whose denoiser and whose flow are known.
  struct Normal: Denoiser {
    let mean = 0.5
    let deviation = 0.4

    func variance(_ level: NoiseLevel) -> Double {
      level.alpha * level.alpha * deviation * deviation + level.sigma * level.sigma
    }

    func denoised(_ x: Tensor, at level: NoiseLevel) throws -> Tensor {
      let gain = level.alpha * deviation * deviation / variance(level)
      return try x.affine(scale: Float(gain), offset: Float(mean - gain * level.alpha * mean))
    }

    func flow(_ x: Float, from: NoiseLevel, to: NoiseLevel) -> Double {
      to.alpha * mean + (Double(x) - from.alpha * mean) * (variance(to) / variance(from)).squareRoot()
    }
  }

  let device = Device(CPUBackend())

  /// Seven and a half octaves of noise, evenly in its logarithm.
  func error(steps: Int) throws -> Double {
    let levels = (0...2 * steps).map {
      NoiseLevel(timestep: 0, noiseToSignal: exp(3 - 2.5 * Double($0) / Double(steps)))
    }
    let schedule = Schedule(
      steps: (0..<steps).map {
        Schedule.Step(from: levels[2 * $0], middle: levels[2 * $0 + 1], to: levels[2 * $0 + 2])
      })
    let start: [Float] = [-2, -0.5, 0.1, 1, 2.5]
    var noise = NoiseSource(.philox, seeds: [0], on: device)
    let end = try MidpointSampler().sample(
      Normal(), from: Tensor(start, [1, 5], on: device), along: schedule, noise: &noise
    ).floats()
    return zip(start, end).map { abs(Double($1) - Normal().flow($0, from: levels[0], to: levels[2 * steps])) }
      .max() ?? .infinity
  }

  @Test func itIsOfSecondOrder() throws {
    let errors = try [20, 40, 80].map(error)
    for (coarse, fine) in zip(errors, errors.dropFirst()) {
      #expect(abs(log2(coarse / fine) - 2) < 0.3, "\(errors)")
    }
    #expect(errors[2] < 0.005)
  }

  /// Its levels are laid out, checked and run like those of Langevin's own; the steps come one by one.
  @Test func itRunsFromAModelsNoise() async throws {
    let file = try SchedulerFile(json: Data(#"{"_class_name": "DDIMScheduler", "beta_end": 0.012}"#.utf8))
    let sampler = try SamplerChoice(MidpointSampler()).make(file)
    let schedule = try sampler.schedule(file.noise, steps: 20, choosing: .sigmas(.karras))
    var noise = NoiseSource(.philox, seeds: [3], on: device)
    let start = try schedule.initial(noise: noise.normal([1, 4096], for: .initial))
    var seen: [Int] = []
    var last: [Float] = []
    for try await state in Sampling(sampler, Normal(), from: start, along: schedule, noise: noise) {
      seen.append(state.step)
      last = try state.latent.floats()
    }
    #expect(seen == Array(1...20))
    let mean = last.reduce(0) { $0 + Double($1) } / 4096
    let deviation = (last.reduce(0) { $0 + pow(Double($1) - mean, 2) } / 4096).squareRoot()
    #expect(abs(mean - 0.5) < 0.03 && abs(deviation - 0.4) < 0.03, "\(mean), \(deviation)")
    #expect(throws: DiffusionError.self) { try sampler.schedule(file.noise, steps: 0) }
    var flow = NoiseSchedule()
    flow.path = .flow
    #expect(throws: DiffusionError.flowModel(sampler: "midpoint")) { try sampler.schedule(flow, steps: 5) }
  }

  /// The article shows this very file.
  @Test func theArticleShowsIt() throws {
    let root = URL(filePath: #filePath).appending(path: "../../../../..").standardized
    let source = try String(
      contentsOf: root.appending(path: "Tests/Outside/Sources/MidpointSampler/MidpointSampler.swift"),
      encoding: .utf8)
    let article = try String(
      contentsOf: root.appending(path: "Sources/Langevin/Langevin.docc/WritingASampler.md"), encoding: .utf8)
    #expect(article.contains("```swift\n\(source)```"))
    #expect(source.split(separator: "\n").count <= 30)
  }

  @Test func itIsKnownByItsNamesOnceItIsRegistered() throws {
    #expect(SamplerRegistry.named("DPM2") == nil && SamplerChoice(named: "midpoint") == nil)
    try SamplerRegistry.register(SamplerChoice(MidpointSampler()))
    #expect(SamplerChoice(named: "k_dpm_2")?.name == "midpoint")
    #expect(SamplerRegistry.named("DPM2 Karras")?.spacing == .karras)
    #expect(SamplerRegistry.all.last?.purpose == MidpointSampler.description.purpose)
    #expect(throws: DiffusionError.self) { try SamplerRegistry.register(SamplerChoice(MidpointSampler())) }
  }
}
