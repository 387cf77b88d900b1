import Foundation
import LangevinDiffusion
import LangevinJSON
import LangevinTensor
import Testing

/// Samplers on data that are Gaussian, where the exact denoiser and the exact answer are known.
@Suite struct ClosedFormTests {
  static let gaussian = GaussianDenoiser()

  /// Levels evenly spaced in log(alpha / sigma), on which both solvers reach their order.
  static func levels(_ steps: Int, _ path: Schedule.Path = .variancePreserving) -> [NoiseLevel] {
    (0...steps).map { index in
      let s = exp(3 - 5 * Double(index) / Double(steps))
      return path == .flow
        ? NoiseLevel(timestep: 0, flowSigma: s / (1 + s)) : NoiseLevel(timestep: 0, noiseToSignal: s)
    }
  }

  /// The largest error against the exact probability flow.
  static func error(
    _ steps: Int, _ path: Schedule.Path, halfway: Bool, _ sampler: any Sampler
  ) throws -> Double {
    var schedule = Schedule(levels: levels(steps, path), path: path)
    if halfway {
      let middles = levels(2 * steps, path)
      for index in 0..<steps { schedule.steps[index].middle = middles[2 * index + 1] }
    }
    let start: [Float] = [-2, -0.5, 0.1, 1, 2.5]
    var noise = NoiseSource(.philox, seeds: [0], on: cpu)
    let result = try sampler.sample(
      gaussian, from: Tensor(start, [1, 5], on: cpu), along: schedule, noise: &noise
    ).floats()
    let (from, to) = (schedule.steps[0].from, schedule.steps[steps - 1].to)
    return zip(start, result).map { abs(Double($1) - gaussian.flow($0, from: from, to: to)) }.max()
      ?? .infinity
  }

  @Test func deterministicSamplersConvergeAtTheirOrder() throws {
    let solvers: [(String, Double, any Sampler)] = [
      ("euler", 1, EulerSampler()), ("ddim", 1, DDIMSampler()), ("dpmpp-2m", 2, DPMpp2MSampler()),
      ("heun", 2, HeunSampler()),
      // Of these two the beginning's order is less than that of the steps, and its error small: between the two.
      ("lms", 3, LMSSampler()),
      // arXiv:2202.09778, section 3.4: of second order, whatever its slopes'.
      ("plms", 2, PNDMSampler()), ("prk", 2, PNDMSampler()),
      ("unipc 1", 2, UniPCSampler(order: 1)),
      ("unipc 2", 3, UniPCSampler(order: 2, lowerOrderFinal: false)),
      ("unipc 3", 3, UniPCSampler(order: 3, lowerOrderFinal: false)),
    ]
    for (name, order, sampler) in solvers {
      for path in [Schedule.Path.variancePreserving, .flow] {
        let errors = try [20, 40, 80].map { try Self.error($0, path, halfway: name == "prk", sampler) }
        if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil { print(name, path, errors) }
        // Float32 ends what a high order gains.
        for (coarse, fine) in zip(errors, errors.dropFirst()) where fine > 1e-5 {
          let measured = log2(coarse / fine)
          let isOf = ["lms", "unipc 3"].contains(name) ? measured > order : abs(measured - order) < 0.3
          #expect(isOf, "\(name): order \(measured), errors \(errors)")
        }
        #expect(errors[2] < [1: 0.05, 2: 0.005, 3: 2e-4][Int(order), default: 0], "\(name): \(errors)")
      }
    }
  }

