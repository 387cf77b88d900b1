import CVectorMath
import LangevinTensor

extension CPUBackend {
  /// Inputs Q, K, V, the output, g and the mask; output rows of dQ, then of dK and dV. arXiv:2205.14135, appendix B.
  ///
  /// With the weights P of a block of queries, `dV += P^T g`, `dS = P (g V^T - rowsum(g output)) scale`, `dQ = dS K` and
  /// `dK += dS^T Q`. A head of an image is one task.
  func attentionGradient(_ attention: Attention, _ inputs: [FloatArray], _ out: MutableFloatArray) throws {
    let (q, k, v, output, g) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])
    let (images, queries, channels) = (q.shape[0], q.shape[1], q.shape[2])
    let keys = k.shape[1]
    let size = channels / attention.heads
    let dQ = out.pointer
    let dK = dQ + images * queries * channels
    let dV = dK + images * keys * channels
    guard queries > 0 else { return dK.update(repeating: 0, count: 2 * images * keys * channels) }

    let block = min(queries, 64)
    let rows = HeadRows(size: size, stride: channels)
    let panels = (keys + 31) / 32
    // 16 numbers more than a row needs: rows that are a power of two apart would share a set of the cache.
    let width = panels * 32 + 16
    var layout = ScratchLayout()
    let (keyPanels, valuePanels) = (layout.add(panels * 32 * size), layout.add(panels * 32 * size))
    let (keyRows, keySums, valueSums) = (
      layout.add(keys * rows.width), layout.add(keys * rows.width), layout.add(keys * rows.width)
    )
    let (queryRows, gRows, querySums) = (
      layout.add(block * rows.width), layout.add(block * rows.width), layout.add(block * rows.width)
    )
    let (weights, slopes) = (layout.add(block * width), layout.add(block * width))
    let (maxima, sums, totals) = (layout.add(block), layout.add(block), layout.add(block))

    let tasks = images * attention.heads
    let scratch = try pool.scratch(workerCount(tasks, grain: 1) * layout.count)
    parallelFor(tasks, grain: 1) { worker, range in
      let own = scratch.floats + worker * layout.count
      for task in range {
        let (image, head) = (task / attention.heads, task % attention.heads)
        let keyStart = image * keys * channels + head * size
        vm_pack_keys(k.pointer + keyStart, channels, keys, size, own + keyPanels)
        vm_pack_keys(v.pointer + keyStart, channels, keys, size, own + valuePanels)
        rows.pack(k.pointer + keyStart, keys, own + keyRows)
        (own + keySums).update(repeating: 0, count: keys * rows.width)
        (own + valueSums).update(repeating: 0, count: keys * rows.width)
        for first in stride(from: 0, to: queries, by: block) {
          let here = min(block, queries - first)
          let start = (image * queries + first) * channels + head * size
          // Keys that come after every query of this block have no weight.
          let seen = attention.causal ? min(keys, first + here) : keys
          let seenPanels = (seen + 31) / 32
          rows.pack(q.pointer + start, here, own + queryRows)
          rows.pack(g.pointer + start, here, own + gRows)
          vm_attention_scores(
            q.pointer + start, channels, here, own + keyPanels, seenPanels, size, attention.scale,
            own + weights, width)
          vm_attention_scores(
            g.pointer + start, channels, here, own + valuePanels, seenPanels, size, 1, own + slopes, width)
          if attention.mask {
            attention.addMask(
              inputs[5], image: image, queries: first..<first + here, keys: 0..<seen, to: own + weights, width
            )
          }
          (own + maxima).update(repeating: -Float.greatestFiniteMagnitude, count: here)
          (own + sums).update(repeating: 0, count: here)
          vm_softmax_rows(
            own + weights, width, here, attention.causal ? first + 1 : seen, attention.causal ? 1 : 0,
            seenPanels * 32, own + maxima, own + sums, nil, 0)
          vm_row_dots(g.pointer + start, output.pointer + start, channels, here, size, own + totals)
          vm_softmax_slopes(
            own + weights, own + slopes, width, here, seenPanels * 32, own + sums, own + totals,
            attention.scale)
          (own + querySums).update(repeating: 0, count: here * rows.width)
          vm_attention_values(own + slopes, width, here, own + keyRows, seen, rows.width, own + querySums)
          rows.unpack(own + querySums, here, dQ + start)
          vm_attention_values_transposed(
            own + slopes, width, seen, own + queryRows, here, rows.width, own + keySums)
          vm_attention_values_transposed(
            own + weights, width, seen, own + gRows, here, rows.width, own + valueSums)
        }
        rows.unpack(own + keySums, keys, dK + keyStart)
        rows.unpack(own + valueSums, keys, dV + keyStart)
      }
    }
    withExtendedLifetime(scratch) {}
  }
}

/// Where each part of a worker's scratch begins.
private struct ScratchLayout {
  /// Numbers of all parts.
  private(set) var count = 0

  /// The offset of a part of `size` numbers, which begins with a cache line.
  mutating func add(_ size: Int) -> Int {
    defer { count += (size + 15) / 16 * 16 }
    return count
  }
}
