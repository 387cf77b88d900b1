import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// Sums and means accumulate in double precision.
  func reduce(_ reduce: Reduce, _ x: FloatArray, _ y: MutableFloatArray) {
    let rank = x.shape.rank
    let reduced = Set(reduce.axes)
    let strides = x.shape.strides
    let isInner = rank > 0 && reduced.contains(rank - 1)
    // Runs of the last axis: summed into one number where it is reduced, else added element by element.
    let run = rank > 0 ? x.shape[-1] : 1
    let kept = (0..<max(rank - 1, 0)).filter { !reduced.contains($0) }
    let summed = (0..<max(rank - 1, 0)).filter { reduced.contains($0) }
    let inner = offsets(summed.map { x.shape[$0] }, summed.map { strides[$0] })
    let outer = offsets(kept.map { x.shape[$0] }, kept.map { strides[$0] })
    let total = Double(reduce.axes.reduce(1) { $0 * x.shape[$1] })
    let divisor = reduce.kind == .mean ? total : 1

    parallelFor(outer.count, grain: max(elementGrain / max(run * inner.count, 1), 1)) { _, range in
      withUnsafeTemporaryAllocation(of: Double.self, capacity: run) { sums in
        for i in range {
          let rows = inner.lazy.map { x.pointer + outer[i] + $0 }
          switch (reduce.kind, isInner) {
          case (.sum, true), (.mean, true):
            y.pointer[i] = Float(rows.reduce(0) { $0 + vm_sum($1, run) } / divisor)
          case (.minimum, true):
            y.pointer[i] = rows.reduce(.infinity) { least($0, vm_minimum($1, run)) }
          case (.maximum, true):
            y.pointer[i] = rows.reduce(-.infinity) { greatest($0, vm_maximum($1, run)) }
          case (.sum, false), (.mean, false):
            sums.update(repeating: 0)
            for row in rows { vm_add_to_doubles(row, sums.baseAddress, run) }
            for j in 0..<run { y.pointer[i * run + j] = Float(sums[j] / divisor) }
          case (.minimum, false), (.maximum, false):
            let out = y.pointer + i * run
            out.update(repeating: reduce.kind == .minimum ? .infinity : -.infinity, count: run)
            for row in rows {
              vm_binary(reduce.kind == .minimum ? VM_MINIMUM : VM_MAXIMUM, out, 1, row, 1, out, run)
            }
          }
        }
      }
    }
  }

  /// Where the elements of an index space lie, in row-major order.
  private func offsets(_ extents: [Int], _ strides: [Int]) -> [Int] {
    zip(extents, strides).reduce([0]) { offsets, axis in
      offsets.flatMap { offset in (0..<axis.0).map { offset + $0 * axis.1 } }
    }
  }

  /// A NaN wins, as in `Binary.minimum`.
  private func least(_ a: Float, _ b: Float) -> Float { a < b || a.isNaN ? a : b }
  private func greatest(_ a: Float, _ b: Float) -> Float { a > b || a.isNaN ? a : b }
}
