import Foundation
import Langevin
import LangevinCPU
import LangevinTensor
import LangevinValidation
import Synchronization

/// Times workloads on devices, checks their results, and says how near to its ceilings each device came.
///
/// Within a round every device has its turn, so that a machine that slows down or heats up slows all alike.
public struct Bench: Sendable {
  /// Warm runs of each workload on each device.
  public var rounds = 5
  /// Asked between runs; once it says so, the report is what there is.
  public var shouldStop: @Sendable () -> Bool = { false }
  /// Told the report after each workload.
  public var kept: @Sendable (BenchReport) -> Void = { _ in }
  /// Told what is being done, in a line.
  public var progress: @Sendable (String) -> Void = { _ in }
  private let subjects: [Validator.Subject]
  private let validator: Validator

  /// Seconds below which a run is repeated and shared out: clocks and synchronising cost microseconds.
  private static let shortest = 0.01
  /// Seconds of recorded runs after which a device's kernels count as known.
  private static let recorded = 2.0

  /// A bench of these devices; `version` is the tool's. The CPU backend is what results are held to.
  public init(_ subjects: [Validator.Subject], version: String) {
    self.subjects = subjects
    validator = Validator(version: version, reference: Device(CPUBackend()))
  }

  /// Measures what `model` calls itself, one workload after the other.
  ///
  /// A device that fails is reported in its rows, and where it cannot be used any more in `devices`; the others
  /// go on. Throws only what the CPU backend throws as the reference.
  public func run(_ suite: BenchSuite, model: String?, _ workloads: [BenchWorkload]) throws -> BenchReport {
    var report = BenchReport(version: validator.version, suite: suite, model: model, rounds: rounds)
    report.devices = subjects.map { .init(name: $0.device.name, description: $0.description) }
    let resident = ProcessMemory.resident
    for (index, subject) in subjects.enumerated() {
      progress("the ceilings of \(subject.device.name)")
      do {
        report.devices[index].ceilings = try Ceilings.measure(on: subject.device)
      } catch {
        report.devices[index].failure = "\(error)"
        report.isPartial = true
      }
    }
    for workload in workloads {
      if shouldStop() {
        report.isPartial = true
        break
      }
      try measure(workload, above: resident, &report)
      kept(report)
    }
    report.rank()
    return report
  }

  /// A workload on one device, while it is measured.
  private struct Turn {
    let index: Int
    let device: Device
    var row: BenchReport.Row
    var run: BenchWorkload.Run
    /// Runs of one measurement.
    var repeats = 1
    var wall: [Double] = []
    var kernels: [Double] = []
  }

  private func measure(_ workload: BenchWorkload, above resident: Int, _ report: inout BenchReport) throws {
    progress(workload.name)
    // Short workloads need no more lines than their names.
    var told = ContinuousClock.now
    func tell(_ what: String) {
      guard ContinuousClock.now - told > .seconds(2) else { return }
      progress("\(workload.name): \(what)")
      told = .now
    }
    var turns: [Turn] = []
    var results: [Int: [Float]] = [:]
    for (index, subject) in subjects.enumerated()
    where report.devices[index].failure == nil && !shouldStop() {
      tell("first run on \(subject.device.name)")
      var row = BenchReport.Row(
        name: workload.name, device: subject.device.name, dtype: workload.dtype,
        verdict: .init(isValidated: false, note: "not checked"))
      do {
        let (run, values) = try start(workload, on: subject.device, report.devices[index].ceilings, &row)
        results[index] = values
        turns.append(Turn(index: index, device: subject.device, row: row, run: run))
      } catch {
        fail(&row, error, index, &report)
        report.rows.append(row)
      }
    }
    tell("checking the results")
    try judge(workload, &turns, results)
    results = [:]
    let hasPeak = subjects.count == 1 && ProcessMemory.resetPeak()
    for round in 0..<rounds {
      for offset in turns.indices {
        // Each device begins a round in its turn: what ran before leaves caches and clocks behind.
        let position = (round + offset) % turns.count
        guard turns[position].row.failure == nil else { continue }
        tell("round \(round + 1) of \(rounds) on \(turns[position].device.name)")
        if shouldStop() {
          report.isPartial = true
          break
        }
        do {
          try time(&turns[position], isFirst: round == 0)
        } catch {
          fail(&turns[position].row, error, turns[position].index, &report)
        }
      }
    }
    for turn in turns {
      var row = turn.row
      row.wall = Sample(turn.wall)
      row.kernels = Sample(turn.kernels)
      row.devicePeak = turn.device.backend.memory.highWater
      row.residentPeak = hasPeak ? ProcessMemory.peak - resident : nil
      report.rows.append(row)
    }
    if shouldStop() { report.isPartial = true }
  }

