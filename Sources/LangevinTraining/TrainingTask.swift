import LangevinNN
import LangevinTensor

/// What is trained, on what, towards what.
public protocol TrainingTask: Sendable {
  /// What a loss takes of its samples, as far as the host prepares it.
  associatedtype Batch: Sendable
  /// What is trained.
  var networks: [TrainedNetwork] { get }
  /// Whether the loss of a batch is the mean of its samples' losses, so that a batch may be computed in parts.
  var isMeanOfSamples: Bool { get }
  /// The samples with these numbers, counted from the run's first. The same numbers give the same batch, whoever asks.
  func batch(_ samples: Range<UInt64>) throws -> Batch
  /// The loss of a batch, float32 [1]; the trained networks are built from `weights`.
  func loss(_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor
}

extension TrainingTask {
  /// As most losses are.
  public var isMeanOfSamples: Bool { true }
}

/// The weights of the networks in one step: variables of a tape where they are trained.
public struct TrainingWeights: Sendable {
  private let roots: [String: Weights]

  init(_ roots: [String: Weights]) { self.roots = roots }

  /// The root of a network's weights. The task asks for networks of its own only.
  public subscript(network: String) -> Weights {
    guard let root = roots[network] else { preconditionFailure("the task trains no \(network)") }
    return root
  }
}
