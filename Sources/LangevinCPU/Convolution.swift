import Glibc
import LangevinTensor

extension CPUBackend {
  /// A product of the pixels' neighbourhoods [pixels, taps * C] with the weight [taps * C, columns]. The neighbourhoods
  /// are read where they lie: a padded tap is a row of zeros. Many pixels go tile by tile. Only small pictures under a
  /// large weight are unfolded.
  func conv2d(_ conv: Conv2D, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    if conv.weight == .int8Blocks { return try int8Conv2d(conv, x, y) }
    let pixels = x[0].words
    let (n, channels) = (y.shape[3], pixels.shape[3])
    let k = conv.taps * channels
    let rowsPerImage = y.shape[1] * y.shape[2]
    let m = y.shape[0] * rowsPerImage
    let epilogue = EpilogueOperands(conv.epilogue, x, columns: n, rowsPerImage: rowsPerImage)
    let weight = x[1].pointer
    let isTransposed = conv.weight != .rowMajor
    let unfold = Unfold(conv, pixels, height: y.shape[1], width: y.shape[2])
    let narrow = x[1].narrow
    if k > 0, m >= Panels.fewestRows || conv.weight.encoding != nil || narrow != nil {
      let zeros = try pool.scratch(channels)
      zeros.floats.update(repeating: 0, count: channels)
      func eachPart(_ body: (Panels) throws -> Void) throws {
        if let narrow {
          return try Panels.packing(
            narrow, k: conv.taps * x[0].shape[3], columns: n, inPairs: x[0].isPaired, pool: pool, body)
        }
        guard let encoding = conv.weight.encoding else {
          return try Panels.packing(weight, k: k, columns: n, isTransposed: isTransposed, pool: pool, body)
        }
        try Panels.decoding(
          BlockOperand(encoding, x[1]), channels: channels, taps: conv.taps, columns: n, pool: pool, body)
      }
      // In pairs the direct sum takes 0.4 to 0.95 of the tiles' time, and rounds nothing between.
      if !x[0].isPaired, let tiles = WinogradTiles(conv, input: x[0].shape, output: y.shape) {
        try convolve(tiles, x[0].pointer, zeros: zeros.floats, epilogue, into: y.pointer, eachPart)
      } else {
        try eachPart { panels in
          if conv.isPointwise {
            return try multiply(pixels.pointer, rows: m, k: k, by: panels, epilogue, into: y.pointer)
          }
          try multiply(rows: m, taps: conv.taps, inner: channels, by: panels, epilogue, into: y.pointer) {
            unfold.place($0, zeros: zeros.floats, into: $1)
          }
        }
      }
      return withExtendedLifetime(zeros) {}
    }
    // The weight's columns are cut and not its rows.
    let product = Product(m: m, n: n, k: k, transposeRight: isTransposed)
    if conv.isPointwise { return product.computeInParallel(x[0].pointer, weight, y.pointer, epilogue) }
    let matrix = try pool.scratch(m * k)
    parallelFor(m, grain: max(elementGrain / max(k, 1), 1)) { _, rows in
      unfold.rows(rows, into: matrix.floats + rows.lowerBound * k)
    }
    product.computeInParallel(UnsafePointer(matrix.floats), weight, y.pointer, epilogue)
    withExtendedLifetime(matrix) {}
  }
}

/// The neighbourhoods of output pixels as rows: tap by tap, channels innermost.
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

  /// Writes them, of all rows of the kernel or of some.
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

  /// Where each row's taps begin in the picture, or `zeros` beside it: `left[tap * rows.count + i]` for the i-th row.
  func place(
    _ rows: Range<Int>, zeros: UnsafePointer<Float>, into left: UnsafeMutablePointer<UnsafePointer<Float>?>
  ) {
    let (taps, count) = (conv.kernel, rows.count)
    for pixel in rows {
      let (image, place) = (pixel / (height * width), pixel % (height * width))
      let top = place / width * conv.stride - conv.padding.top
      let start = place % width * conv.stride - conv.padding.left
      var entry = left + (pixel - rows.lowerBound)
      for line in top..<top + taps.height {
        let isInside = line >= 0 && line < inHeight
        let source = (image * inHeight + line) * inWidth
        for column in start..<start + taps.width {
          entry.pointee =
            isInside && column >= 0 && column < inWidth ? x + (source + column) * channels : zeros
          entry += count
        }
      }
    }
  }
}
