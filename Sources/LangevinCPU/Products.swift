import CVectorMath
import LangevinTensor

/// Matrix products, and what `conv2d` shares with them.
extension CPUBackend {
  func matmul(_ matmul: MatMul, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    let (a, b) = (x[0], x[1])
    let size = matmul.size(left: a.shape, right: b.shape)
    let (batch, m, n, k) = (size.batch, size.rows, size.columns, size.inner)
    let epilogue = EpilogueOperands(matmul.epilogue, x, columns: n, rowsPerImage: 0)
    let right = b.pointer
    let product = Product(
      m: m, n: n, k: k, scale: matmul.scale, transposeLeft: matmul.transposeLeft,
      transposeRight: matmul.right != .rowMajor)
    if batch >= 2 * coreCount || product.isSmall {
      parallelFor(batch, grain: product.isSmall ? max(65536 / max(m * n * k, 1), 1) : 1) { _, range in
        for i in range {
          product.compute(
            a.pointer + i * m * k, right + i * k * n, y.pointer + i * m * n, epilogue.advanced(i * m), 0..<m,
            0..<n)
        }
      }
    } else {
      for i in 0..<batch {
        product.computeInParallel(
          a.pointer + i * m * k, right + i * k * n, y.pointer + i * m * n, epilogue.advanced(i * m))
      }
    }
  }
}

/// C [m, n] = scale * A [m, k] B [k, n] + epilogue; each operand may be stored transposed.
struct Product {
  var m: Int
  var n: Int
  var k: Int
  var scale: Float = 1
  var transposeLeft = false
  var transposeRight = false

  /// Whether the product is too small to share out over the cores.
  var isSmall: Bool { m * n * k < 65536 }

  /// The whole product, its output cut into a grid over the cores.
  func computeInParallel(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>,
    _ epilogue: EpilogueOperands
  ) {
    if isSmall { return compute(a, b, c, epilogue, 0..<m, 0..<n) }
    // Blocks of at most 768 rows, where there are rows enough; few rows are cut along the columns instead.
    let wanted = coreCount * ((m + coreCount * 768 - 1) / (coreCount * 768))
    let rowBlocks = max(1, min(m / 128, wanted))
    let columnBlocks = max(1, min((coreCount + rowBlocks - 1) / rowBlocks, n / 32))
    let rowBlock = (m + rowBlocks - 1) / rowBlocks
    let columnBlock = ((n + columnBlocks - 1) / columnBlocks + 15) / 16 * 16
    parallelFor(rowBlocks * columnBlocks, grain: 1) { _, range in
      for block in range {
        let (i, j) = (block / columnBlocks * rowBlock, block % columnBlocks * columnBlock)
        if i < m, j < n {
          compute(a, b, c, epilogue, i..<min(i + rowBlock, m), j..<min(j + columnBlock, n))
        }
      }
    }
  }

  /// One block of the output, on this thread.
  func compute(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>,
    _ epilogue: EpilogueOperands, _ rows: Range<Int>, _ columns: Range<Int>
  ) {
    // What is added goes into C first and BLAS adds to it: BLAS would pass over C to clear it anyway.
    let isFilled = epilogue.fill(c, ld: n, rows, columns)
    sgemm(
      rows.count, columns.count, k, scale,
      a + rows.lowerBound * (transposeLeft ? 1 : k), transposeLeft ? m : k, transposeLeft,
      b + columns.lowerBound * (transposeRight ? k : 1), transposeRight ? k : n, transposeRight,
      isFilled ? 1 : 0, c + rows.lowerBound * n + columns.lowerBound, n)
    epilogue.activate(c, ld: n, rows, columns)
  }
}

/// C = alpha A B + beta C on this thread, row-major.
func sgemm(
  _ m: Int, _ n: Int, _ k: Int, _ alpha: Float,
  _ a: UnsafePointer<Float>, _ lda: Int, _ transposeA: Bool,
  _ b: UnsafePointer<Float>, _ ldb: Int, _ transposeB: Bool,
  _ beta: Float, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
) {
  BLAS.loaded.sgemm(
    BLAS.rowMajor, transposeA ? BLAS.transpose : BLAS.noTranspose,
    transposeB ? BLAS.transpose : BLAS.noTranspose,
    Int32(m), Int32(n), Int32(k), alpha, a, Int32(max(lda, 1)), b, Int32(max(ldb, 1)), beta, c,
    Int32(max(ldc, 1)))
}

/// What is added to a product's rows, and the activation after it.
struct EpilogueOperands {
  private var bias: UnsafePointer<Float>?
  private var perImage: UnsafePointer<Float>?
  private var residual: UnsafePointer<Float>?
  private let activation: vm_unary_function?
  private let columns: Int
  private let rowsPerImage: Int

  /// `inputs` are the product's.
  init(_ epilogue: Epilogue, _ inputs: [FloatArray], columns: Int, rowsPerImage: Int) {
    let operands = epilogue.operands(inputs)
    bias = operands.bias?.pointer
    perImage = operands.perImage?.pointer
    residual = operands.residual?.pointer
    activation = epilogue.activation.vectorised
    self.columns = columns
    self.rowsPerImage = rowsPerImage
  }

  /// For an output that begins `rows` further down.
  func advanced(_ rows: Int) -> EpilogueOperands {
    var result = self
    result.residual = residual.map { $0 + rows * columns }
    return result
  }

  /// Writes the sum of the operands to a block of `c`; false where there are none.
  func fill(_ c: UnsafeMutablePointer<Float>, ld: Int, _ rows: Range<Int>, _ block: Range<Int>) -> Bool {
    guard bias != nil || perImage != nil || residual != nil else { return false }
    for row in rows {
      let out = c + row * ld + block.lowerBound
      var isFirst = true
      func add(_ source: UnsafePointer<Float>) {
        if isFirst {
          out.update(from: source, count: block.count)
        } else {
          vm_accumulate(source, 1, out, block.count)
        }
        isFirst = false
      }
      if let bias { add(bias + block.lowerBound) }
      if let perImage { add(perImage + row / rowsPerImage * columns + block.lowerBound) }
      if let residual { add(residual + row * columns + block.lowerBound) }
    }
    return true
  }

  func activate(_ c: UnsafeMutablePointer<Float>, ld: Int, _ rows: Range<Int>, _ block: Range<Int>) {
    guard let activation else { return }
    for row in rows {
      let out = c + row * ld + block.lowerBound
      vm_unary(activation, out, out, block.count)
    }
  }
}
