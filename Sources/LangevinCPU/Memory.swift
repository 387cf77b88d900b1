import Glibc
import LangevinTensor
import Synchronization

/// Memory of the CPU backend: 64-byte aligned, and back in its pool when the last tensor lets go of it; or
/// memory of someone else's, which is only read.
final class CPUStorage: Storage, @unchecked Sendable {
  let byteCount: Int
  let pointer: UnsafeMutableRawPointer
  private let origin: Origin

  private enum Origin {
    case pool(MemoryPool, capacity: Int)
    case borrowed(owner: any AnyObject & Sendable)
  }

  fileprivate init(byteCount: Int, capacity: Int, pointer: UnsafeMutableRawPointer, pool: MemoryPool) {
    self.byteCount = byteCount
    self.pointer = pointer
    self.origin = .pool(pool, capacity: capacity)
  }

  init(byteCount: Int, borrowed pointer: UnsafeMutableRawPointer, owner: any AnyObject & Sendable) {
    self.byteCount = byteCount
    self.pointer = pointer
    self.origin = .borrowed(owner: owner)
  }

  deinit {
    if case .pool(let pool, let capacity) = origin { pool.release(pointer, capacity: capacity) }
  }

  /// The memory as float32, for scratch.
  var floats: UnsafeMutablePointer<Float> { pointer.assumingMemoryBound(to: Float.self) }
}

/// Keeps freed blocks for reuse: a fresh large block costs a page fault every 4 KiB, which is as slow as a
/// pass over the data.
final class MemoryPool: Sendable {
  private struct State: @unchecked Sendable {
    var use: MemoryUse
    /// The most in use since it was last taken.
    var peak = 0
    /// Freed blocks by capacity.
    var free: [Int: [UnsafeMutableRawPointer]] = [:]
  }

  private let state: Mutex<State>
  private let device: String
  /// Bytes kept at most.
  private let cacheLimit: Int

  init(device: String, limit: Int, cacheLimit: Int = 768 << 20) {
    self.device = device
    self.cacheLimit = cacheLimit
    self.state = Mutex(State(use: MemoryUse(limit: limit)))
  }

  deinit { state.withLock { MemoryPool.drop(&$0) } }

  var use: MemoryUse { state.withLock { $0.use } }

  /// The most that was in use since the call before.
  func takePeak() -> Int {
    state.withLock { state in
      defer { state.peak = state.use.inUse }
      return state.peak
    }
  }

  /// Throws `TensorError.outOfMemory`.
  func allocate(byteCount: Int) throws -> CPUStorage {
    let capacity = MemoryPool.capacity(byteCount)
    let pointer: UnsafeMutableRawPointer? = state.withLock { state in
      func take() -> UnsafeMutableRawPointer? {
        if let kept = state.free[capacity]?.popLast() {
          state.use.cached -= capacity
          return kept
        }
        if state.use.inUse + state.use.cached + capacity > state.use.limit { MemoryPool.drop(&state) }
        guard state.use.inUse + capacity <= state.use.limit else { return nil }
        return MemoryPool.allocateAligned(capacity)
      }
      guard let pointer = take() else { return nil }
      state.use.inUse += capacity
      state.use.highWater = max(state.use.highWater, state.use.inUse)
      state.peak = max(state.peak, state.use.inUse)
      return pointer
    }
    guard let pointer else {
      let use = use
      throw TensorError.outOfMemory(device: device, requested: byteCount, inUse: use.inUse, limit: use.limit)
    }
    return CPUStorage(byteCount: byteCount, capacity: capacity, pointer: pointer, pool: self)
  }

  /// Scratch memory for `count` numbers.
  func scratch(_ count: Int) throws -> CPUStorage { try allocate(byteCount: count * 4) }

  fileprivate func release(_ pointer: UnsafeMutableRawPointer, capacity: Int) {
    let kept = state.withLock { state in
      state.use.inUse -= capacity
      guard state.use.cached + capacity <= cacheLimit else { return false }
      state.free[capacity, default: []].append(pointer)
      state.use.cached += capacity
      return true
    }
    if !kept { free(pointer) }
  }

  /// Gives everything that is kept back to the system.
  private static func drop(_ state: inout State) {
    for pointer in state.free.values.joined() { free(pointer) }
    state.free = [:]
    state.use.cached = 0
  }

  /// Rounded up to an eighth of a power of two, so that blocks of nearly equal size serve each other.
  static func capacity(_ byteCount: Int) -> Int {
    guard byteCount > 512 else { return max((byteCount + 63) / 64 * 64, 64) }
    let step = 1 << (Int.bitWidth - 4 - (byteCount - 1).leadingZeroBitCount)
    return (byteCount + step - 1) / step * step
  }

  private static func allocateAligned(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    var pointer: UnsafeMutableRawPointer?
    return posix_memalign(&pointer, 64, byteCount) == 0 ? pointer : nil
  }
}
