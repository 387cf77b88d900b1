extension Tensor {
  /// The same numbers as a constant, which no gradient passes.
  public var untraced: Tensor {
    var constant = self
    constant.trace = nil
    return constant
  }

  /// `body` of this tensor, whose inner tensors a tape does not keep: the backward pass runs it a second time instead.
  /// It must give the same bits each time. On a constant it is `body` itself.
  ///
  /// Chen et al. 2016, arXiv:1604.06174. Throws what `body` throws.
  public func recomputing(_ body: @escaping @Sendable (Tensor) throws -> Tensor) throws -> Tensor {
    guard let trace else { return try body(self) }
    return try trace.tape.recomputed(self, trace.entry, body)
  }

  /// `body` of this tensor, with `isWanted` as `recomputing` does it.
  public func recomputing(if isWanted: Bool, _ body: @escaping @Sendable (Tensor) throws -> Tensor) throws
    -> Tensor
  { try isWanted ? recomputing(body) : body(self) }
}

/// The value of a function of named tensors, one number, and its gradient at each of them.
///
/// Throws `GradientError`, also where no gradient arrives at one of them, and what `body` throws.
public func valueWithGradient<Key: Hashable & Sendable>(
  at x: [Key: Tensor], _ body: ([Key: Tensor]) throws -> Tensor
) throws -> (value: Tensor, gradient: [Key: Tensor]) {
  let tape = Tape()
  let watched = x.mapValues(tape.watch)
  let value = try body(watched)
  let keys = Array(watched.keys)
  let gradients = try tape.gradients(of: value, at: keys.compactMap { watched[$0] })
  let unreached = zip(keys, gradients).filter { $1 == nil }.map { "\($0.0)" }
  guard unreached.isEmpty else { throw GradientError.unreached(names: unreached.sorted()) }
  return (value.untraced, Dictionary(uniqueKeysWithValues: zip(keys, gradients.compactMap { $0 })))
}
