import LangevinTensor
import Synchronization

/// Another backend, and the most bytes that tensors asked it for at once: without what its pool rounds up to and
/// without scratch space. Memory of a checkpoint's file is not counted, as in a plan.
final class CountingBackend: ForwardingBackend {
  private final class Counted: Storage {
    let base: any Storage
    let owner: CountingBackend
    var byteCount: Int { base.byteCount }

    init(_ base: any Storage, _ owner: CountingBackend) {
      (self.base, self.owner) = (base, owner)
      owner.count(base.byteCount)
    }

    deinit { owner.count(-base.byteCount) }
  }

  let base: any Backend
  private let state = Mutex((inUse: 0, peak: 0))

  init(_ base: any Backend) { self.base = base }

  var peak: Int { state.withLock { $0.peak } }
  var inUse: Int { state.withLock { $0.inUse } }

  private func count(_ bytes: Int) {
    state.withLock { state in
      state.inUse += bytes
      state.peak = max(state.peak, state.inUse)
    }
  }

  private func unwrapped(_ storage: any Storage) -> any Storage { (storage as? Counted)?.base ?? storage }
  private func unwrapped(_ view: TensorView) -> TensorView {
    TensorView(storage: unwrapped(view.storage), offset: view.offset, spec: view.spec)
  }

  func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    let packed = try base.pack(unwrapped(source), shape)
    // What shares the source's memory is no memory of its own.
    let storage = packedByteCount(shape, source.dtype) == nil ? source.storage : Counted(packed.storage, self)
    return TensorView(storage: storage, offset: packed.offset, spec: packed.spec)
  }
  func unpack(_ weight: TensorView, into output: TensorView) throws {
    try base.unpack(unwrapped(weight), into: unwrapped(output))
  }
  func allocate(byteCount: Int) throws -> any Storage {
    Counted(try base.allocate(byteCount: byteCount), self)
  }
  func upload(_ bytes: UnsafeRawBufferPointer, to storage: any Storage, byteOffset: Int) throws {
    try base.upload(bytes, to: unwrapped(storage), byteOffset: byteOffset)
  }
  func download(_ storage: any Storage, byteOffset: Int, into bytes: UnsafeMutableRawBufferPointer) throws {
    try base.download(unwrapped(storage), byteOffset: byteOffset, into: bytes)
  }
  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    try base.execute(operation, inputs: inputs.map(unwrapped), output: unwrapped(output))
  }
}
