import Langevin
import LangevinNN
import LangevinTensor

/// What a search found for one key.
public struct TuningResult: Sendable, Codable {
  /// `product`, `convolution` or `attention`.
  public let operation: String
  /// Storage of the operands.
  public let dtype: DType
  /// Of the operands that were timed.
  public let shape: String
  /// Of any shape under the key, in one picture.
  public let launches: Double
  /// The shipped parameters.
  public let shipped: String
  /// The fastest parameters that were found.
  public let tuned: String
  /// The next fastest that was right.
  public let runnerUp: String?
  /// Seconds of one launch with the shipped parameters.
  public let shippedSeconds: Double
  /// Seconds of one launch with the parameters that were found.
  public let tunedSeconds: Double
  /// How many parameters were timed beside the shipped ones.
  public let candidates: Int
  /// Whether an earlier search found it.
  public let isKnown: Bool
  /// Parameters that were not right, or could not run, with the reason.
  public let rejected: [Rejection]

  /// Parameters that do not count.
  public struct Rejection: Sendable, Codable {
    /// The parameters that were rejected.
    public let parameters: String
    /// Why they were rejected.
    public let reason: String
  }

  /// How many times faster than the shipped parameters.
  public var gain: Double { tunedSeconds > 0 ? shippedSeconds / tunedSeconds : 1 }

  init<Key, Parameters>(
    _ target: TuningTarget<Key>, _ entry: TuningFinding<Key, Parameters>, shipped: Parameters, isKnown: Bool,
    rejected: [Rejection] = []
  ) {
    operation = target.key.operation.rawValue
    dtype = target.dtype
    shape = target.test.name
    launches = target.launches
    self.shipped = "\(shipped)"
    tuned = "\(entry.parameters)"
    runnerUp = entry.runnerUp.map { "\($0)" }
    shippedSeconds = entry.shippedSeconds
    tunedSeconds = entry.tunedSeconds
    candidates = entry.candidates
    self.isKnown = isKnown
    self.rejected = rejected
  }
}

/// What `langevin tune` found on a device.
public struct TuningReport: Sendable, Codable {
  /// The device's name.
  public var device: String
  /// The version of the device's driver.
  public var driver: String
  /// The model whose operations were tuned.
  public var model: String
  /// In the order of their work.
  public var results: [TuningResult] = []
  /// Shapes for which no other parameters run and are right.
  public var unrivalled: [String] = []
  /// Shapes for which the shipped parameters reach what the device can do at most.
  public var atCeiling: [String] = []
  /// Shapes that the search did not come to.
  public var unreached: [String] = []
  /// Whether it was stopped.
  public var isPartial = false

  /// A report without results.
  public init(device: String, driver: String, model: String) {
    self.device = device
    self.driver = driver
    self.model = model
  }

  /// Seconds of all launches of one picture, with the shipped and with the tuned parameters.
  public var total: (shipped: Double, tuned: Double) {
    results.reduce((0, 0)) {
      ($0.0 + $1.launches * $1.shippedSeconds, $0.1 + $1.launches * $1.tunedSeconds)
    }
  }

  /// A result's part of `total.shipped`.
  public func share(_ result: TuningResult) -> Double {
    let all = total.shipped
    return all > 0 ? result.launches * result.shippedSeconds / all : 0
  }
}
