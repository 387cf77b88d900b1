import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// Attention by blocks of queries and keys with a running maximum and sum for each query
  /// (arXiv:2205.14135, algorithm 1): of the T x S scores only a block for each core is in memory.
  func attention(_ attention: Attention, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    let (images, queries, channels) = (y.shape[0], y.shape[1], y.shape[2])
    let keys = x[1].shape[1]
    let size = channels / attention.heads
    let pairs = images * attention.heads
    let packed = try PackedHeads(x[1], x[2], heads: attention.heads, pool: pool)
    let queryBlock = min(queries, 64)
    let keyBlock = min((keys + 31) / 32 * 32, 256)
    let blocks = (queries + queryBlock - 1) / queryBlock
    let tasks = pairs * blocks
    let perWorker = queryBlock * (keyBlock + packed.width + 2)
    let scratch = try pool.scratch(workerCount(tasks, grain: 1) * perWorker)
    let base = scratch.floats

    parallelFor(tasks, grain: 1) { worker, range in
      let scores = base + worker * perWorker
      let sumsOfValues = scores + queryBlock * keyBlock
      let maxima = sumsOfValues + queryBlock * packed.width
      let sums = maxima + queryBlock
      for task in range {
        let (pair, block) = (task / blocks, task % blocks)
        let (image, head) = (pair / attention.heads, pair % attention.heads)
        let first = block * queryBlock
        let rows = min(queryBlock, queries - first)
        let start = (image * queries + first) * channels + head * size
        maxima.update(repeating: -Float.greatestFiniteMagnitude, count: rows)
        sums.update(repeating: 0, count: rows)
        sumsOfValues.update(repeating: 0, count: rows * packed.width)

        // Blocks of keys that come after every query of this block are not visited at all.
        let end = attention.causal ? min(keys, first + rows) : keys
        for key in stride(from: 0, to: end, by: keyBlock) {
          let count = min(keyBlock, end - key)
          let width = (count + 31) / 32 * 32
          vm_attention_scores(
            x[0].pointer + start, channels, rows, packed.keys(pair, from: key), width / 32, size,
            attention.scale,
            scores)
          for row in 0..<rows {
            let line = scores + row * width
            if attention.mask {
              let mask = x[3]
              let imageStart = mask.shape.rank == 3 ? image * queries * keys : 0
              vm_accumulate(mask.pointer + imageStart + (first + row) * keys + key, 1, line, count)
            }
            let visible = attention.causal ? min(count, max(0, first + row + 1 - key)) : count
            let factor = vm_softmax_block(line, visible, width, maxima + row, sums + row)
            let out = sumsOfValues + row * packed.width
            if factor != 1 { vm_scale(out, factor, out, packed.width) }
          }
          vm_attention_values(
            scores, width, rows, packed.values(pair, from: key), count, packed.width, sumsOfValues)
        }
        for row in 0..<rows {
          // A query that may see no key at all gets zeros.
          let factor = sums[row] == 0 ? 0 : 1 / sums[row]
          vm_scale(sumsOfValues + row * packed.width, factor, y.pointer + start + row * channels, size)
        }
      }
    }
    withExtendedLifetime((scratch, packed)) {}
  }
}

/// Keys and values of every head as `vm_attention_scores` and `vm_attention_values` read them.
private struct PackedHeads {
  /// A row of values: the head's size, filled up to whole vectors.
  let width: Int
  private let storage: CPUStorage
  private let size: Int
  private let count: Int
  private let keysPerHead: Int
  private let heads: Int

  init(_ keys: FloatArray, _ values: FloatArray, heads: Int, pool: MemoryPool) throws {
    let (images, count, channels) = (keys.shape[0], keys.shape[1], keys.shape[2])
    let size = channels / heads
    let width = (size + 15) / 16 * 16
    let keysPerHead = (count + 31) / 32 * 32 * size
    let storage = try pool.scratch(images * heads * (keysPerHead + count * width))
    let base = storage.floats
    parallelFor(images * heads, grain: 1) { _, range in
      for pair in range {
        let source = pair / heads * count * channels + pair % heads * size
        vm_pack_keys(keys.pointer + source, channels, count, size, base + pair * keysPerHead)
        let rows = base + images * heads * keysPerHead + pair * count * width
        for key in 0..<count {
          (rows + key * width).update(from: values.pointer + source + key * channels, count: size)
          (rows + key * width + size).update(repeating: 0, count: width - size)
        }
      }
    }
    (self.width, self.storage, self.size, self.count) = (width, storage, size, count)
    (self.keysPerHead, self.heads) = (keysPerHead, images * heads)
  }

  /// From key `key`, a multiple of 32, on.
  func keys(_ pair: Int, from key: Int) -> UnsafePointer<Float> {
    UnsafePointer(storage.floats + pair * keysPerHead + key * size)
  }

  func values(_ pair: Int, from key: Int) -> UnsafePointer<Float> {
    UnsafePointer(storage.floats + heads * keysPerHead + (pair * count + key) * width)
  }
}
