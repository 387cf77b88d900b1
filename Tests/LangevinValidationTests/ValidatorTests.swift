import Foundation
import LangevinCPU
import LangevinKernels
import LangevinOpenCL
import LangevinTensor
import Synchronization
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

/// A backend that does something to the output after the CPU has computed it.
private final class Tampered: Backend {
  let name = "tampered"
  private let cpu = CPUBackend()
  private let tamper: @Sendable (any Backend, [TensorView], TensorView) throws -> Void

  init(_ tamper: @escaping @Sendable (any Backend, [TensorView], TensorView) throws -> Void) {
    self.tamper = tamper
  }

  func weightLayout(_ use: WeightUse, columns: Int) -> MatrixLayout { .rowMajor }
  var memory: MemoryUse { cpu.memory }
  func allocate(byteCount: Int) throws -> any Storage { try cpu.allocate(byteCount: byteCount) }
  func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try cpu.upload(bytes, to: storage, byteOffset: byteOffset)
  }
  func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer) throws {
    try cpu.download(storage, byteOffset: byteOffset, into: bytes)
  }
  func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool { true }
  func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try cpu.execute(operation, inputs: inputs, output: output)
    try tamper(cpu, inputs, output)
  }
  func synchronize() throws {}
}

extension Backend {
  /// Overwrites one float32 element, counted from the view's first.
  fileprivate func put(_ value: Float, at element: Int, of view: TensorView) throws {
    try withUnsafeBytes(of: value) {
      try upload($0, to: view.storage, byteOffset: view.byteOffset + element * 4)
    }
  }
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
  }

  @Test func whatADeviceCannotDoIsSkipped() throws {
    let tight = Device(CPUBackend(memoryLimit: 1 << 14))
    let result = try run(OperationCase("silu", .unary(.silu), [[200, 200]]), on: tight)
    #expect(result.outcome == .skipped && result.reason?.contains("out of memory") == true)
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

/// Counts calls from wherever they come.
private final class Counter: Sendable {
  private let count = Mutex(0)
  func next() -> Int {
    count.withLock {
      $0 += 1
      return $0
    }
  }
}
