/// Why a run cannot train.
public enum TrainingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No parameter of this network is to be trained.
  case nothingToTrain(network: String)
  /// A state that is not of these networks.
  case stateMismatch(parameter: String, reason: String)
  /// A batch that does not come out even.
  case batch(size: Int, accumulation: Int, ranks: Int)
  /// A loss that compares the samples of a batch has no parts.
  case indivisibleLoss
  /// The loss depends on none of these parameters.
  case unreached(parameters: [String])
  /// The loss or a gradient is NaN or infinite. `cause` is the first operation whose output was, with its layer, or says
  /// that the step was finite when it was repeated.
  case notFinite(step: Int, loss: Float, cause: String)
  /// The loss's scale fell to nothing: no step was finite any more.
  case lossScaleExhausted(step: Int)

  /// One line that says what to do.
  public var description: String {
    switch self {
    case .nothingToTrain(let network): "\(network): no parameter is to be trained"
    case .stateMismatch(let parameter, let reason): "the state does not fit: \(parameter): \(reason)"
    case .batch(let size, let accumulation, let ranks):
      "a batch of \(size) cannot be divided by \(accumulation) accumulation steps on \(ranks) ranks"
    case .indivisibleLoss:
      "this loss compares all samples of a batch with each other; it takes neither accumulation nor ranks"
    case .unreached(let parameters):
      "no gradient arrives at \(parameters.prefix(3).joined(separator: ", "))"
        + (parameters.count > 3 ? " and \(parameters.count - 3) more" : "")
        + ": the loss does not depend on them"
    case .notFinite(let step, let loss, let cause):
      "step \(step): the \(loss.isFinite ? "gradient is not finite" : loss.isNaN ? "loss is NaN" : "loss is infinite")"
        + "; \(cause); a smaller "
        + "learning rate or --precision f32 may help"
    case .lossScaleExhausted(let step):
      "step \(step): no loss scale gives finite gradients any more; a smaller learning rate or --precision f32 may help"
    }
  }
}
