import Synchronization

/// Where a tensor stands on a tape: at the entry that made it.
struct Trace: Sendable {
  let tape: Tape
  let entry: Int
}

/// What was computed from watched tensors, in order, so that gradients can be passed back from the last to the first.
///
/// Reverse-mode differentiation (Griewank and Walther, Evaluating Derivatives, 2008, chapter 3). An entry keeps the operands
/// that its operation's rule reads and no others, and lets them go when the backward pass is past it.
public final class Tape: Sendable {
  private enum Step: Sendable {
    case watched
    case operation(Call)
    case recomputed(Recomputation)
    /// The entry of a weight's source.
    case packed(source: Int, WeightShape, Shape)
  }

  private struct Call: Sendable {
    let operation: Operation
    /// The inputs' entries; nil for constants.
    let sources: [Int?]
    let inputs: [Tensor?]
    let output: Tensor?
    let specs: [TensorSpec]
  }

  private struct Recomputation: Sendable {
    let source: Int
    let input: Tensor
    let body: @Sendable (Tensor) throws -> Tensor
  }

  private struct Entry: Sendable {
    let step: Step
    /// What it made; views of it keep its place with shapes of their own.
    let spec: TensorSpec
    /// The layer that computed it.
    let path: String
  }

  private struct State: Sendable {
    var entries: [Entry] = []
    /// While a body is run whose steps will be recomputed.
    var isPaused = false
    var isConsumed = false
  }

  private let state = Mutex(State())
  private let rule: @Sendable (Operation) -> GradientRule

  /// An empty tape.
  public convenience init() { self.init { $0.definition.gradient } }

  /// An empty tape that goes by other rules, by which tests plant faults.
  package init(rule: @escaping @Sendable (Operation) -> GradientRule) { self.rule = rule }

  /// The same tensor as a variable: what is computed of it is recorded.
  public func watch(_ x: Tensor) -> Tensor {
    var watched = x.untraced
    watched.trace = append(.watched, x.spec)
    return watched
  }

  private func append(_ step: Step, _ spec: TensorSpec) -> Trace? {
    state.withLock { state in
      guard !state.isPaused, !state.isConsumed else { return nil }
      state.entries.append(Entry(step: step, spec: spec, path: LayerPath.current))
      return Trace(tape: self, entry: state.entries.count - 1)
    }
  }

  /// The tape of an operation's inputs; nil where all are constants. Throws `GradientError.twoTapes`.
  static func common(_ inputs: [Tensor], operation: String) throws -> Tape? {
    var found: Tape?
    for input in inputs {
      guard let tape = input.trace?.tape, !tape.state.withLock({ $0.isConsumed }) else { continue }
      if let found, found !== tape { throw GradientError.twoTapes(operation: operation) }
      found = tape
    }
    return found
  }

  /// The output of an operation with its place on the tape; a constant where the operation passes no gradient.
  func record(_ operation: Operation, _ inputs: [Tensor], _ output: Tensor) throws -> Tensor {
    var kept: GradientRule.Kept
    let sources = inputs.map { $0.trace?.tape === self && $0.dtype.isFloatingPoint ? $0.trace?.entry : nil }
    switch rule(operation) {
    case .none: return output
    case .undefined: throw GradientError.notDifferentiable(operation: operation.name)
    case .decomposed:
      kept = []
      kept.inputs = Set(inputs.indices)
    case .rule(let keeps, _): kept = keeps(sources.map { $0 != nil })
    }
    let call = Call(
      operation: operation, sources: sources,
      inputs: inputs.indices.map { kept.inputs.contains($0) ? inputs[$0].untraced : nil },
      output: kept.output ? output : nil, specs: inputs.map(\.spec))
    var traced = output
    traced.trace = append(.operation(call), output.spec)
    return traced
  }

  /// A packed weight with its place on the tape.
  func packed(_ source: Tensor, _ shape: WeightShape, _ packed: Tensor) -> Tensor {
    guard let entry = source.trace?.entry else { return packed }
    var traced = packed
    traced.trace = append(.packed(source: entry, shape, source.shape), packed.spec)
    return traced
  }

