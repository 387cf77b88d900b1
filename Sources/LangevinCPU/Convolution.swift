import Glibc
import LangevinTensor

/// Convolution as products of unfolded pixels [pixels, taps * C] with the weight [taps * C, columns]; only a
/// chunk of the unfolded matrix for each core is in memory.
extension CPUBackend {
  func conv2d(_ conv: Conv2D, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    let (n, channels) = (y.shape[3], x[0].shape[3])
    let k = conv.taps * channels
    let rowsPerImage = y.shape[1] * y.shape[2]
    let m = y.shape[0] * rowsPerImage
    let epilogue = EpilogueOperands(conv.epilogue, x, columns: n, rowsPerImage: rowsPerImage)
    let weight = x[1].pointer
    let isTransposed = conv.weight != .rowMajor
    let product = Product(m: m, n: n, k: k, transposeRight: isTransposed)
    if conv.isPointwise { return product.computeInParallel(x[0].pointer, weight, y.pointer, epilogue) }

    let unfold = Unfold(conv, x[0], height: y.shape[1], width: y.shape[2])
    let pieces = Product.fewestPieces
    if m < 256 * pieces {
      // A small picture under a large weight: unfolded once, and the weight's columns are cut instead.
      let matrix = try pool.scratch(m * k)
      parallelFor(m, grain: max(elementGrain / max(k, 1), 1)) { _, rows in
        unfold.rows(rows, into: matrix.floats + rows.lowerBound * k)
      }
      product.computeInParallel(UnsafePointer(matrix.floats), weight, y.pointer, epilogue)
      withExtendedLifetime(matrix) {}
      return
    }
    // Rows enough to spread the cost of BLAS packing the weight, within 24 MiB a core.
    let most = min(Product.mostRows, max(64, (6 << 20) / max(k, 1)))
    let rounds = (m + pieces * most - 1) / (pieces * most)
    let grain = (m + pieces * rounds - 1) / (pieces * rounds)
    let scratch = try pool.scratch(workerCount(m, grain: grain) * grain * k)
    let base = scratch.floats
    parallelFor(m, grain: grain) { worker, rows in
      let matrix = base + worker * grain * k
      unfold.rows(rows, into: matrix)
      let chunk = Product(m: rows.count, n: n, k: k, transposeRight: isTransposed)
      chunk.compute(
        UnsafePointer(matrix) - rows.lowerBound * k, weight, y.pointer, epilogue, rows, 0..<n)
    }
    withExtendedLifetime(scratch) {}
  }
}

/// Writes the neighbourhoods of output pixels as rows: tap by tap, channels innermost.
struct Unfold {
  private let conv: Conv2D
  private let x: UnsafePointer<Float>
  private let inHeight: Int
  private let inWidth: Int
  private let channels: Int
  private let height: Int
  private let width: Int

  init(_ conv: Conv2D, _ x: FloatArray, height: Int, width: Int) {
    self.conv = conv
    self.x = x.pointer
    (inHeight, inWidth, channels) = (x.shape[1], x.shape[2], x.shape[3])
    self.height = height
    self.width = width
  }

  /// Of all rows of the kernel, or of some.
  func rows(_ rows: Range<Int>, kernelRows: Range<Int>? = nil, into matrix: UnsafeMutablePointer<Float>) {
    var out = matrix
    let kernelRows = kernelRows ?? 0..<conv.kernel.height
    let lineCount = conv.kernel.width * channels
    for pixel in rows {
      let (image, place) = (pixel / (height * width), pixel % (height * width))
      let top = place / width * conv.stride - conv.padding.top
      let left = place % width * conv.stride - conv.padding.left
      // The taps of one kernel row that fall on the picture are neighbours in memory.
      let first = min(max(0, -left), conv.kernel.width)
      let last = max(first, min(conv.kernel.width, inWidth - left))
      for line in top + kernelRows.lowerBound..<top + kernelRows.upperBound {
        if (0..<inHeight).contains(line), first < last {
          out.update(repeating: 0, count: first * channels)
          let source = x + ((image * inHeight + line) * inWidth + left + first) * channels
          memcpy(out + first * channels, source, (last - first) * channels * 4)
          (out + last * channels).update(repeating: 0, count: (conv.kernel.width - last) * channels)
        } else {
          out.update(repeating: 0, count: lineCount)
        }
        out += lineCount
      }
    }
  }
}
