import CVectorMath
import LangevinTensor

/// Gradients of products' weights. How sums are cut up is decided by shapes alone, so that the result does not depend on
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
}
