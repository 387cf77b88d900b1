import LangevinCPU
import LangevinTensor
import Synchronization

import enum LangevinTensor.Operation

@testable import LangevinValidation

/// A backend that does something to the output after the CPU has computed it, and may refuse memory.
final class Tampered: Backend {
  typealias Tamper = @Sendable (any Backend, Operation, [TensorView], TensorView) throws -> Void

  let name = "tampered"
  private let cpu: CPUBackend
  private let refuses: @Sendable (Int) -> Bool
  private let tamper: Tamper

  init(_ tamper: @escaping @Sendable (any Backend, [TensorView], TensorView) throws -> Void) {
    cpu = CPUBackend()
    refuses = { _ in false }
    self.tamper = { backend, _, inputs, output in try tamper(backend, inputs, output) }
  }

  /// Refuses buffers of these sizes in bytes, whatever it says that it offers.
  init(refuses: @escaping @Sendable (Int) -> Bool) {
    cpu = CPUBackend()
    self.refuses = refuses
    tamper = { _, _, _, _ in }
  }

  /// Computes in its own way what `values` is not nil for; float32 only.
  init(values: @escaping @Sendable (Operation, [HostArray]) -> [Float]?) {
    cpu = CPUBackend()
    refuses = { _ in false }
    tamper = { backend, operation, inputs, output in
      let arrays = try inputs.map { view in
        var bytes = [UInt8](repeating: 0, count: view.spec.byteCount)
        try bytes.withUnsafeMutableBytes {
          try backend.download(view.storage, byteOffset: view.byteOffset, into: $0)
        }
        return Operand(view.spec, bytes: bytes).array
      }
      guard output.spec.dtype == .float32, let values = values(operation, arrays) else { return }
      try values.withUnsafeBytes { try backend.upload($0, to: output.storage, byteOffset: output.byteOffset) }
    }
  }

  func weightLayout(_ use: WeightUse, columns: Int) -> MatrixLayout { .rowMajor }
  var memory: MemoryUse { cpu.memory }
  func allocate(byteCount: Int) throws -> any Storage {
    guard !refuses(byteCount) else {
      let use = memory
      throw TensorError.outOfMemory(device: name, requested: byteCount, inUse: use.inUse, limit: use.limit)
    }
    return try cpu.allocate(byteCount: byteCount)
  }
  func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try cpu.upload(bytes, to: storage, byteOffset: byteOffset)
  }
  func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer) throws {
    try cpu.download(storage, byteOffset: byteOffset, into: bytes)
  }
  func supports(_ operation: Operation, inputs: [TensorSpec]) -> Bool { true }
  func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try cpu.execute(operation, inputs: inputs, output: output)
    try tamper(cpu, operation, inputs, output)
  }
  func synchronize() throws {}
  func startRecording() throws { try cpu.startRecording() }
  func takeRecords() throws -> [KernelRecord] { try cpu.takeRecords() }
  func takeTransfers() throws -> [TransferRecord] { try cpu.takeTransfers() }
}

extension Backend {
  /// Overwrites one float32 element, counted from the view's first.
  func put(_ value: Float, at element: Int, of view: TensorView) throws {
    try withUnsafeBytes(of: value) {
      try upload($0, to: view.storage, byteOffset: view.byteOffset + element * 4)
    }
  }
}

/// Counts calls from wherever they come.
final class Counter: Sendable {
  private let count = Mutex(0)
  func next() -> Int {
    count.withLock {
      $0 += 1
      return $0
    }
  }
}