  @Test func stochasticSamplersReproduceTheDistribution() throws {
    var config = NoiseSchedule()
    (config.betaStart, config.betaEnd, config.betaSchedule) = (0.00085, 0.012, .scaledLinear)
    let file = SchedulerFile(config, ["clip_sample": .bool(false)])
    for (sampler, eta) in [
      (SamplerChoice.ddpm, 0.0), (.ddim, 1), (.ddim, 0.5), (.eulerAncestral, 0), (.dpmpp2MSDE, 0),
      (.dpmppSDE, 0),
      (.unCLIP, 0),
    ] {
      let made = try sampler.make(file, eta: eta)
      let schedule = try made.schedule(file.noise, steps: 200)
      var noise = NoiseSource(.philox, seeds: [5], on: cpu)
      let start = try schedule.initial(noise: noise.normal([1, 16384], for: .initial))
      let values = try made.sample(
        Self.gaussian, from: start, along: schedule, noise: &noise
      ).floats().map { Double($0) }
      let mean = values.reduce(0, +) / 16384
      let deviation = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 16384).squareRoot()
      // Four standard errors, 0.022 and 0.015, and the bias of 200 steps.
      #expect(abs(mean - Self.gaussian.mean) < 0.025, "\(sampler.name) \(eta): mean \(mean)")
      #expect(
        abs(deviation - Self.gaussian.deviation) < 0.025, "\(sampler.name) \(eta): deviation \(deviation)")
    }
  }

  /// Jumping to the denoised latent and adding noise to it keeps a Gaussian one, whose variance is known at each level.
  @Test func lcmHasTheVarianceOfItsJumps() throws {
    let schedule = try LCMSampler().schedule(NoiseSchedule(), steps: 5)
    var noise = NoiseSource(.philox, seeds: [5], on: cpu)
    let start = try schedule.initial(noise: noise.normal([1, 16384], for: .initial))
    let values = try LCMSampler().sample(
      Self.gaussian, from: start, along: schedule, noise: &noise
    ).floats().map { Double($0) }
    var (expectedMean, variance) = (0.0, 1.0)
    for step in schedule.steps {
      let prior = Self.gaussian.deviation * Self.gaussian.deviation
      let gain = step.from.alpha * prior / Self.gaussian.spread2(step.from)
      let clean = gain * expectedMean + Self.gaussian.mean * (1 - gain * step.from.alpha)
      (expectedMean, variance) = (
        step.to.alpha * clean,
        step.to.alpha * step.to.alpha * gain * gain * variance + step.to.sigma * step.to.sigma
      )
    }
    let mean = values.reduce(0, +) / 16384
    let measured = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 16384
    #expect(abs(mean - expectedMean) < 0.02, "\(mean), expected \(expectedMean)")
    #expect(abs(measured.squareRoot() - variance.squareRoot()) < 0.01, "\(measured), expected \(variance)")
  }

  @Test func deterministicSamplersDrawNothing() throws {
    let file = SchedulerFile().forStableDiffusion()
    for sampler in SamplerRegistry.all where !sampler.isStochastic {
      let made = try sampler.make(file)
      let schedule = try made.schedule(file.noise, steps: 9)
      let start = try Tensor([0.3, -1, 2], [1, 3], on: cpu)
      var first = NoiseSource(.torch, seeds: [1], on: cpu)
      var second = NoiseSource(.torch, seeds: [2], on: cpu)
      let a = try made.sample(Self.gaussian, from: start, along: schedule, noise: &first)
      let b = try made.sample(Self.gaussian, from: start, along: schedule, noise: &second)
      #expect(try a.floats() == b.floats(), "\(sampler.name)")
      var untouched = NoiseSource(.torch, seeds: [1], on: cpu)
      #expect(
        try first.normal([1, 4], for: .initial).floats() == untouched.normal([1, 4], for: .initial).floats())
    }
  }

  @Test func etaOutsideItsRangeThrows() throws {
    let schedule = Schedule(levels: Self.levels(3))
    var noise = NoiseSource(.philox, seeds: [1], on: cpu)
    let x = try Tensor([0.5] as [Float], [1, 1], on: cpu)
    for eta in [-0.1, 1.1, .nan] {
      #expect(throws: DiffusionError.self) {
        _ = try DDIMSampler(eta: eta).sample(Self.gaussian, from: x, along: schedule, noise: &noise)
      }
    }
  }

  /// Each parameterisation's output, computed from the exact denoised latent, gives it back.
  @Test func parameterisationsInvert() throws {
    let x = try Tensor([0.3, -1, 2, 0.7], [1, 4], on: cpu)
    let levels = [
      NoiseLevel(timestep: 7, noiseToSignal: 0.1), NoiseLevel(timestep: 7, noiseToSignal: 5),
      NoiseLevel(timestep: 7, alpha: 0.6, sigma: 0.4),
    ]
    for level in levels {
      let exact = try Self.gaussian.denoised(x, at: level)
      for prediction in Prediction.allCases {
        let network: Network = { x, t in
          #expect(t == 7)
          let values = zip(try x.floats(), try exact.floats()).map { x, x0 in
            let (x, x0) = (Double(x), Double(x0))
            let noise = (x - level.alpha * x0) / level.sigma
            return switch prediction {
            case .epsilon: Float(noise)
            case .v: Float(level.alpha * noise - level.sigma * x0)
            case .sample: Float(x0)
            case .flow: Float(noise - x0)
            }
          }
          return try Tensor(values, x.shape, on: cpu)
        }
        let squared = level.alpha * level.alpha + level.sigma * level.sigma
        // v is defined where alpha^2 + sigma^2 = 1.
        if prediction == .v && abs(squared - 1) > 1e-9 { continue }
        let denoised = try NetworkDenoiser(prediction, network).denoised(x, at: level)
        #expect(largestDifference(try denoised.floats(), try exact.floats()) < 2e-6, "\(prediction) \(level)")
      }
    }
  }

  @Test func halfPrecisionOutputsAreWidened() throws {
    let x = try Tensor([0.25, -1] as [Float], [1, 2], on: cpu)
    for prediction in Prediction.allCases {
      let level = NoiseLevel(timestep: 0, noiseToSignal: 2)
      let wide = NetworkDenoiser(prediction) { x, _ in try x * 0.5 }
      let narrow = NetworkDenoiser(prediction) { x, _ in try (x * 0.5).cast(to: .float16) }
      let result = try narrow.denoised(x, at: level)
      #expect(result.dtype == .float32)
      #expect(try result.floats() == wide.denoised(x, at: level).floats())
    }
  }

  @Test func progressReportsAndCancels() throws {
    struct Stop: Error {}
    let file = SchedulerFile().forStableDiffusion()
    for sampler in SamplerRegistry.all {
      let made = try sampler.make(file)
      let schedule = try made.schedule(file.noise, steps: 6)
      var noise = NoiseSource(.philox, seeds: [1], on: cpu)
      let start = try Tensor([0.3, -1, 2], [1, 3], on: cpu)
      var seen: [Int] = []
      var last: [Float] = []
      let result = try made.sample(Self.gaussian, from: start, along: schedule, noise: &noise) { state in
        #expect(state.count == 6 && state.guess?.shape == [1, 3])
        seen.append(state.step)
        last = try state.latent.floats()
      }
      #expect(seen == Array(1...6))
      #expect(try result.floats() == last)
      seen = []
      #expect(throws: Stop.self) {
        _ = try made.sample(Self.gaussian, from: start, along: schedule, noise: &noise) { state in
          seen.append(state.step)
          if state.step == 3 { throw Stop() }
        }
      }
      #expect(seen == [1, 2, 3])
    }
  }

  @Test func theStepsAreAnAsynchronousSequence() async throws {
    let schedule = Schedule(levels: Self.levels(6))
    let start = try Tensor([0.3, -1, 2], [1, 3], on: cpu)
    var noise = NoiseSource(.philox, seeds: [1], on: cpu)
    let sampler = DPMpp2MSDESampler()
    let expected = try sampler.sample(Self.gaussian, from: start, along: schedule, noise: &noise).floats()
    func run() -> Sampling {
      Sampling(
        sampler, Self.gaussian, from: start, along: schedule,
        noise: NoiseSource(.philox, seeds: [1], on: cpu))
    }
    var seen: [Int] = []
    var last: Tensor?
    for try await state in run() { (seen, last) = (seen + [state.step], state.latent) }
    #expect(try seen == Array(1...6) && last?.floats() == expected)
    // A run that somebody gives up is over.
    seen = []
    for try await state in run() {
      seen.append(state.step)
      if state.step == 2 { break }
    }
    #expect(seen == [1, 2])
    let shape: Shape = [1, 3]
    let cancelled = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      var noise = NoiseSource(.philox, seeds: [1], on: cpu)
      let x = try noise.normal(shape, for: .initial)
      return try EulerSampler().sample(GaussianDenoiser(), from: x, along: schedule, noise: &noise)
    }
    await #expect(throws: CancellationError.self) { _ = try await cancelled.value }
  }
}
