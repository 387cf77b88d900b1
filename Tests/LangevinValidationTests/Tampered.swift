import LangevinCPU
import LangevinTensor
import Synchronization

import enum LangevinTensor.Operation

@testable import LangevinValidation

/// A backend that does something to the output after the CPU has computed it, and may refuse memory.
final class Tampered: ForwardingBackend {
  typealias Tamper = @Sendable (any Backend, Operation, [TensorView], TensorView) throws -> Void

  let name = "tampered"
  let base: any Backend = CPUBackend()
  private let refuses: @Sendable (Int) -> Bool
  private let tamper: Tamper

  init(_ tamper: @escaping @Sendable (any Backend, [TensorView], TensorView) throws -> Void) {
    refuses = { _ in false }
    self.tamper = { backend, _, inputs, output in try tamper(backend, inputs, output) }
  }

  /// Refuses buffers of these sizes in bytes, whatever it says that it offers.
  init(refuses: @escaping @Sendable (Int) -> Bool) {
    self.refuses = refuses
    tamper = { _, _, _, _ in }
  }

  /// Computes in its own way what `values` is not nil for; float32 only.
  init(values: @escaping @Sendable (Operation, [HostArray]) -> [Float]?) {
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

  func allocate(byteCount: Int) throws -> any Storage {
    guard !refuses(byteCount) else {
      let use = memory
      throw TensorError.outOfMemory(device: name, requested: byteCount, inUse: use.inUse, limit: use.limit)
    }
    return try base.allocate(byteCount: byteCount)
  }
  func execute(_ operation: Operation, inputs: [TensorView], output: TensorView) throws {
    try base.execute(operation, inputs: inputs, output: output)
    try tamper(base, operation, inputs, output)
  }
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
