import Foundation
import Langevin
import LangevinCPU
import LangevinDiffusion
import LangevinNN
import LangevinTensor
import LangevinValidation
import Synchronization

import enum LangevinTensor.Operation

/// How long and how widely to search.
public struct TunerSettings: Sendable {
  /// Seconds for all targets together.
  public var budget = 300.0
  /// Whether to search again where an earlier search has been.
  public var again = false
  /// What the device can do at most. A kernel that reaches 95 % of it is not searched for any further; nil searches all.
  public var peak: PeakRates?
  /// How many processes try candidates at once, where they are tried in processes of their own.
  public var processes = 1
  /// The tool's version, for the report.
  public var version = ""

  /// Five minutes of search at most.
  public init() {}
}

/// Searches for the fastest right parameters of kernels on one device, key by key, by successive halving: all
/// candidates are timed once, what is 1.5 times behind is dropped, and the better half is timed again, twice as
/// long, until two are left to be set against the shipped ones. What was dropped at every one of at least two alike shapes
/// is not tried at a third.
///
/// A candidate counts only when it gives the shipped parameters' numbers on the shape itself and passes
/// validation on edge cases and on that shape.
public final class Tuner<Backend: TunableBackend> {
  /// What is searched for.
  public typealias Parameters = Backend.Parameters
  /// What is searched for one by one.
  public typealias Target = TuningTarget<Backend.Key>
  /// What a search comes to.
  public typealias Finding = TuningFinding<Backend.Key, Parameters>

  /// Where the search is.
  public enum Progress: Sendable {
    /// A key's search begins; `share` is its part of the work of all targets.
    case target(Target, index: Int, of: Int, share: Double)
    /// Seconds of one launch, the best so far and the shipped one's, and those left of the budget.
    case candidate(tried: Int, of: Int, best: Double, shipped: Double, left: Double)
    /// Parameters do not count.
    case rejected(Parameters, reason: String)
    /// A key's search is done, and what it found is in use.
    case result(TuningResult)
  }

  /// What has been found so far, which holds after an error too.
  public private(set) var report: TuningReport
  /// Tries a candidate where it can do no harm, in a process of its own; returns why it is not to be used.
  /// For drivers that may crash on what they are given. Called from several threads.
  public var isolated: (@Sendable (OperationCase, DType, Parameters) throws -> String?)?

  private let device: Device
  private let backend: Backend
  private let settings: TunerSettings
  private let validator: Validator
  private let subject: Validator.Subject
  private var progress: (Progress) throws -> Void = { _ in }
  private var start = ContinuousClock.now
  /// How parameters did under earlier keys of the same kernel, relative to the shipped ones: the better ones
  /// are tried first.
  private var standing: [Family: [Parameters: Double]] = [:]
  /// Of those, at how many keys they were timed, and at how many they were 1.5 times behind the best.
  private var losses: [Family: [Parameters: (timed: Int, lost: Int)]] = [:]
  /// Whether parameters passed the edge cases.
  private var edges: [EdgeKey: String?] = [:]

  private struct Family: Hashable {
    let operation: TunedOperation
    let dtype: DType
    let headSize: Int
  }

  private struct EdgeKey: Hashable {
    let family: Family
    let parameters: Parameters
  }

  /// A tuner of a device, whose backend is given once more with its type: `device.tunable` has it.
  public init(
    _ device: Device, _ backend: Backend, model: String, settings: TunerSettings = TunerSettings()
  ) {
    self.device = device
    self.backend = backend
    self.settings = settings
    let identity = backend.identity
    report = TuningReport(device: device.label, driver: identity.driver ?? "", model: model)
    var validator = Validator(version: settings.version, reference: Device(CPUBackend()))
    validator.repeats = 2
    validator.shrinks = false
    self.validator = validator
    subject = Validator.Subject(device, description: device.label, family: identity.kernels)
  }

