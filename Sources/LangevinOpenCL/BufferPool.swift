import COpenCL
import LangevinTensor
import Synchronization

/// A device buffer; the pool takes it back when the last tensor lets go of it. Commands that still use it are
/// ahead of any later use in the one in-order queue.
final class OpenCLStorage: Storage {
  let byteCount: Int
  let memory: OpenCLHandle
  fileprivate let capacity: Int
  private let pool: BufferPool

  fileprivate init(byteCount: Int, memory: OpenCLHandle, capacity: Int, pool: BufferPool) {
    self.byteCount = byteCount
    self.memory = memory
    self.capacity = capacity
    self.pool = pool
  }

  deinit { pool.recycle(memory, capacity) }
}

/// Keeps freed buffers for reuse. It grows only where no kept buffer fits, and gives kept ones back to the
/// driver first, so that the device holds little more than the most that was ever live at once.
final class BufferPool: Sendable {
  private let context: OpenCLContext
  private let deviceName: String
  private let limit: Int
  private let state = Mutex(State())

  private struct State: Sendable {
    var use = MemoryUse()
    /// The most in use since it was last taken.
    var peak = 0
    /// The kept buffers, in ascending order of capacity.
    var free: [(capacity: Int, memory: OpenCLHandle)] = []
  }

  /// Kept beyond the high-water mark of live memory, so that reuse stays likely.
  private static let slack = 64 << 20

  init(context: OpenCLContext, deviceName: String, limit: Int?) {
    self.context = context
    self.deviceName = deviceName
    self.limit = min(limit ?? .max, context.description.globalMemory)
  }

  deinit { state.withLock { for entry in $0.free { clReleaseMemObject(entry.memory.pointer) } } }

  var use: MemoryUse {
    state.withLock {
      var use = $0.use
      use.limit = limit
      return use
    }
  }

  /// The most that was in use since the call before.
  func takePeak() -> Int {
    state.withLock { state in
      defer { state.peak = state.use.inUse }
      return state.peak
    }
  }

  /// Throws `TensorError.outOfMemory`.
  func allocate(_ byteCount: Int) throws -> OpenCLStorage {
    // Whole cache lines, and a little more for large ones so that near sizes share buffers.
    let wanted = max(64, (byteCount + 63) / 64 * 64)
    let (memory, capacity) = try state.withLock { state -> (OpenCLHandle, Int) in
      if let index = state.free.firstIndex(where: { $0.capacity >= wanted }),
        state.free[index].capacity <= wanted + wanted / 4 + 4096
      {
        let entry = state.free.remove(at: index)
        state.use.cached -= entry.capacity
        BufferPool.take(entry.capacity, &state)
        return (entry.memory, entry.capacity)
      }
      guard state.use.inUse + wanted <= limit, wanted <= context.description.maxAllocation else {
        throw outOfMemory(byteCount, state.use)
      }
      let target = max(state.use.highWater, state.use.inUse + wanted) + BufferPool.slack
      trim(&state, to: max(0, min(target, limit) - state.use.inUse - wanted))
      if let memory = create(wanted) {
        BufferPool.take(wanted, &state)
        return (memory, wanted)
      }
      trim(&state, to: 0)
      clFinish(context.queue)
      guard let memory = create(wanted) else { throw outOfMemory(byteCount, state.use) }
      BufferPool.take(wanted, &state)
      return (memory, wanted)
    }
    return OpenCLStorage(byteCount: byteCount, memory: memory, capacity: capacity, pool: self)
  }

  fileprivate func recycle(_ memory: OpenCLHandle, _ capacity: Int) {
    state.withLock { state in
      state.use.inUse -= capacity
      state.use.cached += capacity
      let index = state.free.firstIndex { $0.capacity >= capacity } ?? state.free.endIndex
      state.free.insert((capacity, memory), at: index)
    }
  }

  /// Gives every kept buffer back to the driver.
  func trim() { state.withLock { trim(&$0, to: 0) } }

  private func trim(_ state: inout State, to cached: Int) {
    while state.use.cached > cached, let entry = state.free.popLast() {
      state.use.cached -= entry.capacity
      clReleaseMemObject(entry.memory.pointer)
    }
  }

  private static func take(_ capacity: Int, _ state: inout State) {
    state.use.inUse += capacity
    state.use.highWater = max(state.use.highWater, state.use.inUse)
    state.peak = max(state.peak, state.use.inUse)
  }

  private func create(_ byteCount: Int) -> OpenCLHandle? {
    var code: cl_int = 0
    let memory = clCreateBuffer(context.context, cl_mem_flags(CL_MEM_READ_WRITE), byteCount, nil, &code)
    return code == CL_SUCCESS ? memory.map(OpenCLHandle.init) : nil
  }

  private func outOfMemory(_ requested: Int, _ use: MemoryUse) -> TensorError {
    .outOfMemory(
      device: deviceName, requested: requested, inUse: use.inUse,
      limit: min(
        limit, requested > context.description.maxAllocation ? context.description.maxAllocation : limit))
  }
}
