import LangevinTensor
import Synchronization

/// Tensors that a UNet keeps from one call to the next, by name.
public final class KeptTensors: Sendable {
  private let tensors = Mutex<[String: Tensor]>([:])

  /// Nothing yet.
  public init() {}

  /// Nil where nothing was kept.
  subscript(name: String) -> Tensor? { tensors.withLock { $0[name] } }

  func keep(_ tensor: Tensor, as name: String) { tensors.withLock { $0[name] = tensor } }

  /// Throws `ModelError.invalidInput` where nothing was kept.
  func kept(_ name: String) throws -> Tensor {
    guard let tensor = self[name] else {
      throw ModelError.invalidInput(
        model: UNet2DConditionModel.name, reason: "no earlier call has kept what \(name) made")
    }
    return tensor
  }
}

/// The deep features of one call for those that follow: DeepCache, arXiv:2312.00858.
///
/// On the way down layers are computed up to a branch's skip, and on the way up from there; what comes from below that
/// changes little from step to step.
public struct DeepFeatures: Sendable {
  /// Where they are kept.
  public let kept: KeptTensors
  /// The number of the last skip that is computed in every call; 0 is the first convolution's.
  public let branch: Int
  /// Whether a call takes those of an earlier one, rather than to compute and keep its own.
  public let isReused: Bool

  /// Kept by one call, and reused by others of as many rows.
  public init(_ kept: KeptTensors, branch: Int = 0, isReused: Bool) {
    (self.kept, self.branch, self.isReused) = (kept, branch, isReused)
  }

  private static let name = "the way down"

  /// What goes up from below the branch: h, or what was kept of an earlier call.
  func callAsFunction(_ h: Tensor) throws -> Tensor {
    if isReused { return try kept.kept(Self.name) }
    kept.keep(h, as: Self.name)
    return h
  }
}

/// The outputs of the cross-attentions of one call for those that follow: T-GATE, arXiv:2404.02747.
///
/// Once it is settled what is drawn, the prompt changes little. The call that keeps may be a guided one, of [negative;
/// prompt]: of both halves the mean is kept, for calls of half as many rows that are not guided any more.
public struct CrossAttentionOutputs: Sendable {
  /// What a call does with them.
  public enum Use: Sendable {
    case keep
    /// The mean of the first half of the rows and of the second.
    case keepMeanOfHalves
    case reuse
  }

  /// Where they are kept.
  public let kept: KeptTensors
  /// What this call does with them.
  public let use: Use

  /// Outputs that one call keeps and others reuse.
  public init(_ kept: KeptTensors, _ use: Use) { (self.kept, self.use) = (kept, use) }

  /// The output of the attention of this name: what `compute` gives, or what was kept of it.
  func callAsFunction(_ name: String, _ compute: () throws -> Tensor) throws -> Tensor {
    if case .reuse = use { return try kept.kept(name) }
    let output = try compute()
    if case .keepMeanOfHalves = use {
      let half = output.shape[0] / 2
      let (negative, prompt) = (try output.rows(0..<half), try output.rows(half..<2 * half))
      kept.keep(try (negative + prompt) * 0.5, as: name)
    } else {
      kept.keep(output, as: name)
    }
    return output
  }
}
