import LangevinTensor

/// Runs rows of the table on devices and says what each device gets wrong.
///
/// Around every buffer lie guard regions, outputs are poisoned before each run, and each case runs several times
/// on the same buffers, which must give the same bits. What is expected, and how exactly, is `Expectation`'s.
public struct Validator: Sendable {
  /// A device and what a report says of it.
  public struct Subject: Sendable {
    /// The device that is validated.
    public let device: Device
    /// With driver and version.
    public let description: String
    /// The form of its kernels; nil where it has only one.
    public let family: String?

    /// A device and what to call it in the report.
    public init(_ device: Device, description: String, family: String? = nil) {
      self.device = device
      self.description = description
      self.family = family
    }

    /// A device, called what its backend says that it is.
    public init(_ device: Device) {
      self.init(device, description: device.identity.summary, family: device.identity.kernels)
    }
  }

  /// What has just been found.
  public enum Progress: Sendable {
    case result(CaseResult, device: String)
    /// All rows of an operation are done.
    case verdict(OperationVerdict, device: String)
    /// The device cannot be used any more.
    case lost(device: String, reason: String)
  }

  /// The tool's, which reports and replays carry.
  public var version: String
  /// The seed of the random inputs.
  public var seed: UInt64 = 1
  /// Storage types of edge cases.
  public var dtypes: [DType] = [.float32, .float16, .bfloat16]
  /// Storage types of model cases.
  public var modelDTypes: [DType] = [.float32]
  /// How often a case runs on the same buffers.
  public var repeats = 3
  /// Whether the law of weights is checked too, as a row of its own.
  public var checksPacking = false
  /// Whether failing cases are made smaller.
  public var shrinks = true
  /// A device that is itself validated against float64, for what is too large for that: the CPU backend.
  public let reference: Device

  /// A validator with the settings of `langevin validate`.
  public init(version: String, reference: Device) {
    self.version = version
    self.reference = reference
  }

  /// Runs cases on one device; see the other `run`.
  public func run(
    _ cases: [OperationCase], on device: Device, description: String = "", family: String? = nil
  ) throws -> ValidationReport {
    try run(cases, on: [Subject(device, description: description, family: family)])
  }

  /// Runs cases on devices, which share the expectations: operation after operation, each on all devices.
  ///
  /// A device that fails for good is reported and the others go on. `shouldStop` is asked before each case; once
  /// it says so, the report is what there is and says that it is partial. `kept` is told the report so far a few
  /// times a second. Throws what the reference throws.
  public func run(
    _ cases: [OperationCase], on subjects: [Subject], shouldStop: () -> Bool = { false },
    kept: (ValidationReport) -> Void = { _ in }, progress: (Progress) -> Void = { _ in }
  ) throws -> ValidationReport {
    var lastKept = ContinuousClock.now
    /// The report so far, now and then.
    func keep(_ report: ValidationReport, _ verdicts: [OperationVerdict]) {
      guard ContinuousClock.now - lastKept > .milliseconds(250) else { return }
      var report = report
      report.isPartial = true
      for (index, verdict) in verdicts.enumerated() where verdict.isBegun {
        report.devices[index].operations.append(verdict)
      }
      kept(report)
      lastKept = .now
    }
    var report = ValidationReport(version: version, seed: seed)
    let planned = cases.reduce(0) { $0 + dtypes(of: $1).count }
    report.devices = subjects.map {
      var device = DeviceReport(name: $0.device.name, description: $0.description, family: $0.family)
      device.planned = planned
      return device
    }
    for name in uniqued(cases.map { $0.operation(.float32).name }) {
      var verdicts = subjects.map { _ in OperationVerdict(operation: name) }
      rows: for test in cases where test.operation(.float32).name == name {
        for dtype in dtypes(of: test) {
          var known: (inputs: [Operand], expectation: Expectation)?
          for (index, subject) in subjects.enumerated() where report.devices[index].failure == nil {
            if shouldStop() {
              report.isPartial = true
              break rows
            }
            let prepared = try known ?? prepare(test, dtype)
            // A model's operands are large.
            if index + 1 < subjects.count { known = prepared }
            var result = try run(test, dtype, prepared.inputs, prepared.expectation, on: subject)
            if result.outcome == .failed {
              try explain(&result, test, dtype, on: subject, shouldStop: shouldStop)
            }
            verdicts[index].add(result)
            report.devices[index].cases.append(result)
            report.devices[index].seconds += result.seconds
            progress(.result(result, device: subject.device.name))
            keep(report, verdicts)
            if result.isDeviceError, let reason = Validator.failure(of: subject.device) {
              report.devices[index].failure = reason
              report.isPartial = true
              progress(.lost(device: subject.device.name, reason: reason))
            }
          }
        }
      }
      for (index, verdict) in verdicts.enumerated() where verdict.isBegun {
        report.devices[index].operations.append(verdict)
        progress(.verdict(verdict, device: subjects[index].device.name))
      }
      if report.isPartial, shouldStop() { break }
    }
    if checksPacking {
      for (index, subject) in subjects.enumerated()
      where report.devices[index].failure == nil && !report.isPartial {
        var verdict = OperationVerdict(operation: Validator.packing)
        checkPacking(on: subject) { result in
          verdict.add(result)
          report.devices[index].cases.append(result)
          report.devices[index].planned += 1
          progress(.result(result, device: subject.device.name))
        }
        report.devices[index].operations.append(verdict)
        progress(.verdict(verdict, device: subject.device.name))
      }
    }
    return report
  }

