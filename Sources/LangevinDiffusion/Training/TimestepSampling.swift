import Foundation
import LangevinTensor

/// Which noise levels are trained, and how often.
public enum TimestepSampling: Sendable, Hashable {
  /// All equally, each sample for itself.
  case uniform
  /// All equally, and each part of a batch's share of them once: less variance. arXiv:2107.00630, appendix I.1.
  case stratified
  /// Those in the middle more often: the sigmoid of a normal number. arXiv:2403.03206, eq. 19.
  case logitNormal(mean: Double, deviation: Double)

  /// Where within 0..<1, from no noise to nothing else, the sample with this number is trained; `batch` is how many samples
  /// a step has. A pure function.
  public func place(ofSample sample: UInt64, seed: UInt64, batch: Int) -> Double {
    let block = TrainingNoise.words(seed: seed, sample: sample, TrainingNoise.timestepStream)
    let uniform = (Double(block.x) + 0.5) * 0x1p-32
    switch self {
    case .uniform: return uniform
    case .stratified:
      return (Double(sample % UInt64(batch)) + uniform) / Double(batch)
    case .logitNormal(let mean, let deviation):
      let angle = 2 * Double.pi * (Double(block.y) + 0.5) * 0x1p-32
      let normal = (-2 * log(uniform)).squareRoot() * cos(angle)
      return min(1 / (1 + exp(-(mean + deviation * normal))), 1 - 0x1p-53)
    }
  }
}

/// What is drawn for the samples of a run: each number depends on the run's seed and the sample's number alone, so that the
/// division of a batch does not matter and a run that goes on needs no generator's state.
public enum TrainingNoise {
  // Apart from `NoiseSource`'s streams.
  static let noiseStream: UInt32 = 1 << 16
  static let timestepStream: UInt32 = noiseStream + 1
  static let posteriorStream: UInt32 = noiseStream + 2
  /// For tasks, which have choices of their own to make.
  public static let choiceStream: UInt32 = noiseStream + 3
  static let embeddingStream: UInt32 = noiseStream + 4

  /// Four random words of a sample.
  public static func words(seed: UInt64, sample: UInt64, _ stream: UInt32) -> SIMD4<UInt32> {
    let key = SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
    let counter = SIMD4(
      UInt32(0), stream, UInt32(truncatingIfNeeded: sample), UInt32(truncatingIfNeeded: sample >> 32))
    return NoiseFunction.philox(counter: counter, key: key)
  }

  /// Standard normal noise on samples, float32 [samples, shape...].
  public static func noise(_ samples: Range<UInt64>, _ shape: Shape, seed: UInt64, on device: Device) throws
    -> Tensor
  {
    try normal(samples, shape, seed: seed, noiseStream, on: device)
  }

  /// Standard normal numbers for an autoencoder's posterior of samples, float32 [samples, shape...].
  public static func posterior(_ samples: Range<UInt64>, _ shape: Shape, seed: UInt64, on device: Device)
    throws -> Tensor
  {
    try normal(samples, shape, seed: seed, posteriorStream, on: device)
  }

  /// Standard normal noise on what samples are conditioned on, float32 [samples, shape...].
  public static func embedding(_ samples: Range<UInt64>, _ shape: Shape, seed: UInt64, on device: Device)
    throws -> Tensor
  {
    try normal(samples, shape, seed: seed, embeddingStream, on: device)
  }

  private static func normal(
    _ samples: Range<UInt64>, _ shape: Shape, seed: UInt64, _ stream: UInt32, on device: Device
  ) throws -> Tensor {
    let one = Shape([1] + shape.dimensions)
    return try Tensor.concatenated(
      samples.map { sample in
        try Tensor.normal(
          one, seed: seed ^ ((sample >> 32) << 32), stream: stream, step: UInt32(truncatingIfNeeded: sample),
          on: device)
      }, axis: 0)
  }
}

extension NoiseSchedule {
  /// The noise levels that a network is trained on: one for each of its timesteps, or for a flow one at any place.
  public struct TrainingLevels: Sendable {
    private let alphasCumprod: [Float]
    private let schedule: NoiseSchedule

    /// Throws `DiffusionError.configuration`.
    public init(_ schedule: NoiseSchedule) throws {
      self.schedule = schedule
      alphasCumprod = schedule.path == .flow ? [] : try schedule.alphasCumprod()
    }

    /// At a place within 0..<1.
    public func level(at place: Double) -> NoiseLevel {
      let count = schedule.trainTimesteps
      switch schedule.path {
      case .flow:
        let shift = schedule.flowShift
        let sigma = shift * place / (1 + (shift - 1) * place)
        return NoiseLevel(timestep: Float(sigma * Double(count)), flowSigma: sigma)
      case .variancePreserving: return level(ofTimestep: min(Int(place * Double(count)), count - 1))
      }
    }

    /// Of a timestep that comes from elsewhere; a flow's may lie between two. Throws `DiffusionError.configuration`.
    public func level(checking timestep: Float) throws -> NoiseLevel {
      let count = schedule.trainTimesteps
      let isWhole = timestep.rounded() == timestep && timestep < Float(count)
      guard timestep >= 0, schedule.path == .flow ? timestep <= Float(count) : isWhole else {
        throw DiffusionError.configuration(
          field: "timestep", reason: "\(timestep) is none of the schedule's \(count)")
      }
      return schedule.path == .flow
        ? NoiseLevel(timestep: timestep, flowSigma: Double(timestep) / Double(count))
        : level(ofTimestep: Int(timestep))
    }

    /// Of a chain's timestep.
    public func level(ofTimestep timestep: Int) -> NoiseLevel {
      NoiseLevel(timestep: Float(timestep), alphaCumprod: alphasCumprod[timestep])
    }
  }
}
