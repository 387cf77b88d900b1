import LangevinTensor
import Synchronization

/// Counts the bytes of tensors, notes what runs and computes nothing: every number is zero.
final class PlanningBackend: IdleBackend {
  private final class Block: Storage {
    let byteCount: Int
    private let owner: PlanningBackend

    init(_ byteCount: Int, _ owner: PlanningBackend) {
      (self.byteCount, self.owner) = (byteCount, owner)
      owner.count(byteCount)
    }

    deinit { owner.count(-byteCount) }
  }

  let name = "plan"
  private let model: any Backend
  private let state = Mutex(State())

  private struct State {
    var inUse = 0
    var peak = 0
    var calls: Set<OperationCall> = []
  }

  /// With another backend's packed weights.
  init(like model: any Backend) { self.model = model }

  var inUse: Int { state.withLock { $0.inUse } }
  var calls: Set<OperationCall> { state.withLock { $0.calls } }

  /// The most since it was last asked.
  func takePeak() -> Int {
    state.withLock { state in
      defer { state.peak = state.inUse }
      return state.peak
    }
  }

  private func count(_ bytes: Int) {
    state.withLock { state in
      state.inUse += bytes
      state.peak = max(state.peak, state.inUse)
    }
  }

  var memory: MemoryUse { MemoryUse(inUse: inUse) }
  func packedByteCount(_ shape: WeightShape, _ dtype: DType) -> Int? { model.packedByteCount(shape, dtype) }
  func pack(_ source: TensorView, _ shape: WeightShape) throws -> TensorView {
    let spec = TensorSpec([shape.rows, shape.columns], source.dtype)
    guard let byteCount = packedByteCount(shape, source.dtype) else {
      return TensorView(storage: source.storage, offset: source.offset, spec: spec)
    }
    return TensorView(storage: Block(byteCount, self), offset: 0, spec: spec)
  }
  func allocate(byteCount: Int) throws -> any Storage { Block(byteCount, self) }
  func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> AdoptedMemory? {
    // Memory of the mapped file, which the system takes back when it must.
    model.adopt(bytes, owner: owner)
  }
  func execute(_ operation: LangevinTensor.Operation, inputs: [TensorView], output: TensorView) throws {
    let call = OperationCall(operation, inputs: inputs.map(\.spec), output: output.spec)
    state.withLock { _ = $0.calls.insert(call) }
  }
}
