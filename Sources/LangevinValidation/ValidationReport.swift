import LangevinTensor

/// What a validation found: the JSON of `langevin validate --json`.
public struct ValidationReport: Sendable, Codable {
  /// Changes when a field changes its meaning.
  public static let currentFormat = 2

  /// `currentFormat` of the writer.
  public var format = ValidationReport.currentFormat
  /// The version of the tool that validated.
  public var version: String
  /// The seed of the random inputs.
  public var seed: UInt64
  /// The run was stopped, or a device failed, before everything was run.
  public var isPartial = false
  /// One a kind of operation, where gradients were asked for.
  public var rules: [GradientCheck.Verdict]?
  /// In the order in which they were named.
  public var devices: [DeviceReport] = []

  /// No rule and no device had a failing case, and no device was lost.
  public var passes: Bool {
    devices.allSatisfy { $0.passes } && (rules ?? []).allSatisfy { $0.passes }
  }

  /// What was found on the device of this name.
  public func device(_ name: String) -> DeviceReport? { devices.first { $0.name == name } }
}

/// What was found on one device.
public struct DeviceReport: Sendable, Codable {
  /// The device's name: `cpu`, `opencl:0`.
  public var name: String
  /// What it is, with driver and version.
  public var description: String
  /// The OpenCL kernels' form; nil for the CPU backend.
  public var family: String?
  /// Why the device could not be used any more.
  public var failure: String?
  /// Of the device's runs, without the reference's.
  public var seconds = 0.0
  /// How many cases were to run.
  public var planned = 0
  /// One an operation, in the table's order.
  public var operations: [OperationVerdict] = []
  /// One a case and dtype, in the order in which they ran.
  public var cases: [CaseResult] = []

  /// Nothing failed, the device was not lost, and no operation was left out for want of memory.
  public var passes: Bool { failure == nil && operations.allSatisfy { $0.failed == 0 } && starved.isEmpty }

  /// Operations of which no case fitted the device's memory.
  public var starved: [OperationVerdict] { operations.filter { $0.lacksMemory > 0 && $0.ran == 0 } }

  /// Operations of which some cases ran, but fewer than did not fit the device's memory.
  public var hardlyRun: [OperationVerdict] {
    operations.filter { (1..<max($0.lacksMemory, 1)).contains($0.ran) }
  }

  /// The verdict in words. It says that the device passes only where the run came to its end and most of every
  /// operation ran.
  public var verdict: String {
    func list(_ verdicts: [OperationVerdict]) -> String {
      verdicts.map { "\($0.operation) (\($0.ran) of \($0.ran + $0.lacksMemory) cases ran)" }
        .joined(separator: ", ")
    }
    if failure != nil || operations.contains(where: { $0.failed > 0 }) { return "FAILS" }
    if !starved.isEmpty { return "is NOT VALIDATED for want of memory in \(list(starved + hardlyRun))" }
    if cases.count < planned {
      return "stopped after \(cases.count) of \(planned) cases, of which none failed"
    }
    if !hardlyRun.isEmpty { return "is hardly validated for want of memory in \(list(hardlyRun))" }
    return "passes"
  }

  /// The verdict on an operation by `Operation.name`; nil where it was not run.
  public func verdict(_ operation: String) -> OperationVerdict? {
    operations.first { $0.operation == operation }
  }
}

/// One operation on one device.
public struct OperationVerdict: Sendable, Codable {
  /// The operation's name.
  public var operation: String
  /// How many cases passed.
  public var passed = 0
  /// How many cases failed.
  public var failed = 0
  /// Without a kernel or without the memory for it.
  public var skipped = 0
  /// Those of the skipped for which the device has too little memory.
  public var lacksMemory = 0
  /// Those that the device computed something in; the rest has no elements, or was skipped.
  public var ran = 0
  /// The largest error relative to what is allowed.
  @CodableNumber public var worst: Double = 0
  /// The largest error in units in the last place; large where terms cancel, which the tolerance knows.
  @CodableNumber public var ulp: Double = 0
  /// Of the device's runs.
  public var seconds = 0.0

  /// It ran, and nothing failed: what a benchmark may rank.
  public var passes: Bool { failed == 0 && ran > 0 }

  /// Whether any case of it was run or skipped.
  var isBegun: Bool { passed + failed + skipped > 0 }

  mutating func add(_ result: CaseResult) {
    switch result.outcome {
    case .passed: passed += 1
    case .failed: failed += 1
    case .skipped: skipped += 1
    }
    if result.outcome != .skipped, result.output.shape.count > 0 { ran += 1 }
    if result.lacksMemory { lacksMemory += 1 }
    worst = max(worst, result.errors?.ratio ?? 0)
    ulp = max(ulp, result.errors?.ulp.maximum ?? 0)
    seconds += result.seconds
  }
}

/// One case in one dtype on one device.
public struct CaseResult: Sendable, Codable {
  /// What became of a case.
  public enum Outcome: String, Sendable, Codable { case passed, failed, skipped }

  /// The row of the table.
  public var name: String
  /// The operation's name.
  public var operation: String
  /// Storage of the operands.
  public var dtype: DType
  /// The operands' shapes and dtypes.
  public var inputs: [TensorSpec]
  /// The output's shape and dtype.
  public var output: TensorSpec
  /// Which models dispatch it; empty for an edge case.
  public var models: [String]
  /// Whether it passed.
  public var outcome: Outcome
  /// Nil where it did not run to its end, or has no elements.
  public var errors: ErrorSummary?
  /// Empty where it passed; of a skipped one nothing.
  public var faults: [Fault] = []
  /// Why it was skipped.
  public var reason: String?
  /// Whether it was skipped for want of memory.
  public var lacksMemory = false
  /// Of the fastest run.
  public var seconds = 0.0
  /// What `--replay` takes, where it failed.
  public var replay: String?
  /// The smallest shape that was found to fail, and what `--replay` takes for it.
  public var smallest: Smallest?

  /// A failing case that was made smaller.
  public struct Smallest: Sendable, Codable {
    /// The operands' shapes and dtypes.
    public var inputs: [TensorSpec]
    /// The line that runs the case again.
    public var replay: String
  }

  /// What is wrong in a line.
  public var problem: String {
    let list = faults.map(\.description).joined(separator: "; ")
    guard let errors, errors.ratio > 1 else { return list }
    let place = errors.worst.map(String.init).joined(separator: ", ")
    let other = errors.referenceError > 0 ? "; the CPU device \(number(errors.referenceError)) of it" : ""
    return list + " at [\(place)]: \(errors.value) instead of \(errors.expected)\(other)"
  }

  /// That the trusted device is wrong here, by float64, and how far.
  public var referenceFault: String? {
    guard let errors, errors.referenceError > 1 else { return nil }
    return "the CPU device is off in \(name), by float64: \(number(errors.referenceError)) of the tolerance"
  }
}
