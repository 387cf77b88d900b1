import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// Sums and means accumulate in double precision.
  func reduce(_ reduce: Reduce, _ x: FloatArray, _ y: MutableFloatArray) throws {
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
    let step = inner.count > 1 ? inner[1] : 0
    if reduce.kind == .sum || reduce.kind == .mean, !isInner, inner.count >= 32,
      inner.indices.allSatisfy({ inner[$0] == $0 * step })
    {
      return try sumRows(x.pointer, outer, rows: inner.count, step: step, run, divisor, y.pointer)
    }

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

  /// Sums of many rows, `step` apart, for each place of `outer`: chunks of rows, whose size only the shape decides, are
  /// summed on all cores and added in their order.
  private func sumRows(
    _ x: UnsafePointer<Float>, _ outer: [Int], rows: Int, step: Int, _ width: Int, _ divisor: Double,
    _ y: UnsafeMutablePointer<Float>
  ) throws {
    let chunk = max((rows + 63) / 64, min(rows, max(elementGrain / max(width, 1) / 8 * 8, 8)))
    let chunks = (rows + chunk - 1) / chunk
    let storage = try pool.allocate(byteCount: outer.count * chunks * width * 8)
    let sums = storage.pointer.assumingMemoryBound(to: Double.self)
    parallelFor(outer.count * chunks, grain: max(elementGrain / max(chunk * width, 1), 1)) { _, range in
      for task in range {
        let (place, first) = (task / chunks, task % chunks * chunk)
        let sum = sums + task * width
        sum.update(repeating: 0, count: width)
        vm_add_rows_to_doubles(x + outer[place] + first * step, step, min(chunk, rows - first), sum, width)
      }
    }
    parallelFor(outer.count, grain: max(elementGrain / max(chunks * width, 1), 1)) { _, range in
      for place in range {
        let first = sums + place * chunks * width
        for j in 0..<width {
          let sum = (1..<chunks).reduce(first[j]) { $0 + first[$1 * width + j] }
          y[place * width + j] = Float(sum / divisor)
        }
      }
    }
    withExtendedLifetime(storage) {}
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
