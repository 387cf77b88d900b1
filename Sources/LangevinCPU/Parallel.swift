import CVectorMath
import Dispatch
import Synchronization

/// Cores that this process may run on, by its affinity mask.
let coreCount = Int(vm_core_count())

/// Workers that `parallelFor` uses for this much work: what per-worker scratch is sized by.
func workerCount(_ count: Int, grain: Int) -> Int {
  min(coreCount, (count + grain - 1) / max(grain, 1))
}

/// Runs `body(worker, range)` over 0..<count in ranges of `grain`, on all cores; `worker` is distinct among
/// the calls that run at the same time and below `workerCount(count, grain:)`.
func parallelFor(_ count: Int, grain: Int, _ body: (_ worker: Int, _ range: Range<Int>) -> Void) {
  guard count > 0 else { return }
  let grain = max(grain, 1)
  let chunks = (count + grain - 1) / grain
  let workers = workerCount(count, grain: grain)
  guard workers > 1 else {
    for chunk in 0..<chunks { body(0, chunk * grain..<min((chunk + 1) * grain, count)) }
    return
  }
  let next = Atomic<Int>(0)
  withoutActuallyEscaping(body) { body in
    // Ranges are disjoint, and all calls end before this one does.
    nonisolated(unsafe) let body = body
    DispatchQueue.concurrentPerform(iterations: workers) { worker in
      while true {
        let chunk = next.add(1, ordering: .relaxed).oldValue
        guard chunk < chunks else { return }
        body(worker, chunk * grain..<min((chunk + 1) * grain, count))
      }
    }
  }
}

/// Elements that are worth a task of their own in a loop over memory.
let elementGrain = 1 << 15
