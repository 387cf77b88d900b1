import Foundation
import Langevin
import LangevinDiffusion
import LangevinNN
import LangevinTensor
import LangevinTraining

/// What the field's ways of training do, shown on small networks that are trained here: noise as target, sampling with
/// and without noise, few steps, dropped conditions, contrastive pictures and texts, and pictures from embeddings.
///
/// The data are drawn by `ShapePictures`. A seed gives the same numbers each time on a device.
public struct TrainedExperiment: Sendable {
  /// The device that trains and samples.
  public let device: Device
  /// Of everything random.
  public let seed: UInt64
  /// Called with the title of each part before it runs; throws to stop.
  public var progress: @Sendable (String) throws -> Void = { _ in }

  let pictures: ShapePictures
  let scheduler: SchedulerFile
  let levels: NoiseSchedule.TrainingLevels
  /// Steps of each network's training.
  let steps: Int
  let batch = 32
  /// Samples of each measurement.
  let samples: Int

  /// An experiment on this device; `quick` trains less and samples less. Throws what the schedule throws.
  public init(on device: Device, seed: UInt64 = 0, quick: Bool = false) throws {
    (self.device, self.seed) = (device, seed)
    (steps, samples) = quick ? (300, 32) : (600, 64)
    pictures = ShapePictures(seed: seed)
    var schedule = NoiseSchedule()
    (schedule.trainTimesteps, schedule.betaStart, schedule.betaEnd) = (200, 0.0005, 0.1)
    scheduler = SchedulerFile(
      schedule, ["clip_sample": .bool(false), "timestep_spacing": .string("trailing")])
    levels = try NoiseSchedule.TrainingLevels(schedule)
  }

  /// Trains and measures every part. Throws what the device and `progress` throw.
  public func run() throws -> ExperimentReport {
    let start = ContinuousClock.now
    try progress("the noise as target")
    let (target, denoiser) = try noiseAsTarget()
    try progress("sampling without noise")
    let collapse = try collapse(denoiser)
    try progress("few steps")
    let few = try fewSteps(denoiser)
    try progress("pictures and texts")
    let clip = try trainCLIP()
    let direction = try hatDirection(clip)
    try progress("dropped captions")
    let guidance = try guidance(clip)
    try progress("pictures from embeddings")
    let decoder = try decoder(clip)
    return ExperimentReport(
      seed: seed, device: device.name, points: ShapePictures.shown.count, samples: samples,
      seconds: (ContinuousClock.now - start) / .seconds(1),
      sections: [target, collapse, few, guidance, direction, decoder], isTrained: true)
  }

  // MARK: What the parts share

  /// Trains a network and returns its averaged weights.
  func train(
    _ task: SmallTask, steps: Int? = nil, batch: Int? = nil, rate: Double = 2e-3
  ) throws -> any WeightSource {
    let steps = steps ?? self.steps
    var settings = TrainerSettings(
      batch: batch ?? self.batch,
      rate: LearningRate(base: rate, warmUp: 20, total: steps, shape: .linearCooldown, cooldown: 0.3))
    settings.averaging = 0.98
    (settings.beta2, settings.weightDecay) = (0.99, 0)
    var trainer = try Trainer(task, settings, on: device)
    for _ in 0..<steps {
      try progress("")
      try trainer.step()
    }
    return try trainer.parameters.source(of: "network", averaged: true)
  }

  /// The noise levels of samples, evenly over the schedule within a batch.
  func noisiness(_ numbers: Range<UInt64>) -> BatchLevels {
    BatchLevels(
      numbers.map { sample in
        levels.level(at: TimestepSampling.stratified.place(ofSample: sample, seed: seed, batch: batch))
      })
  }

  static let shape: Shape = [ShapePictures.size, ShapePictures.size, 3]

  /// Noise to `count` pictures by a network that guesses the noise.
  func sample(
    _ sampler: SamplerChoice, steps: Int, count: Int, run: UInt64 = 0, _ network: @escaping Network
  ) throws -> Tensor {
    let made = try sampler.make(scheduler)
    let along = try made.schedule(scheduler.noise, steps: steps)
    let seeds = (0..<UInt64(count)).map { seed &* 0x9E37_79B9 &+ (run << 32) &+ $0 }
    var noise = NoiseSource(.philox, seeds: seeds, on: device)
    let shape = Shape([count] + Self.shape.dimensions)
    let start = try along.initial(noise: noise.normal(shape, for: .initial))
    // No picture is brighter than white.
    let denoiser = Limited(NetworkDenoiser(.epsilon, network), .clip(1))
    return try made.sample(denoiser, from: start, along: along, noise: &noise)
  }

  /// Rows of a table of constants that stand for words.
  func words() throws -> Tensor { try Tensor.normal([9, 16], seed: 77, stream: 90, on: device) }
}
