import Foundation
import LangevinTensor

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

/// A folder that goes away with its owner.
final class TemporaryFolder {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("langevin-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  @discardableResult
  func write(_ bytes: [UInt8], _ name: String) throws -> URL {
    let file = url.appendingPathComponent(name)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: file)
    return file
  }

  @discardableResult
  func write(_ text: String, _ name: String) throws -> URL { try write(Array(text.utf8), name) }
}

/// Where the golden fixtures lie in the source tree.
let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .appendingPathComponent("Golden/Fixtures")

/// SplitMix64, so that a failing case can be repeated.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
