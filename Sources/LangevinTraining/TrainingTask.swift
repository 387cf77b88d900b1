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
  /// How a loss that is no such mean can be computed in parts all the same; nil where it cannot.
  var comparison: BatchComparison<Batch>? { get }
  /// The samples with these numbers, counted from the run's first. The same numbers give the same batch, whoever asks.
  func batch(_ samples: Range<UInt64>) throws -> Batch
  /// The loss of a batch, float32 [1]; the trained networks are built from `weights`.
  func loss(_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor
}

extension TrainingTask {
  /// As most losses are.
  public var isMeanOfSamples: Bool { true }
  /// As most losses need none.
  public var comparison: BatchComparison<Batch>? { nil }
}

/// A loss that compares all samples of a batch with each other, but sees of each no more than an embedding.
///
/// The embeddings of all parts are computed first; then the gradient of the loss at the embeddings; and from there, part by
/// part, that at the parameters. Gao et al. 2021, arXiv:2101.06983, section 3.
public struct BatchComparison<Batch: Sendable>: Sendable {
  /// Float32 [N, ...], a row for each of the batch's samples. The same bits each time.
  public var embeddings: @Sendable (_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor
  /// The loss of all samples' embeddings, float32 [1].
  public var loss: @Sendable (_ embeddings: Tensor, _ weights: TrainingWeights) throws -> Tensor

  /// A comparison of these two steps.
  public init(
    embeddings: @escaping @Sendable (_ batch: Batch, _ weights: TrainingWeights) throws -> Tensor,
    loss: @escaping @Sendable (_ embeddings: Tensor, _ weights: TrainingWeights) throws -> Tensor
  ) { (self.embeddings, self.loss) = (embeddings, loss) }
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
