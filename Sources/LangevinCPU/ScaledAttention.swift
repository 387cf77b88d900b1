import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// Attention by blocks of queries and keys with a running maximum and sum for each query
  /// (arXiv:2205.14135, algorithm 1): of the T x S scores only a block for each core is in memory.
  func attention(_ attention: Attention, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    let (images, queries, channels) = (y.shape[0], y.shape[1], y.shape[2])
    let keys = x[1].shape[1]
    let size = channels / attention.heads
    let queryBlock = min(queries, 128)
    let keyBlock = min(keys, 512)
    let blocks = (queries + queryBlock - 1) / queryBlock
    let tasks = images * attention.heads * blocks
    let perWorker = queryBlock * (keyBlock + 2)
    let scratch = try pool.scratch(workerCount(tasks, grain: 1) * perWorker)
    let base = scratch.floats

    parallelFor(tasks, grain: 1) { worker, range in
      let scores = base + worker * perWorker
      let maxima = scores + queryBlock * keyBlock
      let sums = maxima + queryBlock
      for task in range {
        let (image, head) = (task / (attention.heads * blocks), task / blocks % attention.heads)
        let first = task % blocks * queryBlock
        let rows = min(queryBlock, queries - first)
        let q = x[0].pointer + (image * queries + first) * channels + head * size
        let out = y.pointer + (image * queries + first) * channels + head * size
        maxima.update(repeating: -Float.greatestFiniteMagnitude, count: rows)
        sums.update(repeating: 0, count: rows)

        // Blocks of keys that come after every query of this block are not visited at all.
        let end = attention.causal ? min(keys, first + rows) : keys
        for start in stride(from: 0, to: end, by: keyBlock) {
          let width = min(keyBlock, end - start)
          let k = x[1].pointer + (image * keys + start) * channels + head * size
          let v = x[2].pointer + (image * keys + start) * channels + head * size
          sgemm(rows, width, size, attention.scale, q, channels, false, k, channels, true, 0, scores, width)
          for row in 0..<rows {
            let line = scores + row * width
            if attention.mask {
              let mask = x[3]
              let imageStart = mask.shape.rank == 3 ? image * queries * keys : 0
              vm_accumulate(mask.pointer + imageStart + (first + row) * keys + start, 1, line, width)
            }
            let visible = attention.causal ? min(width, max(0, first + row + 1 - start)) : width
            let factor = vm_softmax_block(line, visible, width, maxima + row, sums + row)
            if start > 0 { vm_scale(out + row * channels, factor, out + row * channels, size) }
          }
          sgemm(
            rows, size, width, 1, scores, width, false, v, channels, false, start > 0 ? 1 : 0, out, channels)
        }
        for row in 0..<rows {
          // A query that may see no key at all gets zeros.
          let factor = sums[row] == 0 ? 0 : 1 / sums[row]
          vm_scale(out + row * channels, factor, out + row * channels, size)
        }
      }
    }
    withExtendedLifetime(scratch) {}
  }
}