  /// Searches for all targets, in their order, each with the part of the budget that its work is of the rest.
  /// What is found is stored at once.
  ///
  /// Throws `TensorError` where the device fails with the shipped parameters, what the backend throws where it
  /// cannot store a finding, and what `progress` throws to stop.
  public func run(_ targets: [Target], progress: @escaping (Progress) throws -> Void) throws {
    self.progress = progress
    start = .now
    let known = backend.tunedEntries
    let all = targets.reduce(0) { $0 + $1.flops }
    var rest = targets.filter { settings.again || known[$0.key] == nil }.reduce(0) { $0 + $1.flops }
    for (index, target) in targets.enumerated() {
      let shipped = backend.shippedParameters(target.key)
      if !settings.again, let entry = known[target.key] {
        report.results.append(TuningResult(target, entry, shipped: shipped, isKnown: true))
        continue
      }
      let left = settings.budget - elapsed
      guard left > 0 else {
        report.unreached.append("\(target.key.operation.rawValue) \(target.test.name)")
        continue
      }
      try progress(.target(target, index: index, of: targets.count, share: target.flops / max(all, 1)))
      let deadline = elapsed + left * target.flops / max(rest, 1)
      rest -= target.flops
      switch try search(target, until: deadline) {
      case .found(let result):
        report.results.append(result)
        try progress(.result(result))
      case .unrivalled: report.unrivalled.append("\(target.key.operation.rawValue) \(target.test.name)")
      case .atCeiling: report.atCeiling.append("\(target.key.operation.rawValue) \(target.test.name)")
      case .unreached: report.unreached.append("\(target.key.operation.rawValue) \(target.test.name)")
      }
    }
  }

  private var elapsed: Double { (ContinuousClock.now - start) / .seconds(1) }

  // MARK: One target

  /// Parameters under test and the times of their launches. The least counts: what else runs on the machine
  /// only ever adds time.
  private struct Candidate {
    let parameters: Parameters
    var times: [Double] = []
    var best: Double { times.min() ?? .infinity }
  }

  /// What came of a search.
  private enum Outcome {
    case found(TuningResult)
    /// No other parameters run here and give right numbers: nothing was compared, and nothing is kept.
    case unrivalled
    /// The shipped parameters are as fast as any could be.
    case atCeiling
    /// Time ran out before there was anything to compare.
    case unreached
  }