  /// Runs one case in one dtype, without making it smaller. Throws what the reference throws.
  public func run(_ test: OperationCase, dtype: DType, on subject: Subject) throws -> CaseResult {
    let (inputs, expectation) = try prepare(test, dtype)
    var result = try run(test, dtype, inputs, expectation, on: subject)
    if result.outcome == .failed {
      result.replay = Replay(version: version, test: test, dtype: dtype, seed: seed).text
    }
    return result
  }

  /// Those in which a row differs from what it is in float32.
  private func dtypes(of test: OperationCase) -> [DType] {
    test.storages(among: test.size == .model ? modelDTypes : dtypes)
  }

  private func prepare(_ test: OperationCase, _ dtype: DType) throws -> (
    inputs: [Operand], expectation: Expectation
  ) {
    let inputs = test.operands(dtype: dtype, seed: seed)
    return (
      inputs, try Expectation(test.operation(dtype), inputs, seed: seed, reference: reference)
    )
  }

  private func run(
    _ test: OperationCase, _ dtype: DType, _ inputs: [Operand], _ expectation: Expectation,
    on subject: Subject
  ) throws -> CaseResult {
    let operation = test.operation(dtype)
    var result = CaseResult(
      name: test.name, operation: operation.name, dtype: dtype, inputs: inputs.map(\.spec),
      output: expectation.output, models: test.models, outcome: .passed)
    let backend = subject.device.backend
    guard backend.supports(operation, inputs: result.inputs) else {
      result.outcome = .skipped
      result.reason = "\(backend.name) has no kernel for it"
      return result
    }
    do {
      let run = try GuardedRun(
        operation, inputs, output: expectation.output, sliced: test.sliced, repeats: repeats, on: backend)
      result.faults = run.faults
      result.seconds = run.seconds
      if let output = run.output {
        let errors = try expectation.compare(output)
        result.errors = errors
        // Not `> 1`: whatever is not a number does not pass either.
        if !(errors.ratio <= 1) {
          result.faults.insert(.error(ratio: .init(wrappedValue: errors.ratio)), at: 0)
        }
      }
    } catch let TensorError.outOfMemory(device, requested, inUse, limit) {
      // Others may use a device too, so nobody can count on all that it offers; but on a quarter of it.
      let buffers = GuardedRun.byteCount(result.inputs, output: result.output, sliced: test.sliced)
      let needed = max(buffers, inUse + requested)
      let error = TensorError.outOfMemory(device: device, requested: requested, inUse: inUse, limit: limit)
      guard needed <= backend.memory.limit / 4 else {
        result.outcome = .skipped
        result.lacksMemory = true
        result.reason = "\(error)"
        return result
      }
      result.faults.append(
        .failed("\(error), though the case needs no more than \(needed) of the \(backend.memory.limit) bytes")
      )
    } catch {
      result.faults.append(.failed("\(error)"))
    }
    if !result.faults.isEmpty { result.outcome = .failed }
    return result
  }

  /// How to run a failure again, and the smallest that fails in the same way.
  private func explain(
    _ result: inout CaseResult, _ test: OperationCase, _ dtype: DType, on subject: Subject,
    shouldStop: () -> Bool
  ) throws {
    result.replay = Replay(version: version, test: test, dtype: dtype, seed: seed).text
    guard shrinks, !result.isDeviceError else { return }
    let start = ContinuousClock.now
    let smallest = try Shrinking.smallest(test) { candidate in
      guard ContinuousClock.now - start < .seconds(10), !shouldStop() else { return false }
      let (inputs, expectation) = try prepare(candidate, dtype)
      let result = try run(candidate, dtype, inputs, expectation, on: subject)
      return result.outcome == .failed && !result.isDeviceError
    }
    guard smallest != test else { return }
    result.smallest = CaseResult.Smallest(
      inputs: smallest.specs(dtype),
      replay: Replay(version: version, test: smallest, dtype: dtype, seed: seed).text)
  }

  /// Why a device does not even add; nil where it does.
  private static func failure(of device: Device) -> String? {
    do {
      let x = try Tensor([1, 2, 3] as [Float], [3], on: device)
      _ = try (x + x).floats()
      return nil
    } catch {
      return "\(error)"
    }
  }
}

extension CaseResult {
  /// The device said that it failed, rather than giving wrong numbers.
  fileprivate var isDeviceError: Bool {
    faults.contains { if case .failed = $0 { true } else { false } }
  }
}

/// In the order of their first appearance.
private func uniqued(_ names: [String]) -> [String] {
  var seen: Set<String> = []
  return names.filter { seen.insert($0).inserted }
}
