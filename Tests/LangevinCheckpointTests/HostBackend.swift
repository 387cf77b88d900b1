import Foundation
import LangevinTensor
import LangevinTestSupport

/// Memory without arithmetic: what loading and saving a checkpoint asks of a device.
final class HostBackend: IdleBackend {
  final class Block: Storage, @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer
    var byteCount: Int { bytes.count }

    init(byteCount: Int) { bytes = .allocate(byteCount: byteCount, alignment: 64) }
    deinit { bytes.deallocate() }
  }

  let name = "host"

  func allocate(byteCount: Int) throws -> any Storage { Block(byteCount: byteCount) }

  func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    guard let block = storage as? Block, let source = bytes.baseAddress else { return }
    block.bytes.baseAddress?.advanced(by: byteOffset).copyMemory(from: source, byteCount: bytes.count)
  }

  func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer) throws {
    guard let block = storage as? Block, let source = block.bytes.baseAddress else { return }
    bytes.baseAddress?.copyMemory(from: source + byteOffset, byteCount: bytes.count)
  }

  func supports(_ operation: LangevinTensor.Operation, inputs: [TensorSpec]) -> Bool { false }
  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    throw TensorError.unsupported(operation: operation.name, inputs: inputs.map(\.spec), device: name)
  }
}

let host = Device(HostBackend())

typealias TemporaryFolder = LangevinTestSupport.TemporaryFolder
typealias SeededGenerator = LangevinTestSupport.SeededGenerator

/// Where the golden fixtures lie in the source tree.
let fixtures = Fixtures.url