  private func search(_ target: Target, until deadline: Double) throws -> Outcome {
    let trial = try TunerTrial(target, on: device, backend)
    let space = ordered(backend.tuningSpace(target.key), for: target)
    var reasons: [Parameters: String] = [:]
    var asked: Set<Parameters> = []
    var rejected: [TuningResult.Rejection] = []
    func reject(_ parameters: Parameters, _ reason: String) throws {
      rejected.append(.init(parameters: "\(parameters)", reason: reason))
      try progress(.rejected(parameters, reason: reason))
    }

    var shipped = Candidate(parameters: backend.shippedParameters(target.key))
    let spill = try trial.launch(shipped.parameters).resources?.privateMemory ?? 0
    // The last target's validation has used the CPU backend.
    waitUntilIdle()
    let estimate = try trial.time(shipped.parameters, launches: 2).min() ?? 0
    // A few milliseconds a timing, so that the clock's steps do not count.
    let launches = max(2, min(20, Int(3e-3 / max(estimate, 1e-6))))
    shipped.times = try trial.time(shipped.parameters, launches: launches)
    if isAtCeiling(target, shipped.best) { return .atCeiling }

    var candidates: [Candidate] = []
    var tried = 0
    let rivals = space.filter { $0 != shipped.parameters }
    for (index, parameters) in rivals.enumerated() {
      // What was begun gets one candidate, however long the operands took.
      guard tried == 0 || elapsed < deadline else { break }
      let best = min(shipped.best, candidates.map(\.best).min() ?? .infinity)
      if isAtCeiling(target, best) { break }
      try progress(
        .candidate(
          tried: tried, of: rivals.count, best: best, shipped: shipped.best,
          left: max(0, settings.budget - elapsed)))
      tried += 1
      if asked.insert(parameters).inserted {
        // The next few at once: they are compiled beside each other, and timed alone.
        let next = Array(rivals[index..<min(index + max(settings.processes, 1), rivals.count)])
        asked.formUnion(next)
        reasons.merge(try reasonsAgainst(next, target)) { $1 }
      }
      if let reason = reasons[parameters] {
        try reject(parameters, reason)
        continue
      }
      do {
        let first = try trial.launch(parameters)
        if let fault = first.fault {
          try reject(parameters, "wrong: \(fault)")
          continue
        }
        if backend.countsSpills, let resources = first.resources, resources.privateMemory > spill {
          try reject(parameters, "it spills \(resources.privateMemory) bytes a work-item")
          continue
        }
        candidates.append(
          Candidate(parameters: parameters, times: try trial.time(parameters, launches: launches)))
      } catch let error as TensorError {
        try reject(parameters, "\(error)")
      }
    }
    guard !candidates.isEmpty else { return tried == rivals.count ? .unrivalled : .unreached }
    let compared = candidates.count
    remember(candidates, shipped: shipped, target)

    // The better half, twice as long, while there is time.
    var rounds = 1
    let measured = near(candidates)
    candidates = measured
    while candidates.count > 2, elapsed < deadline {
      candidates = Array(candidates.prefix((candidates.count + 1) / 2))
      rounds *= 2
      for index in candidates.indices where elapsed < deadline {
        candidates[index].times += try trial.time(
          candidates[index].parameters, launches: launches * min(rounds, 8))
      }
      candidates = near(candidates)
    }
    // In turn, so that the machine's drift hits all alike.
    var finalists = [shipped] + candidates.prefix(2)
    for round in 0..<5 where round < 2 || elapsed < deadline {
      for index in finalists.indices {
        finalists[index].times += try trial.time(finalists[index].parameters, launches: launches)
      }
    }
    shipped = finalists[0]
    // Where the finalists turn out wrong, those that they beat have their turn.
    let others =
      finalists.dropFirst()
      + measured.filter { one in !finalists.contains { $0.parameters == one.parameters } }
    let entry = try choose(
      shipped, Array(others).sorted { $0.best < $1.best }, target: target, timed: compared, reject: reject)
    try backend.keep(entry)
    return .found(
      TuningResult(target, entry, shipped: shipped.parameters, isKnown: false, rejected: rejected))
  }

  /// The fastest that passes validation, if it is faster than the shipped parameters by more than a clock's
  /// noise, and the next.
  private func choose(
    _ shipped: Candidate, _ candidates: [Candidate], target: Target, timed: Int,
    reject: (Parameters, String) throws -> Void
  ) throws -> Finding {
    var right: [Candidate] = []
    for candidate in candidates where candidate.best < 0.98 * shipped.best && right.count < 2 {
      if let fault = try fault(candidate.parameters, target) {
        try reject(candidate.parameters, fault)
      } else {
        right.append(candidate)
      }
    }
    right.append(shipped)
    return Finding(
      key: target.key, parameters: right[0].parameters,
      runnerUp: right.count > 1 ? right[1].parameters : nil, shippedSeconds: shipped.best,
      tunedSeconds: right[0].best, candidates: timed)
  }

  /// Sorted, without those that are 1.5 times behind the best.
  private func near(_ candidates: [Candidate]) -> [Candidate] {
    let sorted = candidates.sorted { $0.best < $1.best }
    let limit = 1.5 * (sorted.first?.best ?? 0)
    return sorted.filter { $0.best <= limit }
  }

  // MARK: What is not searched

  /// Whether no parameters could make it much faster. What stays in caches passes the memory's ceiling, so only
  /// arithmetic counts, and a convolution of fewer products than its definition has none.
  private func isAtCeiling(_ target: Target, _ seconds: Double) -> Bool {
    guard let peak = settings.peak, seconds > 0 else { return false }
    if case .conv2d = target.test.operation(target.dtype), target.key.operation == .product { return false }
    return target.work.flops / peak.flops > 0.95 * seconds
  }

