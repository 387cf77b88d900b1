import LangevinTensor

/// Weights in blocks, as a checkpoint has them.
extension OperationCases {
  static var blocks: [OperationCase] {
    BlockEncoding.allCases.flatMap { encoding in
      let size = encoding.elementCount
      return [1, 2, 3, 37].map { dequantize(encoding, blocks: $0) }
        + [dequantize(encoding, blocks: 3, sliced: true)] + products(encoding, size)
        + convolutions(encoding, size)
    } + large + int8
  }

  /// Products that round their left operand: rows of one block and of several, of zeros and of numbers that round to zeros.
  private static var int8: [OperationCase] {
    let all = Epilogue(bias: true, residual: true, activation: .gelu)
    let ofImages = Epilogue(bias: true, perImage: true, residual: true, activation: .silu)
    func product(
      _ m: Int, _ n: Int, _ k: Int, _ kind: InputKind = .normal, batch: [Int] = [], scale: Float = 1,
      epilogue: Epilogue = Epilogue(), sliced: Bool = false
    ) -> OperationCase {
      self.product(
        m, n, k, .q8, batch: batch, scale: scale, epilogue: epilogue, sliced: sliced, layout: .int8Blocks,
        kind)
    }
    func convolution(
      _ x: Shape, _ columns: Int, stride: Int = 1, epilogue: Epilogue = Epilogue(), sliced: Bool = false
    ) -> OperationCase {
      self.convolution(
        x, columns, .q8, kernel: 1, stride: stride, epilogue: epilogue, sliced: sliced, layout: .int8Blocks)
    }
    return [
      product(1, 1, 32), product(5, 3, 32), product(6, 32, 64), product(7, 33, 96, epilogue: all),
      product(13, 31, 320, epilogue: Epilogue(bias: true)), product(97, 65, 352, epilogue: all),
      product(1, 64, 1024, epilogue: all), product(200, 40, 64, batch: [2], scale: 0.5, epilogue: all),
      product(193, 200, 2048, epilogue: Epilogue(residual: true)), product(12, 32, 64, sliced: true),
      product(9, 20, 64, .constant(0), epilogue: all), product(9, 20, 64, .denormal),
      product(9, 20, 64, .wide), product(8, 36, 64, .constant(-3)),
      convolution([2, 4, 5, 32], 33, epilogue: ofImages),
      convolution([1, 16, 15, 96], 64, epilogue: Epilogue(bias: true)),
      convolution([2, 4, 5, 64], 33, epilogue: Epilogue(residual: true), sliced: true),
      convolution([1, 7, 6, 64], 40, stride: 2),
    ]
  }

  /// So many columns of so many inputs that processors of up to eight cores decode them in several parts.
  private static var large: [OperationCase] {
    let all = Epilogue(bias: true, residual: true, activation: .gelu)
    return [
      product(2, 300, 9216, .q8, epilogue: all),
      convolution([1, 1, 1, 1024], 300, .q8, epilogue: Epilogue(bias: true)),
    ]
  }

  private static func dequantize(_ encoding: BlockEncoding, blocks: Int, sliced: Bool = false)
    -> OperationCase
  {
    OperationCase(
      name("dequantize", encoding.rawValue, blocks, "blocks", sliced ? "sliced" : ""), .dequantize(encoding),
      [encoding.spec(blocks * encoding.elementCount).shape], kinds: [.blocks(encoding)], dtypes: [.int32],
      sliced: sliced)
  }

  /// Columns of whole blocks, and ones that begin within a block, at multiples of 16 and not.
  private static func products(_ encoding: BlockEncoding, _ size: Int) -> [OperationCase] {
    let all = Epilogue(bias: true, residual: true, activation: .gelu)
    return [
      product(5, 3, size, encoding), product(33, 35, 2 * size, encoding, epilogue: all),
      product(1, 64, size, encoding, epilogue: Epilogue(bias: true)),
      product(17, size, 16, encoding), product(19, size, 11, encoding, epilogue: all),
      product(9, size, 3, encoding, transposeLeft: true),
      product(200, 40, 2 * size, encoding, batch: [2], scale: 0.5, epilogue: all),
      product(12, 32, size, encoding, sliced: true),
    ]
  }

  private static func product(
    _ m: Int, _ n: Int, _ k: Int, _ encoding: BlockEncoding, batch: [Int] = [], transposeLeft: Bool = false,
    scale: Float = 1, epilogue: Epilogue = Epilogue(), sliced: Bool = false, layout: MatrixLayout? = nil,
    _ kind: InputKind = .normal
  ) -> OperationCase {
    let layout = layout ?? .blocks(encoding)
    let output = Shape(batch + [m, n])
    let operation = MatMul(transposeLeft: transposeLeft, right: layout, scale: scale, epilogue: epilogue)
    return OperationCase(
      name(
        "matmul", batch, m, n, k, name(encoding, layout, kind), transposeLeft ? "left^T" : "", scale,
        epilogue.inputCount,
        sliced ? "sliced" : ""),
      .matmul(operation),
      [Shape(batch + (transposeLeft ? [k, m] : [m, k])), layout.storing(rows: k, columns: n)]
        + epilogue.shapes(output: output),
      kinds: [kind, .blocks(encoding)], dtypes: [.float32, .int32], sliced: sliced)
  }

  private static func name(_ encoding: BlockEncoding, _ layout: MatrixLayout, _ kind: InputKind) -> String {
    encoding.rawValue + (layout == .int8Blocks ? " int8" : "") + (kind == .normal ? "" : " \(kind)")
  }

  private static func convolutions(_ encoding: BlockEncoding, _ size: Int) -> [OperationCase] {
    let all = Epilogue(bias: true, perImage: true, residual: true, activation: .silu)
    return [
      // 9 taps of which blocks hold parts.
      convolution([1, 5, 6, size], 3, encoding),
      convolution([2, 6, 7, 32], size / 8, encoding, epilogue: all),
      convolution([1, 7, 6, 3], size, encoding, stride: 2),
      convolution([1, 16, 16, 32], size / 4, encoding, epilogue: Epilogue(bias: true)),
      convolution([2, 4, 5, size], 33, encoding, kernel: 1, epilogue: all),
      convolution(
        [2, 4, 5, size], 33, encoding, kernel: 1, epilogue: Epilogue(residual: true), sliced: true),
    ]
  }

  private static func convolution(
    _ x: Shape, _ columns: Int, _ encoding: BlockEncoding, kernel: Int = 3, stride: Int = 1,
    epilogue: Epilogue = Epilogue(), sliced: Bool = false, layout: MatrixLayout? = nil
  ) -> OperationCase {
    let layout = layout ?? .blocks(encoding)
    let conv = Conv2D(
      kernel: Extent2D(height: kernel, width: kernel), stride: stride, padding: Padding2D((kernel - 1) / 2),
      weight: layout, epilogue: epilogue)
    let output: Shape = [x[0], (x[1] - 1) / stride + 1, (x[2] - 1) / stride + 1, columns]
    return OperationCase(
      name(
        "conv2d", x, columns, name(encoding, layout, .normal), "kernel", kernel, "stride", stride,
        epilogue.inputCount,
        sliced ? "sliced" : ""),
      .conv2d(conv),
      [x, layout.storing(rows: kernel * kernel * x[3], columns: columns)] + epilogue.shapes(output: output),
      kinds: [.normal, .blocks(encoding)], dtypes: [.float32, .int32], sliced: sliced)
  }
}