  func recomputed(_ input: Tensor, _ source: Int, _ body: @escaping @Sendable (Tensor) throws -> Tensor)
    throws -> Tensor
  {
    let wasPaused = state.withLock { state in
      defer { state.isPaused = true }
      return state.isPaused
    }
    defer { state.withLock { $0.isPaused = wasPaused } }
    var output = try body(input).untraced
    state.withLock { $0.isPaused = wasPaused }
    output.trace = append(
      .recomputed(Recomputation(source: source, input: input.untraced, body: body)), output.spec)
    return output
  }

  /// The gradient of a number at watched tensors, times `scale`; nil where none arrives. The tape is consumed: its
  /// tensors are constants from here on.
  ///
  /// Throws `GradientError` for a loss that is not one number of this tape, and what the rules throw.
  public func gradients(of loss: Tensor, scale: Float = 1, at leaves: [Tensor]) throws -> [Tensor?] {
    guard let trace = loss.trace, trace.tape === self else { throw GradientError.untracedLoss(loss.spec) }
    guard loss.shape.count == 1, loss.dtype.isFloatingPoint else {
      throw GradientError.lossIsNotOneNumber(loss.spec)
    }
    defer { state.withLock { $0 = State(isConsumed: true) } }
    let wanted = Set(leaves.compactMap { $0.trace?.tape === self ? $0.trace?.entry : nil })
    var found: [Int: Tensor] = [:]
    var slots = [trace.entry: try Tensor.fill(scale, loss.shape, dtype: loss.dtype, on: loss.device)]
    try stage("backward") {
      while let (index, entry) = state.withLock({ state in
        state.entries.popLast().map { (state.entries.count, $0) }
      }) {
        guard let slot = slots.removeValue(forKey: index) else { continue }
        let gradient = try slot.reshaped(entry.spec.shape)
        if wanted.contains(index) { found[index] = gradient }
        try layer(entry.path) { try pass(gradient, through: entry, &slots) }
      }
    }
    return leaves.map { $0.trace.flatMap { found[$0.entry] } }
  }

  private func pass(_ gradient: Tensor, through entry: Entry, _ slots: inout [Int: Tensor]) throws {
    switch entry.step {
    case .watched: break
    case .packed(let source, let shape, let checkpointShape):
      // Products give a weight's gradient row by row.
      let back = try gradient.reshaped([shape.taps, shape.channels, shape.columns]).transposed([2, 1, 0])
      try add(back.reshaped(checkpointShape), to: source, &slots)
    case .recomputed(let recomputation):
      // Its steps go to the end of the tape, where the backward pass meets them next.
      var input = recomputation.input
      input.trace = Trace(tape: self, entry: recomputation.source)
      let output = try recomputation.body(input)
      if let again = output.trace { try add(gradient, to: again.entry, &slots) }
    case .operation(let call):
      let needed = call.sources.map { $0 != nil }
      switch rule(call.operation) {
      case .none, .undefined: break
      case .decomposed:
        guard let decomposition = call.operation.definition.decomposition else { return }
        let inputs = zip(call.inputs, call.sources).compactMap { input, source in
          var input = input
          input?.trace = source.map { Trace(tape: self, entry: $0) }
          return input
        }
        let output = try decomposition(inputs)
        if let again = output.trace { try add(gradient, to: again.entry, &slots) }
      case .rule(_, let pass):
        let gradients = try pass(
          GradientCall(
            gradient: gradient, specs: call.specs, needed: needed, inputs: call.inputs, kept: call.output))
        for (source, gradient) in zip(call.sources, gradients) {
          if let source, let gradient { try add(gradient, to: source, &slots) }
        }
      }
    }
  }

  private func add(_ gradient: Tensor, to entry: Int, _ slots: inout [Int: Tensor]) throws {
    guard let known = slots[entry] else {
      slots[entry] = gradient
      return
    }
    slots[entry] = try known + gradient.reshaped(known.shape)
  }
}
