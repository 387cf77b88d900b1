import CVectorMath
import LangevinTensor

/// Matrix products, and what `conv2d` shares with them.
extension CPUBackend {
  func matmul(_ matmul: MatMul, _ x: [FloatArray], _ y: MutableFloatArray) throws {
    if matmul.right == .int8Blocks { return try int8Matmul(matmul, x, y) }
    if let encoding = matmul.right.encoding { return try self.matmul(matmul, in: encoding, x, y) }
    if let narrow = x[1].narrow { return try self.matmul(matmul, in: narrow, x, y) }
    let (a, b) = (x[0], x[1])
    let size = matmul.size(left: a.shape, right: b.shape)
    let (batch, m, n, k) = (size.batch, size.rows, size.columns, size.inner)
    let epilogue = EpilogueOperands(matmul.epilogue, x, columns: n, rowsPerImage: 0)
    let right = b.pointer
    let product = Product(
      m: m, n: n, k: k, scale: matmul.scale, transposeLeft: matmul.transposeLeft,
      transposeRight: matmul.right != .rowMajor)
    if m >= Panels.fewestRows, !matmul.transposeLeft, !product.isSmall {
      for i in 0..<batch {
        try Panels.packing(
          right + i * k * n, k: k, columns: n, isTransposed: product.transposeRight, scale: matmul.scale,
          pool: pool
        ) {
          try multiply(
            a.pointer + i * m * k, rows: m, k: k, by: $0, epilogue.advanced(i * m),
            into: y.pointer + i * m * n)
        }
      }
    } else if batch >= Product.fewestPieces || product.isSmall {
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

  /// What anything worth sharing out is cut into at least. The shape alone decides how a product is cut, never the
  /// number of cores: BLAS rounds a sum by the size of the block in which it stands.
  static let fewestPieces = 4
  /// Rows of a block at most, so that it stays in its core's cache.
  static let mostRows = 768

  /// The whole product, its output cut into a grid that is shared out over the cores.
  func computeInParallel(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>,
    _ epilogue: EpilogueOperands
  ) {
    if isSmall { return compute(a, b, c, epilogue, 0..<m, 0..<n) }
    let (rowBlock, columnBlock) = blockSize
    let columnBlocks = (n + columnBlock - 1) / columnBlock
    let rowBlocks = (m + rowBlock - 1) / rowBlock
    parallelFor(rowBlocks * columnBlocks, grain: 1) { _, range in
      for block in range {
        let (i, j) = (block / columnBlocks * rowBlock, block % columnBlocks * columnBlock)
        compute(a, b, c, epilogue, i..<min(i + rowBlock, m), j..<min(j + columnBlock, n))
      }
    }
  }

  /// Of the grids with blocks enough, the one for which BLAS packs least: a block packs its part of both operands.
  private var blockSize: (rows: Int, columns: Int) {
    let wanted = m * n * k < 1 << 30 ? Product.fewestPieces : 2 * Product.fewestPieces
    let least = (m + Product.mostRows - 1) / Product.mostRows
    // Blocks of fewer than 64 rows or 32 columns cost more than they bring.
    let grids = (least...max(least, min(wanted, m / 64))).map { rows in
      (rows: rows, columns: max(1, min((wanted + rows - 1) / rows, n / 32)))
    }
    func cost(_ grid: (rows: Int, columns: Int)) -> (missing: Int, packed: Int) {
      (max(0, wanted - grid.rows * grid.columns), grid.rows * n + grid.columns * m)
    }
    let best = grids.min { cost($0) < cost($1) } ?? (rows: least, columns: 1)
    // Whole vectors of 16 numbers.
    return (
      ((m + best.rows - 1) / best.rows + 15) / 16 * 16, ((n + best.columns - 1) / best.columns + 15) / 16 * 16
    )
  }

  /// One block of the output, on this thread.
  func compute(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ c: UnsafeMutablePointer<Float>,
    _ epilogue: EpilogueOperands, _ rows: Range<Int>, _ columns: Range<Int>
  ) {
    // What is added goes into C first and BLAS adds to it: BLAS would pass over C to clear it anyway.
    let out = c + rows.lowerBound * n + columns.lowerBound
    let isFilled = epilogue.fill(out, ld: n, rows, columns)
    sgemm(
      rows.count, columns.count, k, scale,
      a + rows.lowerBound * (transposeLeft ? 1 : k), transposeLeft ? m : k, transposeLeft,
      b + columns.lowerBound * (transposeRight ? k : 1), transposeRight ? k : n, transposeRight,
      isFilled ? 1 : 0, out, n)
    epilogue.activate(out, ld: n, rows, columns)
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
  /// The residual where it is kept as it is stored, in bfloat16.
  private var narrowResidual: UnsafePointer<UInt16>?
  private let activation: vm_unary_function?
  private let columns: Int
  private let rowsPerImage: Int

  /// Of a product that nothing is added to.
  init() { (activation, columns, rowsPerImage) = (nil, 0, 1) }

  /// `inputs` are the product's.
  init(_ epilogue: Epilogue, _ inputs: [FloatArray], columns: Int, rowsPerImage: Int) {
    let operands = epilogue.operands(inputs)
    bias = operands.bias?.pointer
    perImage = operands.perImage?.pointer
    narrowResidual = operands.residual?.narrow?.shorts
    residual = narrowResidual == nil ? operands.residual?.pointer : nil
    activation = epilogue.activation.vectorised
    self.columns = columns
    self.rowsPerImage = rowsPerImage
  }

  /// For an output that begins `rows` further down.
  func advanced(_ rows: Int) -> EpilogueOperands {
    var result = self
    result.residual = residual.map { $0 + rows * columns }
    result.narrowResidual = narrowResidual.map { $0 + rows * columns }
    return result
  }

  /// Writes the sum of the operands to a block of the output, which begins at `c`; false where there are none.
  func fill(_ c: UnsafeMutablePointer<Float>, ld: Int, _ rows: Range<Int>, _ block: Range<Int>) -> Bool {
    guard bias != nil || perImage != nil || residual != nil || narrowResidual != nil else { return false }
    for row in rows {
      let out = c + (row - rows.lowerBound) * ld
      var isFirst = true
      func add(_ source: UnsafePointer<Float>) {
        if isFirst {
          out.update(from: source, count: block.count)
        } else {
          vm_accumulate(source, 1, out, block.count)
        }
        isFirst = false
      }
      if let narrowResidual {
        vm_bfloat_to_float(narrowResidual + row * columns + block.lowerBound, out, block.count)
        isFirst = false
      }
      if let bias { add(bias + block.lowerBound) }
      if let perImage { add(perImage + row / rowsPerImage * columns + block.lowerBound) }
      if let residual { add(residual + row * columns + block.lowerBound) }
    }
    return true
  }

  /// Applies the activation to a block that begins at `c`.
  func activate(_ c: UnsafeMutablePointer<Float>, ld: Int, _ rows: Range<Int>, _ block: Range<Int>) {
    guard let activation else { return }
    for row in 0..<rows.count { vm_unary(activation, c + row * ld, c + row * ld, block.count) }
  }
}