  /// Loads, runs once and reads the result.
  private func start(
    _ workload: BenchWorkload, on device: Device, _ ceilings: Ceilings?,
    _ row: inout BenchReport.Row
  ) throws -> (run: BenchWorkload.Run, values: [Float]) {
    var mark = ContinuousClock.now
    func lap() -> Double {
      defer { mark = .now }
      return (ContinuousClock.now - mark) / .seconds(1)
    }
    let run = try workload.prepare(device)
    try device.backend.synchronize()
    row.load = lap()

    let works = Mutex<[Work]>([])
    device.observe { event in
      works.withLock { $0.append(event.operation.work(inputs: event.inputs, output: event.output)) }
    }
    defer { device.observe(nil) }
    func decompositions() -> Int { device.decompositions.values.reduce(0, +) }
    let (before, decomposed) = (device.fallbacks.operations, decompositions())
    _ = lap()
    let read = try run()
    try device.backend.synchronize()
    row.cold = lap()
    device.observe(nil)
    row.fallbacks = device.fallbacks.operations - before
    row.decompositions = decompositions() - decomposed
    let list = works.withLock { $0 }
    row.work = list.reduce(Work(), +)
    row.floor = ceilings.map { ceilings in list.reduce(0) { $0 + ceilings.seconds($1) } }
    return (run, try read())
  }

  /// Decides which results are right.
  private func judge(_ workload: BenchWorkload, _ turns: inout [Turn], _ results: [Int: [Float]]) throws {
    guard !turns.isEmpty else { return }
    switch workload.check {
    case .operation(let test):
      for position in turns.indices where !shouldStop() {
        let subject = subjects[turns[position].index]
        let found = try validator.run(
          test, dtype: workload.dtype, on: subject)
        turns[position].row.verdict = .init(found)
      }
    case .reference(let tolerance):
      let own = turns.first { $0.device.backend is CPUBackend }
      let expected = try own.flatMap { results[$0.index] } ?? reference(workload)
      for position in turns.indices {
        let isReference = turns[position].index == own?.index
        turns[position].row.verdict = .init(
          results[turns[position].index] ?? [], against: expected, tolerance: tolerance,
          isReference: isReference)
      }
    }
  }

  private func reference(_ workload: BenchWorkload) throws -> [Float] {
    progress("\(workload.name) on the CPU backend, to compare with")
    // A backend of its own, whose memory goes with it.
    return try workload.prepare(Device(CPUBackend()))()()
  }

  /// One round of one device.
  private func time(_ turn: inout Turn, isFirst: Bool) throws {
    let backend = turn.device.backend
    waitUntilIdle()
    func seconds(_ repeats: Int) throws -> Double {
      try backend.synchronize()
      let start = ContinuousClock.now
      for _ in 0..<repeats { _ = try turn.run() }
      try backend.synchronize()
      return (ContinuousClock.now - start) / .seconds(repeats)
    }
    if isFirst {
      // Not counted: it finds out how many runs one measurement takes.
      let once = (turn.row.cold ?? 0) > 100 * Bench.shortest ? 1 : try seconds(1)
      turn.repeats = max(1, min(10_000, Int(Bench.shortest / max(once, 1e-6))))
    }
    turn.wall.append(try seconds(turn.repeats))
    guard turn.kernels.reduce(0, +) < Bench.recorded else { return }
    try backend.startRecording()
    defer { try? backend.stopRecording() }
    _ = try turn.run()
    let records = try backend.takeRecords()
    turn.row.launches = records.count
    turn.kernels.append(records.reduce(0) { $0 + Double($1.duration) * 1e-9 })
  }

  /// Notes why a row has no times, and whether the device is lost with it.
  private func fail(
    _ row: inout BenchReport.Row, _ error: any Error, _ index: Int, _ report: inout BenchReport
  ) {
    row.failure = "\(error)"
    row.verdict = .init(isValidated: false, note: "it failed")
    let device = subjects[index].device
    progress("\(device.name): \(error)")
    do {
      let probe = try Tensor.fill(3, [5], on: device).floats()
      guard probe != [3, 3, 3, 3, 3] else { return }
      report.devices[index].failure = "it computes no more after: \(error)"
    } catch {
      report.devices[index].failure = "\(error)"
    }
    report.isPartial = true
  }
}

extension Ceilings {
  /// What so much work takes at least.
  public func seconds(_ work: Work) -> Double { max(work.flops / flops, work.bytes / bandwidth) }
}

extension BenchReport.Verdict {
  /// The verdict that the validator came to.
  init(_ result: CaseResult) {
    switch result.outcome {
    case .passed:
      let ratio = result.errors.map { String(format: "%.2g", $0.ratio) } ?? "0"
      self.init(isValidated: true, note: "error \(ratio) of the tolerance")
    case .failed: self.init(isValidated: false, note: result.problem)
    case .skipped: self.init(isValidated: false, note: result.reason ?? "skipped")
    }
  }

  /// By the largest difference, relative to the largest expected number.
  init(_ values: [Float], against expected: [Float], tolerance: Float, isReference: Bool = false) {
    guard values.count == expected.count, values.allSatisfy(\.isFinite) else {
      self.init(
        isValidated: false,
        note: values.count == expected.count
          ? "its result is not finite" : "its result has \(values.count) numbers, not \(expected.count)")
      return
    }
    if isReference {
      self.init(isValidated: true, note: "the reference")
      return
    }
    let scale = expected.reduce(0) { max($0, abs($1)) }
    let error =
      zip(values, expected).reduce(0) { max($0, abs($1.0 - $1.1)) } / max(scale, .leastNormalMagnitude)
    let figure = String(format: "%.1e", error)
    self.init(
      isValidated: error <= tolerance,
      note: error <= tolerance
        ? "differs from cpu by \(figure)" : "differs from cpu by \(figure), more than \(tolerance)")
  }
}
