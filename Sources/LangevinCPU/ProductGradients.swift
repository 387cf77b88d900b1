import CVectorMath
import LangevinTensor

/// Gradients made of products. How sums are cut up is decided by shapes alone, so that the result does not depend on
/// the number of cores.
extension CPUBackend {
  /// `X^T g` with the unfolded pixels X: inputs x and g, output [taps * C, columns].
  ///
  /// The pixels are cut into parts, and the matrix into kernel rows and blocks of columns; each piece sums its chunks of
  /// unfolded pixels, and the parts are added in their order.
  func conv2dWeightGradient(_ conv: Conv2D, _ inputs: [FloatArray], _ out: MutableFloatArray) throws {
    let (x, g) = (inputs[0], inputs[1])
    let (columns, channels) = (g.shape[3], x.shape[3])
    let pixels = g.shape.count / columns
    let k = conv.taps * channels
    guard pixels > 0 else { return out.pointer.update(repeating: 0, count: k * columns) }
    let line = conv.kernel.width * channels
    let unfold = Unfold(conv, x, height: g.shape[1], width: g.shape[2])
    let chunk = min(pixels, min(768, max(64, (1 << 18) / line)))
    let chunks = (pixels + chunk - 1) / chunk
    // At most 32 MiB of parts.
    let parts = max(1, min(chunks / 2, 16, (8 << 20) / (k * columns)))
    let columnBlock = min(columns, 256)
    let blocks = (columns + columnBlock - 1) / columnBlock
    let pieces = conv.kernel.height * blocks
    let partial = parts > 1 ? try pool.scratch(parts * k * columns) : nil
    let sums = partial?.floats ?? out.pointer
    let isUnfolded = !conv.isPointwise
    let scratch = try pool.scratch(isUnfolded ? workerCount(parts * pieces, grain: 1) * chunk * line : 1)
    let base = scratch.floats
    parallelFor(parts * pieces, grain: 1) { worker, range in
      for task in range {
        let (part, piece) = (task / pieces, task % pieces)
        let (row, first) = (piece / blocks, piece % blocks * columnBlock)
        let sum = sums + (part * k + row * line) * columns + first
        let begin = part * chunks / parts
        for index in begin..<(part + 1) * chunks / parts {
          let rows = index * chunk..<min((index + 1) * chunk, pixels)
          let matrix = base + worker * chunk * line
          if isUnfolded { unfold.rows(rows, kernelRows: row..<row + 1, into: matrix) }
          sgemm(
            line, min(columnBlock, columns - first), rows.count, 1,
            isUnfolded ? UnsafePointer(matrix) : x.pointer + rows.lowerBound * channels, line, true,
            g.pointer + rows.lowerBound * columns + first, columns, false, index == begin ? 0 : 1, sum,
            columns)
        }
      }
    }
    if let partial {
      parallelFor(k * columns, grain: elementGrain) { _, range in
        let sum = out.pointer + range.lowerBound
        sum.update(from: partial.floats + range.lowerBound, count: range.count)
        for part in 1..<parts {
          vm_accumulate(partial.floats + part * k * columns + range.lowerBound, 1, sum, range.count)
        }
      }
    }
    withExtendedLifetime((partial, scratch)) {}
  }

  /// Inputs Q, K, V, the output, g and the mask; output rows of dQ, then of dK and dV. arXiv:2205.14135, appendix B.
  ///
  /// With the weights P of a block of queries, `dV += P^T g`, `dS = P (g V^T - rowsum(g output)) scale`, `dQ = dS K` and
  /// `dK += dS^T Q`. A head of an image is one task.
  func attentionGradient(_ attention: Attention, _ inputs: [FloatArray], _ out: MutableFloatArray) throws {
    let (q, k, v, output, g) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])
    let (images, queries, channels) = (q.shape[0], q.shape[1], q.shape[2])
    let keys = k.shape[1]
    let size = channels / attention.heads
    let block = min(queries, 64)
    let width = (keys + 15) / 16 * 16
    let tasks = images * attention.heads
    let perWorker = 2 * block * width
    let scratch = try pool.scratch(max(workerCount(tasks, grain: 1) * perWorker, 1))
    let base = scratch.floats
    let ofKeys = out.pointer + images * queries * channels
    let ofValues = ofKeys + images * keys * channels
    ofKeys.update(repeating: 0, count: 2 * images * keys * channels)
    guard queries > 0 else { return }

    parallelFor(tasks, grain: 1) { worker, range in
      let weights = base + worker * perWorker
      let slopes = weights + block * width
      for task in range {
        let (image, head) = (task / attention.heads, task % attention.heads)
        let keyStart = image * keys * channels + head * size
        for first in stride(from: 0, to: queries, by: block) {
          let rows = min(block, queries - first)
          let start = (image * queries + first) * channels + head * size
          // Keys that come after every query of this block have no weight.
          let count = attention.causal ? first + rows : keys
          /// [rows, count] = a [rows, size] b [count, size]^T.
          func scores(_ a: FloatArray, _ b: FloatArray, _ scale: Float, _ c: UnsafeMutablePointer<Float>) {
            sgemm(
              rows, count, size, scale, a.pointer + start, channels, false, b.pointer + keyStart, channels,
              true,
              0, c, width)
          }
          /// [count, size] += a [rows, count]^T b [rows, size].
          func add(_ a: UnsafePointer<Float>, _ b: FloatArray, _ c: UnsafeMutablePointer<Float>) {
            sgemm(
              count, size, rows, 1, a, width, true, b.pointer + start, channels, false, 1, c + keyStart,
              channels)
          }
          scores(q, k, attention.scale, weights)
          scores(g, v, 1, slopes)
          for row in 0..<rows {
            let line = weights + row * width
            if attention.mask {
              let mask = inputs[5]
              let imageStart = mask.shape.rank == 3 ? image * queries * keys : 0
              vm_accumulate(mask.pointer + imageStart + (first + row) * keys, 1, line, count)
            }
            let visible = attention.causal ? first + row + 1 : count
            var (maximum, sum) = (-Float.greatestFiniteMagnitude, Float(0))
            _ = vm_softmax_block(line, visible, (count + 15) / 16 * 16, &maximum, &sum)
            // As in the forward pass, a query that may see no key at all has no weights.
            vm_scale(line, sum == 0 ? 0 : 1 / sum, line, count)
            let place = start + row * channels
            let total = vm_dot(g.pointer + place, output.pointer + place, size)
            vm_softmax_gradient(line, total, attention.scale, slopes + row * width, count)
          }
          sgemm(
            rows, size, count, 1, slopes, width, false, k.pointer + keyStart, channels, false, 0,
            out.pointer + start, channels)
          add(slopes, q, ofKeys)
          add(weights, g, ofValues)
        }
      }
    }
    withExtendedLifetime(scratch) {}
  }
}
