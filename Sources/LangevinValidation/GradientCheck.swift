import LangevinTensor

/// Whether an operation's gradient is the derivative of its value, in float64: both along random directions, the
/// derivative by central differences of fourth order of the reference.
public enum GradientCheck {
  /// What a rule may be off by, relative to the derivative.
  public static let tolerance = 1e-6

  /// The rule of one kind of operation.
  public struct Verdict: Sendable, Codable {
    /// The kind's name.
    public let operation: String
    /// How many cases were checked.
    public var cases = 0
    /// The largest error of them.
    public var worst = 0.0
    /// The case that has it.
    public var worstCase = ""

    /// At least one case was checked, and all were within the tolerance.
    public var passes: Bool { cases > 0 && worst <= tolerance }
  }

  /// Checks the rules of all operations that have one, on those of the cases that are small and smooth, kind after
  /// kind. Throws what a rule throws.
  public static func verdicts(
    _ cases: [OperationCase], seed: UInt64, shouldStop: () -> Bool = { false },
    progress: (Verdict) -> Void = { _ in }
  ) throws -> [Verdict] {
    var verdicts: [Verdict] = []
    for kind in Operation.Kind.allCases {
      let rows = cases.filter { $0.operation(.float32).kind == kind && hasRule($0.operation(.float32)) }
      guard !rows.isEmpty else { continue }
      var verdict = Verdict(operation: kind.rawValue)
      for test in rows where isCheckable(test) {
        if shouldStop() { return verdicts }
        guard let error = try error(test, seed: seed) else { continue }
        verdict.cases += 1
        if !(error <= verdict.worst) { (verdict.worst, verdict.worstCase) = (error, test.name) }
      }
      verdicts.append(verdict)
      progress(verdict)
    }
    return verdicts
  }

  private static func hasRule(_ operation: Operation) -> Bool {
    switch operation.definition.gradient {
    case .none, .undefined: false
    case .decomposed, .rule: true
    }
  }

  /// Small enough for float64, and no row whose rounding is the point: a rounded operand's gradient passes through.
  package static func isCheckable(_ test: OperationCase) -> Bool {
    let operation = test.operation(.float32)
    let isCast = if case .cast(let dtype) = operation { dtype != .float32 } else { false }
    let isSmooth = test.kinds.allSatisfy { kind in
      switch kind {
      case .normal, .wide, .positive, .ids, .mask, .blocks: true
      case .mean, .narrow, .constant, .nonFinite, .extremes, .denormal, .equalRows: false
      }
    }
    return isSmooth && !isCast && !operation.roundsLeft && test.inputs.allSatisfy { $0.shape.count <= 3000 }
  }

  /// The largest difference over the inputs and directions of a case, relative to the derivative or, where terms cancel,
  /// to what random terms of their size would sum to.
  ///
  /// Nil where no input has a gradient. Throws what the rule throws.
  public static func error(_ test: OperationCase, seed: UInt64, directions: Int = 3) throws -> Double? {
    try error(test, seed: seed, directions: directions) { $0.definition.gradient }
  }

  /// As above, by other rules.
  package static func error(
    _ test: OperationCase, seed: UInt64, directions: Int = 3,
    rule: @escaping @Sendable (Operation) -> GradientRule
  ) throws -> Double? {
    let device = Device(ReferenceBackend())
    let operation = test.operation(.float32)
    let inputs = try test.tensors(test.arrays(dtype: .float32, seed: seed), on: device)
    let output = try operation.output(of: inputs.map(\.spec))
    guard output.dtype.isFloatingPoint, output.shape.count > 0 else { return nil }
    let cotangent = Operand(output, .normal, seed: seed &+ 77).array.values

    func value(_ inputs: [Tensor]) throws -> Double {
      let y = try ReferenceBackend.values(of: Tensor.apply(operation, inputs, on: device))
      return zip(y, cotangent).reduce(0) { $0 + $1.0 * $1.1 }
    }

    let tape = Tape(rule: rule)
    let watched = inputs.map { $0.dtype.isFloatingPoint ? tape.watch($0) : $0 }
    let y = try Tensor.apply(operation, watched, on: device)
    let weights = try HostArray(output, cotangent).tensor(on: device)
    let axes = Array(0..<output.shape.rank)
    // Differences round to some 1e-12 of the value, so a derivative of 1e-5 of it is the least that shows.
    let values = try ReferenceBackend.values(of: y)
    let floor = 1e-5 * zip(values, cotangent).reduce(0) { $0 + abs($1.0 * $1.1) }
    let loss = try (y * weights).reduced(.sum, axes: axes).reshaped([1])
    let gradients: [Tensor?]
    do { gradients = try tape.gradients(of: loss, at: watched) } catch GradientError.untracedLoss {
      return nil
    }

    // Kinks are passed with short steps: between them those operations are straight lines.
    let kinked: Set<String> = ["abs", "clamp", "minimum", "maximum", "reduce_minimum", "reduce_maximum"]
    let step = kinked.contains(operation.name) ? 0x1p-20 : 0x1p-13
    var worst: Double?
    for (index, gradient) in gradients.enumerated() {
      guard let gradient, inputs[index].shape.count > 0 else { continue }
      let slope = try ReferenceBackend.values(of: gradient)
      for direction in 0..<directions {
        var generator = Generator(seed: seed &+ UInt64(index * 31 + direction))
        let signs = slope.map { _ in generator.next() & 1 == 0 ? 1.0 : -1.0 }
        func moved(_ steps: Double) throws -> Double {
          var inputs = inputs
          let delta = try HostArray(inputs[index].spec, signs.map { $0 * steps * step }).tensor(on: device)
          inputs[index] = try inputs[index] + delta
          return try value(inputs)
        }
        let measured = try (8 * (moved(1) - moved(-1)) - moved(2) + moved(-2)) / (12 * step)
        let claimed = zip(slope, signs).reduce(0) { $0 + $1.0 * $1.1 }
        let size = slope.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let error = abs(measured - claimed) / max(abs(claimed), size, floor, 1e-12)
        // What is not a number is worst.
        worst = max(worst ?? 0, error.isNaN ? .infinity : error)
      }
    }
    return worst
  }
}
