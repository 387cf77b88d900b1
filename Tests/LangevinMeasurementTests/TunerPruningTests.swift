import Foundation
import LangevinCPU
import LangevinTensor
import LangevinValidation
import Synchronization
import Testing

import enum LangevinTensor.Operation

@testable import LangevinMeasurement

/// What a search leaves out, on a device whose times are known: a launch takes as many microseconds as its parameter says.
@Suite struct TunerPruningTests {
  private func targets(_ backend: Timed, _ sizes: [Int]) -> [TuningTarget<Timed.Key>] {
    var counts = OperationCounts()
    for size in sizes {
      let x = TensorSpec([size, 64])
      counts.add(.matmul(MatMul()), inputs: [x, TensorSpec([64, 64])], output: x)
    }
    return counts.targets(on: backend)
  }

  private struct Searched {
    var tried: [Int] = []
    var report: TuningReport
  }

  /// How many candidates each search began.
  private func run(
    _ sizes: [Int], _ change: (inout TunerSettings) -> Void = { _ in },
    isolated: (@Sendable (OperationCase, DType, Timed.Parameters) throws -> String?)? = nil
  ) throws -> Searched {
    let backend = Timed()
    var settings = TunerSettings()
    settings.budget = 600
    change(&settings)
    let tuner = Tuner(Device(backend), backend, model: "test", settings: settings)
    tuner.isolated = isolated
    var searched = Searched(report: tuner.report)
    try tuner.run(targets(backend, sizes)) { event in
      switch event {
      case .target: searched.tried.append(0)
      case .candidate: searched.tried[searched.tried.count - 1] += 1
      default: break
      }
    }
    searched.report = tuner.report
    return searched
  }

  @Test func whatLostTwiceIsNotTriedAtAThirdShape() throws {
    let searched = try run([64, 128, 256, 512])
    // Of 10 to 29 beside the shipped 20: those up to 15 are within 1.5 of the best.
    #expect(searched.tried == [19, 19, 6, 6])
    #expect(searched.report.results.map(\.tuned) == [String](repeating: "MICROSECONDS 10", count: 4))
  }

  @Test func theCeilingEndsASearch() throws {
    // The largest shape first: 2 x 64 x 64 x 512 in 20 us with the shipped parameters, and 10 us with the best.
    let flops = 2.0 * 64 * 64 * 512
    func tried(_ seconds: Double) throws -> Searched {
      try run([512]) { $0.peak = PeakRates(flops: flops / seconds, bandwidth: 1) }
    }
    let reached = try tried(19.5e-6)
    #expect(reached.tried == [0] && reached.report.atCeiling.count == 1 && reached.report.results.isEmpty)
    let far = try tried(1e-6)
    #expect(far.tried == [19] && far.report.atCeiling.isEmpty && far.report.results.count == 1)
    // Once one has reached it nothing more is tried.
    let near = try tried(14e-6)
    #expect(near.tried[0] < 19 && near.report.results.count == 1)
    #expect((near.report.results.first?.tunedSeconds ?? 1) < 15e-6)
  }

  @Test func processesTryTheNextCandidatesBesideEachOther() throws {
    let state = Mutex((running: 0, most: 0, asked: [Int: Int]()))
    let isolated: @Sendable (OperationCase, DType, Timed.Parameters) throws -> String? = { _, _, parameters in
      state.withLock {
        $0.running += 1
        $0.most = max($0.most, $0.running)
        $0.asked[parameters.microseconds, default: 0] += 1
      }
      // Until a second one runs, however busy the machine is. One alone waits in vain.
      let started = ContinuousClock.now
      while state.withLock({ $0.most }) < 2, ContinuousClock.now - started < .seconds(20) {
        Thread.sleep(forTimeInterval: 0.001)
      }
      state.withLock { $0.running -= 1 }
      return parameters.microseconds < 12 ? "it died" : nil
    }
    let searched = try run([512], { $0.processes = 4 }, isolated: isolated)
    let (_, most, asked) = state.withLock { $0 }
    #expect((2...4).contains(most), "\(most)")
    #expect(asked.count == 19 && asked.values.allSatisfy { $0 == 1 }, "\(asked)")
    #expect(searched.report.results.first?.tuned == "MICROSECONDS 12")
    #expect(searched.report.results.first?.rejected.map(\.reason) == ["it died", "it died"])
    struct NoProcess: Error {}
    #expect(throws: NoProcess.self) { try run([512], isolated: { _, _, _ in throw NoProcess() }) }
  }
}

/// The CPU backend with products whose time is their parameter.
private final class Timed: ForwardingBackend, TunableBackend {
  struct Key: TunableKey {
    var operation = TunedOperation.product
    var rows: Int
  }

  struct Parameters: TunableParameters {
    var microseconds: Int
    var kernel: String { "timed" }
    var values: [(name: String, value: Int)] { [("MICROSECONDS", microseconds)] }
    var description: String { "MICROSECONDS \(microseconds)" }
    init(_ microseconds: Int) { self.microseconds = microseconds }
    init?(kernel: String, values: [String: Int]) {
      guard let value = values["MICROSECONDS"] else { return nil }
      microseconds = value
    }
  }

  private let cpu = CPUBackend()
  private let state = Mutex((microseconds: 20, entries: [Key: TuningFinding<Key, Parameters>]()))
  var base: any Backend { cpu }

  func tuningKey(_ operation: Operation, inputs: [TensorSpec], output: TensorSpec) -> Key? {
    Key(rows: inputs[0].shape[0])
  }
  func tuningSpace(_ key: Key) -> [Parameters] { (10..<30).map { Parameters($0) } }
  func shippedParameters(_ key: Key) -> Parameters { Parameters(20) }
  var tunedEntries: [Key: TuningFinding<Key, Parameters>] { state.withLock { $0.entries } }
  func keep(_ entry: TuningFinding<Key, Parameters>) throws {
    state.withLock { $0.entries[entry.key] = entry }
  }
  func trying(_ parameters: Parameters, _ body: () throws -> Void) throws -> KernelResources? {
    state.withLock { $0.microseconds = parameters.microseconds }
    try body()
    return nil
  }
  func takeRecords() throws -> [KernelRecord] {
    let microseconds = state.withLock { $0.microseconds }
    return try base.takeRecords().map { record in
      var record = record
      record.ended = record.started + UInt64(microseconds * 1000)
      return record
    }
  }
  func exportedTuning(into table: Data?) throws -> Data { Data() }
  var countsSpills: Bool { false }
  var mayCrash: Bool { false }
  var keptTuning: KeptTuning? { nil }
}
