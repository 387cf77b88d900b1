/// Why a gradient cannot be computed.
public enum GradientError: Error, Sendable, Equatable, CustomStringConvertible {
  /// An operation's inputs were watched by two tapes.
  case twoTapes(operation: String)
  /// What is differentiated must hold one floating-point number.
  case lossIsNotOneNumber(TensorSpec)
  /// The loss does not depend on anything that this tape watches, or the tape was used already.
  case untracedLoss(TensorSpec)
  /// The operation has no rule.
  case notDifferentiable(operation: String)
  /// No gradient arrives there: the loss does not depend on it.
  case unreached(names: [String])

  /// One line that says what to do.
  public var description: String {
    switch self {
    case .twoTapes(let operation):
      "\(operation): its inputs were watched by two tapes; watch all of them with one"
    case .lossIsNotOneNumber(let spec):
      "the loss is \(spec); reduce it to one number, for instance by its mean"
    case .untracedLoss(let spec):
      "the loss \(spec) is not of this tape: it depends on nothing that the tape watches, or the tape's gradients "
        + "were taken already"
    case .notDifferentiable(let operation):
      "\(operation) has no gradient; gradients of gradients are not supported"
    case .unreached(let names):
      "no gradient arrives at \(names.prefix(5).joined(separator: ", "))"
        + (names.count > 5 ? " and \(names.count - 5) more" : "") + ": the loss does not depend on them"
    }
  }
}
