import COpenCL
import Glibc
import LangevinTensor
import Synchronization

/// A device buffer; the pool takes it back when the last tensor lets go of it. Commands that still use it are
/// ahead of any later use in the one in-order queue.
final class OpenCLStorage: Storage {
  let byteCount: Int
  let memory: OpenCLHandle
  /// Nil for memory that is not the pool's.
  private let capacity: Int?
  private let pool: BufferPool

  fileprivate init(byteCount: Int, memory: OpenCLHandle, capacity: Int?, pool: BufferPool) {
    self.byteCount = byteCount
    self.memory = memory
    self.capacity = capacity
    self.pool = pool
  }

  deinit {
    if let capacity { pool.recycle(memory, capacity) } else { clReleaseMemObject(memory.pointer) }
  }
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
    var free = FreeBlocks<OpenCLHandle>()
  }

  /// What may be in use and kept together, beyond the high-water mark of live memory so that reuse stays likely: a step
  /// needs about what the step before did, in buffers of other sizes. Memory that a processor frees costs a page fault
  /// every 4 KiB when it is used anew, as much as a pass over the data; a card's is short.
  private func budget(peak: Int) -> Int {
    peak + max(64 << 20, context.description.isCPU ? peak / 16 : 0)
  }

  init(context: OpenCLContext, deviceName: String, limit: Int?) {
    self.context = context
    self.deviceName = deviceName
    self.limit = min(limit ?? .max, context.description.globalMemory)
  }

  deinit { trim() }

  var use: MemoryUse {
    state.withLock {
      var use = $0.use
      (use.limit, use.cached) = (limit, $0.free.byteCount)
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
      if let (memory, capacity) = state.free.take(wanted) {
        BufferPool.take(capacity, &state)
        return (memory, capacity)
      }
      guard state.use.inUse + wanted <= limit, wanted <= context.description.maxAllocation else {
        throw outOfMemory(byteCount, state.use)
      }
      let target = budget(peak: max(state.use.highWater, state.use.inUse + wanted))
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
      state.free.add(memory, size: capacity)
    }
  }

  /// Gives every kept buffer back to the driver.
  func trim() { state.withLock { trim(&$0, to: 0) } }

  private func trim(_ state: inout State, to cached: Int) {
    while state.free.byteCount > cached, let memory = state.free.dropOldest() {
      clReleaseMemObject(memory.pointer)
    }
  }

  private static func take(_ capacity: Int, _ state: inout State) {
    state.use.inUse += capacity
    state.use.highWater = max(state.use.highWater, state.use.inUse)
    state.peak = max(state.peak, state.use.inUse)
  }

  private func create(_ byteCount: Int) -> OpenCLHandle? {
    if context.description.isCPU, byteCount >= 2 * BufferPool.hugePage { return createInHugePages(byteCount) }
    var code: cl_int = 0
    let memory = clCreateBuffer(context.context, cl_mem_flags(CL_MEM_READ_WRITE), byteCount, nil, &code)
    return code == CL_SUCCESS ? memory.map(OpenCLHandle.init) : nil
  }

  /// A buffer in memory of ours that asks for huge pages, which Linux gives where it has them: 512 times fewer page
  /// faults. A driver for the processor uses it in place.
  private func createInHugePages(_ byteCount: Int) -> OpenCLHandle? {
    var host: UnsafeMutableRawPointer?
    guard posix_memalign(&host, BufferPool.hugePage, byteCount) == 0, let host else { return nil }
    madvise(host, byteCount, MADV_HUGEPAGE)
    return create(CL_MEM_READ_WRITE, byteCount, in: host, userData: host) { _, host in free(host) }
  }

  /// Host memory that kernels read where it is, for as long as `owner` lives; nil where the driver does not take it.
  func adopt(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) -> OpenCLStorage? {
    guard let start = bytes.baseAddress, bytes.count <= context.description.maxAllocation else { return nil }
    let memory = create(
      CL_MEM_READ_ONLY, bytes.count, in: UnsafeMutableRawPointer(mutating: start),
      userData: Unmanaged.passRetained(owner as AnyObject).toOpaque()
    ) { _, owner in
      if let owner { Unmanaged<AnyObject>.fromOpaque(owner).release() }
    }
    return memory.map { OpenCLStorage(byteCount: bytes.count, memory: $0, capacity: nil, pool: self) }
  }

  /// A buffer in the host's memory. `free` is called with `userData` when no command uses it any more, or at once where
  /// there is no buffer: commands on the queue may outlive the release.
  private func create(
    _ access: Int32, _ byteCount: Int, in host: UnsafeMutableRawPointer, userData: UnsafeMutableRawPointer,
    free: @escaping @convention(c) (cl_mem?, UnsafeMutableRawPointer?) -> Void
  ) -> OpenCLHandle? {
    var code: cl_int = 0
    let flags = cl_mem_flags(access | CL_MEM_USE_HOST_PTR)
    let memory = clCreateBuffer(context.context, flags, byteCount, host, &code)
    guard let memory, code == CL_SUCCESS else {
      free(nil, userData)
      return nil
    }
    guard clSetMemObjectDestructorCallback(memory, free, userData) == CL_SUCCESS else {
      clReleaseMemObject(memory)
      free(nil, userData)
      return nil
    }
    return OpenCLHandle(memory)
  }

  private static let hugePage = 2 << 20

  private func outOfMemory(_ requested: Int, _ use: MemoryUse) -> TensorError {
    .outOfMemory(
      device: deviceName, requested: requested, inUse: use.inUse,
      limit: min(
        limit, requested > context.description.maxAllocation ? context.description.maxAllocation : limit))
  }
}
