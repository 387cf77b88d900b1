import Foundation
import LangevinCPU
import LangevinKernels
import LangevinOpenCL
import LangevinTensor
import Testing

import enum LangevinTensor.Operation

@testable import LangevinValidation

/// PoCL with kernels that are broken on purpose; a machine without PoCL fails the tests.
private func pocl(
  family: KernelFamily = .gpu, patch: (@Sendable (KernelSource, String) -> String)? = nil
) throws -> Device {
  let found = OpenCLDevices.all().first { $0.platform == "Portable Computing Language" }
  let index = try #require(found, "PoCL is missing: apt install pocl-opencl-icd").index
  return Device(try OpenCLBackend(index: index, family: family, patch: patch))
}

private func validator() -> Validator { Validator(version: "test", reference: Device(CPUBackend())) }

/// Runs one case and returns its result.
private func run(_ test: OperationCase, on device: Device, dtype: DType = .float32) throws -> CaseResult {
  try validator().run(test, dtype: dtype, on: Validator.Subject(device, description: "test"))
}

@Suite struct ValidatorTests {
  private let silu = OperationCase("silu", .unary(.silu), [[5, 7]])

  @Test func aRightDevicePasses() throws {
    let result = try run(silu, on: Device(CPUBackend()))
    #expect(result.outcome == .passed && result.faults.isEmpty && result.replay == nil)
    let errors = try #require(result.errors)
    #expect(
      errors.compared == 35 && errors.ratio <= 1 && errors.relative.percentile <= errors.relative.maximum)
  }

  @Test func strayWritesAreSeen() throws {
    for (element, buffer) in [(-1, "start"), (-200, "start"), (35, "end"), (300, "end")] {
      let device = Device(Tampered { backend, _, y in try backend.put(1, at: element, of: y) })
      let faults = try run(silu, on: device).faults
      let distance = element < 0 ? -element : element - 34
      #expect(faults == [.guardOverwritten(buffer: "\(buffer) of the output", distance: distance)])
    }
    let device = Device(Tampered { backend, x, _ in try backend.put(1, at: 35, of: x[0]) })
    #expect(
      try run(silu, on: device).faults == [.guardOverwritten(buffer: "end of the input 0", distance: 1)])
  }

  @Test func changedInputsAreSeen() throws {
    let device = Device(Tampered { backend, x, _ in try backend.put(77, at: 3, of: x[0]) })
    #expect(try run(silu, on: device).faults.contains(.inputChanged(buffer: "input 0", element: 3)))
  }

  @Test func unwrittenElementsAreSeen() throws {
    // The output keeps its poison where the kernel stops one row too early.
    let device = try pocl { source, text in
      source == .elementwise
        ? text.replacingOccurrences(of: "(ulong)(count)", with: "(ulong)(count - 7)") : text
    }
    let result = try run(silu, on: device)
    #expect(result.outcome == .failed, "\(result.faults)")
    #expect(result.faults.contains(.notWritten(element: 28)), "\(result.faults)")
  }

  @Test func runsThatDifferAreSeen() throws {
    let calls = Counter()
    let device = Device(Tampered { backend, _, y in try backend.put(Float(calls.next()), at: 4, of: y) })
    let faults = try run(silu, on: device).faults
    #expect(faults.contains(.notRepeatable(element: 4, elements: 1)), "\(faults)")
  }

  @Test func wrongElementsAreLocated() throws {
    let device = Device(Tampered { backend, _, y in try backend.put(50, at: 4 * 7 + 6, of: y) })
    let result = try run(silu, on: device)
    let errors = try #require(result.errors)
    #expect(errors.worst == [4, 6] && errors.value == 50 && errors.ratio > 1e6)
    #expect(errors.lastRow == errors.relative.maximum && errors.lastColumn == errors.relative.maximum)
    #expect(errors.relative.percentile == errors.relative.maximum)
    #expect(result.problem.contains("[4, 6]: 50.0 instead of"), "\(result.problem)")
  }

  @Test func notANumberNeverPasses() throws {
    let device = Device(Tampered { backend, _, y in try backend.put(.nan, at: 9, of: y) })
    let result = try run(silu, on: device)
    #expect(result.outcome == .failed && result.errors?.worst == [1, 2])
  }

  /// A planted write behind the end of the output, by a kernel of a real device.
  @Test func aKernelThatWritesTooFarIsSeen() throws {
    let device = try pocl { source, text in
      source == .elementwise
        ? text.replacingOccurrences(of: "(ulong)(count)", with: "(ulong)(count + 4)") : text
    }
    let result = try run(silu, on: device)
    #expect(
      result.faults.contains {
        if case .guardOverwritten(let buffer, _) = $0 { buffer == "end of the output" } else { false }
      }, "\(result.faults)")
  }

  @Test func failuresReplayAndShrink() throws {
    let test = OperationCase("matmul", .matmul(MatMul()), [[40, 50], [50, 60]])
    // Wrong only from 9 rows on.
    let backend = Tampered { backend, _, y in
      if y.shape[0] > 8 { try backend.put(1e6, at: 8 * y.shape[1], of: y) }
    }
    let report = try validator().run([test], on: Device(backend))
    let result = try #require(report.devices[0].cases.first)
    #expect(!report.passes && result.outcome == .failed)
    let smallest = try #require(result.smallest)
    #expect(smallest.inputs.map(\.shape) == [[9, 1], [1, 1]])
    for text in [result.replay, smallest.replay] {
      let replay = try Replay(text: try #require(text))
      #expect(replay.seed == 1 && replay.dtype == .float32 && replay.version == "test")
      let again = try run(replay.test, on: Device(backend), dtype: replay.dtype)
      #expect(again.outcome == .failed)
      #expect(try run(replay.test, on: Device(CPUBackend())).outcome == .passed)
    }
  }

  @Test func aLostDeviceIsReportedAndTheOthersGoOn() throws {
    let calls = Counter()
    let lost = Tampered { _, _, _ in
      if calls.next() > 3 {
        throw TensorError.deviceFailure(device: "tampered", operation: "x", reason: "gone")
      }
    }
    let other = OperationCase("gelu", .unary(.gelu), [[3]])
    let report = try validator().run(
      [silu, other],
      on: [
        Validator.Subject(Device(lost), description: ""),
        Validator.Subject(Device(CPUBackend()), description: ""),
      ])
    #expect(report.isPartial && !report.passes)
    #expect(report.devices[0].failure?.contains("gone") == true)
    #expect(report.devices[0].cases.count == 2)
    #expect(report.devices[1].passes && report.devices[1].cases.count == 6)
    #expect(report.device("cpu")?.verdict("gelu")?.passes == true)
    #expect(report.device("tampered")?.verdict("gelu") == nil)
  }

  @Test func aStoppedRunSaysSo() throws {
    let calls = Counter()
    let report = try validator().run(
      [silu, OperationCase("gelu", .unary(.gelu), [[3]])],
      on: [Validator.Subject(Device(CPUBackend()), description: "")], shouldStop: { calls.next() > 2 })
    #expect(report.isPartial && report.devices[0].cases.count == 2)
    #expect(report.devices[0].operations.map(\.operation) == ["silu"])
    #expect(report.devices[0].verdict == "stopped after 2 of 6 cases, of which none failed")
  }

  @Test func whatADeviceCannotDoIsSkipped() throws {
    let tight = Device(CPUBackend(memoryLimit: 1 << 14))
    let result = try run(OperationCase("silu", .unary(.silu), [[200, 200]]), on: tight)
    #expect(result.outcome == .skipped && result.reason?.contains("out of memory") == true)
    #expect(result.lacksMemory)
  }

  private let small = OperationCase("silu small", .unary(.silu), [[20, 20]])
  private let big = OperationCase("silu big", .unary(.silu), [[1000, 2000]])

  @Test func aDeviceThatGivesNoMemoryFails() throws {
    let report = try validator().run([silu, big], on: Device(Tampered(refuses: { _ in true })))
    #expect(!report.passes && report.devices[0].verdict == "FAILS")
    #expect(report.devices[0].failure?.contains("out of memory") == true)
  }

  @Test func smallBuffersThatAreRefusedAreFailures() throws {
    let report = try validator().run([silu, small], on: Device(Tampered(refuses: { (2500..<5000) ~= $0 })))
    let result = try #require(report.devices[0].cases.first { $0.outcome == .failed })
    #expect(!report.passes && report.devices[0].failure == nil)
    #expect(result.problem.contains("though the case needs no more than"), "\(result.problem)")
  }

  /// A device that is as small as it says is not to blame for the case that it has no room for.
  @Test func aCaseThatIsTooLargeIsNoFailure() throws {
    let report = try validator().run([silu, small, big], on: Device(CPUBackend(memoryLimit: 1 << 20)))
    let device = report.devices[0]
    #expect(report.passes && device.verdict == "passes", "\(device.verdict)")
    let verdict = try #require(device.verdict("silu"))
    #expect(verdict.passed == 6 && verdict.ran == 6 && verdict.skipped == 3 && verdict.lacksMemory == 3)
  }

  @Test func whatHardlyRanDoesNotPass() throws {
    let empty = OperationCase("silu empty", .unary(.silu), [[0, 3]])
    let tight = Device(CPUBackend(memoryLimit: 1 << 20))
    let starved = try validator().run([empty, big], on: tight)
    #expect(!starved.passes && starved.devices[0].verdict("silu")?.passes == false)
    #expect(
      starved.devices[0].verdict == "is NOT VALIDATED for want of memory in silu (0 of 3 cases ran)")
    let other = OperationCase("silu bigger", .unary(.silu), [[2000, 2000]])
    let hardly = try validator().run([silu, big, other], on: tight)
    #expect(hardly.passes)
    #expect(
      hardly.devices[0].verdict == "is hardly validated for want of memory in silu (3 of 9 cases ran)")
  }

  @Test func reportsSurviveJSON() throws {
    let device = Device(Tampered { backend, _, y in try backend.put(.infinity, at: 0, of: y) })
    let report = try validator().run([silu], on: device)
    let again = try JSONDecoder().decode(ValidationReport.self, from: JSONEncoder().encode(report))
    #expect(again.devices[0].cases[0].errors == report.devices[0].cases[0].errors)
    #expect(again.devices[0].verdict("silu")?.worst == .infinity)
    #expect(again.devices[0].cases[0].faults == report.devices[0].cases[0].faults)
  }
}