  /// Why candidates are not to be used, each tried in a process of its own beside the others. Throws what `isolated`
  /// throws.
  private func reasonsAgainst(_ candidates: [Parameters], _ target: Target) throws -> [Parameters: String] {
    guard let isolated else { return [:] }
    let (test, dtype) = (target.test, target.dtype)
    let results = Mutex<[Parameters: Result<String?, any Error>]>([:])
    let group = DispatchGroup()
    // A thread each: it waits for its process, and a busy machine's thread pool would run one after the other.
    for candidate in candidates {
      group.enter()
      Thread.detachNewThread {
        let result = Result { try isolated(test, dtype, candidate) }
        results.withLock { $0[candidate] = result }
        group.leave()
      }
    }
    group.wait()
    return try results.withLock { $0 }.compactMapValues { try $0.get() }
  }

  // MARK: Order

  private func family(_ target: Target) -> Family {
    var size = 0
    if case .attention(let attention) = target.test.operation(target.dtype) {
      size = target.test.inputs[0].shape[2] / attention.heads
    }
    return Family(operation: target.key.operation, dtype: target.dtype, headSize: size)
  }

  private func remember(_ candidates: [Candidate], shipped: Candidate, _ target: Target) {
    let family = family(target)
    let best = min(shipped.best, candidates.map(\.best).min() ?? .infinity)
    for candidate in candidates {
      standing[family, default: [:]][candidate.parameters] = candidate.best / shipped.best
      var record = losses[family]?[candidate.parameters] ?? (0, 0)
      record.timed += 1
      if candidate.best > 1.5 * best { record.lost += 1 }
      losses[family, default: [:]][candidate.parameters] = record
    }
  }

  /// What did well before comes first, without what never did; the rest in an order without pattern, so that a search
  /// that runs out of time has seen all parts of the space.
  private func ordered(_ space: [Parameters], for target: Target) -> [Parameters] {
    let known = standing[family(target)] ?? [:]
    let hopeless = (losses[family(target)] ?? [:]).filter { $1.lost > 1 && $1.lost == $1.timed }
    let keyed = space.filter { hopeless[$0] == nil }.enumerated().map { index, parameters in
      (parameters, known[parameters] ?? 1, UInt64(index + 1) &* 0x9E37_79B9_7F4A_7C15)
    }
    return keyed.sorted { ($0.1, $0.2) < ($1.1, $1.2) }.map(\.0)
  }

  // MARK: Validation

  /// Why parameters are not right; nil where they are.
  func fault(_ parameters: Parameters, _ target: Target) throws -> String? {
    let family = family(target)
    let key = EdgeKey(family: family, parameters: parameters)
    if edges[key] == nil {
      edges[key] = .some(
        try firstFault(parameters, Tuner.edgeCases(family.operation, family.headSize), target))
    }
    if let fault = edges[key] ?? nil { return fault }
    return try firstFault(parameters, [target.test], target)
  }

  private func firstFault(
    _ parameters: Parameters, _ cases: [OperationCase], _ target: Target
  ) throws -> String? {
    var fault: String?
    _ = try backend.trying(parameters) {
      for test in cases where fault == nil {
        let result = try validator.run(test, dtype: target.dtype, on: subject)
        if result.outcome == .failed {
          fault = "\(test.name): " + result.faults.map(\.description).joined(separator: ", ")
        }
      }
    }
    return fault
  }

  /// Small cases that run the kernel: one a few shapes, each more than a tile and no multiple of one.
  static func edgeCases(_ operation: TunedOperation, _ headSize: Int) -> [OperationCase] {
    let kind: Operation.Kind =
      switch operation {
      case .product: .matmul
      case .convolution: .conv2d
      case .attention: .attention
      }
    let cases = OperationCases.tiny.filter { $0.operation(.float32).kind == kind }
    guard operation == .attention else { return cases }
    // A kernel is built for one head size.
    let same = cases.filter { test in
      guard case .attention(let attention) = test.operation(.float32) else { return false }
      return test.inputs[0].shape[2] / attention.heads == headSize
    }
    return same.isEmpty ? cases : same
  }
}
