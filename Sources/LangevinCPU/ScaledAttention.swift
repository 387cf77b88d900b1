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
    // Words of a query: its numbers, or pairs of them.
    let query = x[0].words
    let words = query.shape[2]
    let multiply = x[0].isPaired ? vm_attention_pair_scores : vm_attention_scores
    let packed = try PackedHeads(x[1].words, x[2], heads: attention.heads, pool: pool)
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
          multiply(
            query.pointer + start / channels * words + head * (words / attention.heads), words, rows,
            packed.keys(pair, from: key), width / 32, words / attention.heads, attention.scale, scores, width)
          if attention.mask {
            attention.addMask(
              x[3], image: image, queries: first..<first + rows, keys: key..<key + count, to: scores, width)
          }
          vm_softmax_rows(
            scores, width, rows, attention.causal ? first + 1 - key : count, attention.causal ? 1 : 0, width,
            maxima, sums, sumsOfValues, packed.width)
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

extension Attention {
  /// Adds the mask, [T, S] or [N, T, S], to scores of these queries and keys, `width` numbers a row.
  func addMask(
    _ mask: FloatArray, image: Int, queries: Range<Int>, keys: Range<Int>,
    to scores: UnsafeMutablePointer<Float>, _ width: Int
  ) {
    let (count, keyCount) = (mask.shape[-2], mask.shape[-1])
    let start = mask.pointer + (mask.shape.rank == 3 ? image * count * keyCount : 0) + keys.lowerBound
    for query in queries {
      vm_accumulate(
        start + query * keyCount, 1, scores + (query - queries.lowerBound) * width, keys.count)
    }
  }
}

/// A head's rows of a [tokens, heads * size] matrix, by themselves and filled up to whole vectors.
struct HeadRows {
  /// Numbers of a packed row, a multiple of 16.
  let width: Int
  private let size: Int
  private let stride: Int

  init(size: Int, stride: Int) {
    (width, self.size, self.stride) = ((size + 15) / 16 * 16, size, stride)
  }

  func pack(_ source: UnsafePointer<Float>, _ count: Int, _ packed: UnsafeMutablePointer<Float>) {
    for row in 0..<count {
      (packed + row * width).update(from: source + row * stride, count: size)
      (packed + row * width + size).update(repeating: 0, count: width - size)
    }
  }

  func unpack(_ packed: UnsafePointer<Float>, _ count: Int, _ target: UnsafeMutablePointer<Float>) {
    for row in 0..<count { (target + row * stride).update(from: packed + row * width, count: size) }
  }
}

/// Keys and values of every head as `vm_attention_scores` and `vm_attention_values` read them.
private struct PackedHeads {
  /// Numbers of a row of values.
  var width: Int { rows.width }
  private let rows: HeadRows
  private let storage: CPUStorage
  /// Words of a key.
  private let size: Int
  private let count: Int
  private let keysPerHead: Int
  private let heads: Int

  init(_ keys: FloatArray, _ values: FloatArray, heads: Int, pool: MemoryPool) throws {
    let (images, count, channels) = (values.shape[0], values.shape[1], values.shape[2])
    let size = keys.shape[2] / heads
    let rows = HeadRows(size: channels / heads, stride: channels)
    let keysPerHead = (count + 31) / 32 * 32 * size
    let storage = try pool.scratch(images * heads * (keysPerHead + count * rows.width))
    let base = storage.floats
    parallelFor(images * heads, grain: 1) { _, range in
      for pair in range {
        let (image, head) = (pair / heads, pair % heads)
        let words = keys.shape[2]
        vm_pack_keys(
          keys.pointer + image * count * words + head * size, words, count, size, base + pair * keysPerHead)
        rows.pack(
          values.pointer + image * count * channels + head * (channels / heads), count,
          base + images * heads * keysPerHead + pair * count * rows.width)
      }
    }
    (self.rows, self.storage, self.size, self.count) = (rows, storage, size, count)
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
