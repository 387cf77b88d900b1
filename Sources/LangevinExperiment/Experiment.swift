import Foundation
import LangevinDiffusion
import LangevinTensor

/// What diffusion models do, shown on data in the plane, where the optimal denoiser of a finite data set has a closed
/// form: nothing is trained, and what is seen is the samplers' doing alone.
///
/// Denoiser and samplers run on the device; the same seed gives the same pictures on every device, up to rounding.
public struct Experiment {
  /// The device that computes every figure.
  public let device: Device
  /// The seed of all noise.
  public let seed: UInt64
  /// Data points of each spiral.
  public let points: Int
  /// Samples in each picture.
  public let samples: Int
  /// How many steps the long runs backwards take.
  let chainSteps: Int
  /// How many steps DDIM takes with guidance.
  let guidedSteps: Int
  /// Called with the title of each part before it runs; throws to stop.
  public var progress: (String) throws -> Void = { _ in }

  let scheduler: SchedulerFile
  let spiral: PointSet
  let denoiser: PosteriorMean

  /// An experiment on this device; `quick` takes fewer points and samples.
  ///
  /// Throws what allocating throws.
  public init(on device: Device, seed: UInt64 = 0, quick: Bool = false) throws {
    self.device = device
    self.seed = seed
    (points, samples) = quick ? (128, 256) : (256, 768)
    (chainSteps, guidedSteps) = quick ? (250, 30) : (1000, 50)
    // However few the steps, they begin where there is nothing but noise: arXiv:2305.08891, section 3.3.
    scheduler = SchedulerFile(
      NoiseSchedule(), ["clip_sample": .bool(false), "timestep_spacing": .string("trailing")])
    spiral = PointSet.spirals(1, count: points)
    denoiser = try PosteriorMean(spiral.points, on: device)
  }

  /// Runs every part. Throws what the device and `progress` throw.
  public func run() throws -> ExperimentReport {
    let start = ContinuousClock.now
    let parts: [(String, () throws -> [ExperimentSection])] = [
      ("random walk", walk), ("few steps", { [try fewSteps()] }), ("field", { [try field()] }),
      ("guidance", { [try guidance()] }), ("negative condition", { [try negative()] }),
    ]
    let sections = try parts.flatMap { name, part in
      try progress(name)
      return try part()
    }
    return ExperimentReport(
      seed: seed, device: device.name, points: points, samples: samples,
      seconds: (ContinuousClock.now - start) / .seconds(1), sections: sections)
  }

  // MARK: What the parts share

  /// The samples are the pixels of one image, so that one seed makes all of their noise.
  var shape: Shape { [1, samples, 2] }

  /// Independent noise for each purpose.
  func noise(_ purpose: UInt64 = 0) -> NoiseSource {
    NoiseSource(.philox, seeds: [seed &+ purpose &* 0x9E37_79B9_7F4A_7C15], on: device)
  }

  /// Standard normal points of the latent's shape; each purpose has its own noise.
  func normal(_ purpose: UInt64 = 0) throws -> Tensor {
    var noise = noise(purpose)
    return try noise.normal(shape, for: .initial)
  }

  /// The points of a latent [1, M, 2].
  func vectors(_ x: Tensor) throws -> [Vector] {
    let values = try x.floats()
    return stride(from: 0, to: values.count, by: 2).map {
      Vector(x: Double(values[$0]), y: Double(values[$0 + 1]))
    }
  }

  /// The mean distance to the data of as many independent draws from them as there are samples: nearer than that no
  /// sampler can be, but by chance.
  func floor(draws: Int = 16) -> Double {
    let sum = (0..<draws).reduce(0.0) { sum, draw in
      let key = SIMD2<UInt32>(UInt32(truncatingIfNeeded: seed), UInt32(draw))
      let cloud = (0..<samples).map { index in
        let word = NoiseFunction.philox(counter: SIMD4(UInt32(index), 0, 0, 0x4C), key: key).x
        return spiral.points[Int(word) % points]
      }
      return sum + Distances.slicedWasserstein(cloud, spiral.points)
    }
    return sum / Double(draws)
  }

  /// Noise to samples in `steps` steps of a sampler, along a flow's straight lines if `flow`; `run` tells apart the noise
  /// of several.
  func sample(
    _ sampler: SamplerChoice, steps: Int, _ denoiser: some Denoiser, flow: Bool = false, run: Int = 0,
    progress: LangevinDiffusion.Progress? = nil
  ) throws -> Tensor {
    var noise = noise(run == 0 ? 0 : UInt64(100 + run))
    let made = try sampler.make(scheduler)
    let levels =
      flow
      ? try made.schedule(Self.flow, steps: steps, choosing: Self.flowLevels(steps: steps))
      : try made.schedule(scheduler.noise, steps: steps)
    let start = try levels.initial(noise: noise.normal(shape, for: .initial))
    return try made.sample(
      denoiser, from: start, along: levels, noise: &noise, progress: progress)
  }

  /// Straight lines from noise to data, `x = (1 - s) x0 + s noise`: arXiv:2209.03003.
  static var flow: NoiseSchedule {
    var flow = NoiseSchedule()
    flow.path = .flow
    return flow
  }

  /// Even steps of s.
  static func flowLevels(steps: Int) -> NoiseSchedule.Levels {
    .theseSigmas((0..<steps).map { 1 - Double($0) / Double(steps) })
  }
}
