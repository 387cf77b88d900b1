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
    var free = FreeBlocks<UnsafeMutableRawPointer>()
  }

  private let state: Mutex<State>
  private let device: String
  /// Bytes that may be in use and kept together, however little was ever in use.
  private let leastBudget: Int

  init(device: String, limit: Int, leastBudget: Int = 768 << 20) {
    self.device = device
    self.leastBudget = leastBudget
    self.state = Mutex(State(use: MemoryUse(limit: limit)))
  }

  deinit { trim() }

  /// Gives every kept block back to the system.
  func trim() { state.withLock { MemoryPool.drop(&$0) } }

  var use: MemoryUse {
    state.withLock {
      var use = $0.use
      use.cached = $0.free.byteCount
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
  func allocate(byteCount: Int) throws -> CPUStorage {
    // Whole cache lines.
    let wanted = max(64, (byteCount + 63) / 64 * 64)
    let taken = state.withLock { state -> (pointer: UnsafeMutableRawPointer, capacity: Int)? in
      func take() -> (UnsafeMutableRawPointer, Int)? {
        if let kept = state.free.take(wanted) { return kept }
        guard state.use.inUse + wanted <= state.use.limit else { return nil }
        let needed = state.use.inUse + wanted
        MemoryPool.drop(
          &state, to: min(budget(peak: max(needed, state.use.highWater)), state.use.limit) - needed)
        return MemoryPool.allocateAligned(wanted).map { ($0, wanted) }
      }
      guard let (pointer, capacity) = take() else { return nil }
      state.use.inUse += capacity
      state.use.highWater = max(state.use.highWater, state.use.inUse)
      state.peak = max(state.peak, state.use.inUse)
      return (pointer, capacity)
    }
    guard let (pointer, capacity) = taken else {
      let use = use
      throw TensorError.outOfMemory(device: device, requested: byteCount, inUse: use.inUse, limit: use.limit)
    }
    return CPUStorage(byteCount: byteCount, capacity: capacity, pointer: pointer, pool: self)
  }

  /// Scratch memory for `count` numbers.
  func scratch(_ count: Int) throws -> CPUStorage { try allocate(byteCount: count * 4) }

  fileprivate func release(_ pointer: UnsafeMutableRawPointer, capacity: Int) {
    state.withLock { state in
      state.use.inUse -= capacity
      state.free.add(pointer, size: capacity)
      MemoryPool.drop(&state, to: budget(peak: state.use.highWater) - state.use.inUse)
    }
  }

  /// What may be in use and kept together: a step needs about what the step before did, in blocks of other sizes.
  private func budget(peak: Int) -> Int { max(leastBudget, peak + peak / 16) }

  /// Gives what is kept beyond so many bytes back to the system.
  private static func drop(_ state: inout State, to most: Int = 0) {
    while state.free.byteCount > most, let pointer = state.free.dropOldest() { free(pointer) }
  }

  /// Large blocks ask for huge pages, which Linux gives where it has them: 512 times fewer page faults.
  private static func allocateAligned(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    let isLarge = byteCount >= 2 * hugePage
    var pointer: UnsafeMutableRawPointer?
    guard posix_memalign(&pointer, isLarge ? hugePage : 64, byteCount) == 0 else { return nil }
    if isLarge, let pointer { madvise(pointer, byteCount, MADV_HUGEPAGE) }
    return pointer
  }

  private static let hugePage = 2 << 20
}
