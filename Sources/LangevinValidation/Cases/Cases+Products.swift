import LangevinTensor

extension OperationCases {
  static func name(_ parts: Any...) -> String { parts.map { "\($0)" }.joined(separator: " ") }

  /// Bias, per-image vector, residual and activation in every combination that `perImage` allows.
  private static func epilogues(perImage: Bool) -> [Epilogue] {
    let sums = (0..<8).map { bits in
      Epilogue(
        bias: bits & 1 != 0, perImage: bits & 2 != 0, residual: bits & 4 != 0,
        activation: Activation.allCases[bits % Activation.allCases.count])
    }
    let activations = Activation.allCases.map { Epilogue(bias: true, activation: $0) }
    return sums.filter { (perImage || !$0.perImage) && !activations.contains($0) } + activations
  }

  private static func label(_ e: Epilogue) -> String {
    (e.bias ? "+bias" : "") + (e.perImage ? "+image" : "") + (e.residual ? "+residual" : "") + " "
      + e.activation.rawValue
  }

  private static func product(
    _ m: Int, _ n: Int, _ k: Int, batch: [Int] = [], sharedRight: Bool = true, transposeLeft: Bool = false,
    right: MatrixLayout = .rowMajor, scale: Float = 1, epilogue: Epilogue = Epilogue(),
    sliced: Bool = false
  ) -> OperationCase {
    let b = Shape((sharedRight ? [] : batch) + right.storing(rows: k, columns: n).dimensions)
    var shapes = [Shape(batch + (transposeLeft ? [k, m] : [m, k])), b]
    if epilogue.bias { shapes.append([n]) }
    if epilogue.residual { shapes.append(Shape(batch + [m, n])) }
    let operation = MatMul(transposeLeft: transposeLeft, right: right, scale: scale, epilogue: epilogue)
    return OperationCase(
      name(
        "matmul", batch, m, n, k, sharedRight ? "" : "batched", transposeLeft ? "left^T" : "", right, scale,
        label(epilogue), sliced ? "sliced" : ""),
      .matmul(operation), shapes, sliced: sliced)
  }

  static var products: [OperationCase] {
    var cases: [OperationCase] = []
    for (m, n, k) in [
      (1, 1, 1), (1, 7, 3), (5, 1, 9), (3, 5, 1), (17, 33, 65), (129, 31, 257), (64, 64, 64), (2, 320, 1280),
      (77, 100, 40), (300, 130, 70), (0, 4, 3), (4, 0, 3), (4, 3, 0),
    ] {
      cases.append(product(m, n, k))
      cases.append(product(m, n, k, right: .transposed, scale: 0.25))
      cases.append(product(m, n, k, transposeLeft: true))
      cases.append(product(m, n, k, transposeLeft: true, right: .transposed))
      cases.append(product(m, n, k, right: .packed))
    }
    // Sums over so many rows are taken in parts.
    cases.append(product(70, 45, 2100, transposeLeft: true))
    for epilogue in epilogues(perImage: false) {
      cases.append(product(19, 37, 23, scale: 0.5, epilogue: epilogue))
      cases.append(product(19, 37, 23, right: .packed, epilogue: epilogue))
      cases.append(product(150, 140, 130, epilogue: epilogue))
    }
    for transposeLeft in [false, true] {
      for right in [MatrixLayout.rowMajor, .transposed] {
        cases.append(
          product(9, 11, 13, batch: [3], sharedRight: false, transposeLeft: transposeLeft, right: right))
        cases.append(
          product(
            40, 41, 42, batch: [2, 3], sharedRight: false, transposeLeft: transposeLeft, right: right,
            epilogue: Epilogue(bias: true, residual: true, activation: .silu)))
      }
    }
    cases += [
      // Rows that pay for packing the right side, sums that are cut, columns that fill no panel.
      product(203, 45, 1100), product(203, 45, 1100, right: .packed, scale: 0.5),
      product(
        97, 70, 50, batch: [3], right: .transposed,
        epilogue: Epilogue(bias: true, residual: true, activation: .gelu)),
      product(193, 33, 40, batch: [2], sharedRight: false, right: .transposed),
      product(77, 48, 32, batch: [2]), product(5, 48, 32, batch: [2, 3], right: .transposed),
      product(4, 0, 3, epilogue: Epilogue(bias: true)), product(4, 3, 0, epilogue: Epilogue(bias: true)),
      product(33, 18, 21, epilogue: Epilogue(bias: true, residual: true), sliced: true),
      product(33, 18, 21, right: .transposed, sliced: true),
      product(33, 18, 21, right: .packed, sliced: true),
      product(33, 38, 22, right: .packed, sliced: true),
      product(9, 11, 13, batch: [3], sharedRight: false, sliced: true),
    ]
    return cases
  }

  private static func convolution(
    _ x: Shape, _ columns: Int, kernel: (Int, Int) = (3, 3), stride: Int = 1,
    padding: Padding2D = Padding2D(1),
    weight: MatrixLayout = .rowMajor, epilogue: Epilogue = Epilogue(), sliced: Bool = false
  ) -> OperationCase {
    let k = kernel.0 * kernel.1 * x[3]
    var shapes = [x, weight.storing(rows: k, columns: columns)]
    if epilogue.bias { shapes.append([columns]) }
    if epilogue.perImage { shapes.append([x[0], columns]) }
    if epilogue.residual {
      let height = (x[1] + padding.top + padding.bottom - kernel.0) / stride + 1
      let width = (x[2] + padding.left + padding.right - kernel.1) / stride + 1
      shapes.append([x[0], height, width, columns])
    }
    let operation = Conv2D(
      kernel: Extent2D(height: kernel.0, width: kernel.1), stride: stride, padding: padding, weight: weight,
      epilogue: epilogue)
    let pads = [padding.top, padding.left, padding.bottom, padding.right]
    return OperationCase(
      name(
        "conv2d", x, columns, kernel, "stride", stride, "pad", pads, weight, label(epilogue),
        sliced ? "sliced" : ""),
      .conv2d(operation), shapes, sliced: sliced)
  }

  static var convolutions: [OperationCase] {
    let asymmetric = Padding2D(top: 0, left: 0, bottom: 1, right: 1)
    var cases: [OperationCase] = [
      convolution([1, 1, 1, 1], 1), convolution([1, 1, 1, 3], 2, kernel: (1, 1), padding: Padding2D(0)),
      convolution([2, 5, 7, 3], 4), convolution([2, 5, 7, 3], 4, kernel: (1, 1), padding: Padding2D(0)),
      convolution([1, 9, 8, 5], 17, kernel: (1, 1), stride: 2, padding: Padding2D(0)),
      convolution([1, 9, 8, 5], 17, stride: 2), convolution([1, 8, 8, 4], 6, stride: 2, padding: asymmetric),
      convolution([2, 7, 5, 6], 9, stride: 2, padding: asymmetric),
      convolution([1, 6, 6, 3], 5, kernel: (5, 3), padding: Padding2D(top: 2, left: 1, bottom: 2, right: 1)),
      convolution([1, 7, 9, 2], 3, kernel: (3, 3), stride: 3, padding: Padding2D(2)),
      convolution([1, 4, 4, 3], 5, kernel: (4, 4), padding: Padding2D(0)),
      convolution([1, 2, 2, 3], 5, kernel: (3, 3), padding: Padding2D(4)),
      convolution([0, 4, 4, 3], 5), convolution([1, 4, 4, 0], 5, epilogue: Epilogue(bias: true)),
      convolution([1, 31, 33, 16], 24), convolution([2, 40, 40, 8], 12, epilogue: Epilogue(bias: true)),
      // Long loops in few work-items, as in the narrow middle of a UNet.
      convolution([2, 8, 8, 256], 128, epilogue: Epilogue(bias: true, perImage: true)),
      // Sums that are cut between taps, and within them.
      convolution([1, 14, 15, 260], 33, weight: .packed), convolution([1, 14, 15, 1100], 8),
      convolution([2, 23, 21, 5], 40, stride: 2, padding: asymmetric, weight: .transposed),
      // Enough pixels and channels for Winograd's tiles: of odd sizes, half a panel at the end, padding on some sides or
      // none, more tiles than are computed at once, and more weights than are transformed at once.
      convolution([1, 23, 25, 64], 80, padding: asymmetric, weight: .packed),
      convolution([1, 25, 24, 64], 64, padding: Padding2D(0)),
      convolution(
        [2, 17, 16, 80], 64,
        epilogue: Epilogue(bias: true, perImage: true, residual: true, activation: .silu), sliced: true),
      convolution([1, 24, 25, 2048], 64, weight: .packed, epilogue: Epilogue(bias: true)),
      convolution([1, 23, 23, 1024], 176, weight: .packed, epilogue: Epilogue(bias: true)),
      // Enough pixels for large tiles, of all remainders.
      convolution([1, 33, 34, 256], 80, padding: asymmetric, weight: .packed),
      convolution(
        [2, 35, 32, 272], 64,
        epilogue: Epilogue(bias: true, perImage: true, residual: true, activation: .silu)),
      convolution(
        [1, 36, 37, 576], 64, padding: Padding2D(0), weight: .packed, epilogue: Epilogue(bias: true)),
      convolution([1, 32, 32, 1024], 176, weight: .packed, epilogue: Epilogue(bias: true)),
      convolution([1, 64, 66, 512], 64, weight: .packed),
      convolution([1, 16, 16, 0], 5, epilogue: Epilogue(bias: true)),
      convolution([1, 16, 16, 37], 35, weight: .packed),
      convolution([1, 16, 16, 37], 35, weight: .transposed),
      convolution([2, 3, 3, 40], 33, weight: .transposed),
      convolution(
        [2, 6, 6, 8], 10, epilogue: Epilogue(bias: true, perImage: true, residual: true), sliced: true),
      convolution([2, 6, 6, 8], 10, kernel: (1, 1), padding: Padding2D(0), sliced: true),
    ]
    for epilogue in epilogues(perImage: true) {
      cases.append(convolution([2, 6, 5, 7], 11, epilogue: epilogue))
      cases.append(
        convolution([3, 4, 5, 6], 10, kernel: (1, 1), padding: Padding2D(0), epilogue: epilogue))
      cases.append(
        convolution([2, 6, 7, 5], 20, stride: 2, weight: .packed, epilogue: epilogue))
    }
    return cases
  }

  private static func attention(
    images: Int = 1, _ queries: Int, _ keys: Int, heads: Int, size: Int, causal: Bool = false, mask: Int = 0,
    scale: Float? = nil, kind: InputKind = .normal, sliced: Bool = false
  ) -> OperationCase {
    let operation = Attention(
      heads: heads, scale: scale ?? 1 / Float(size).squareRoot(), causal: causal, mask: mask > 0)
    let (q, k): (Shape, Shape) = ([images, queries, heads * size], [images, keys, heads * size])
    var shapes = [q, k, k]
    if mask == 2 { shapes.append([queries, keys]) }
    if mask == 3 { shapes.append([images, queries, keys]) }
    return OperationCase(
      name(
        "attention", images, queries, keys, "heads", heads, size, causal ? "causal" : "", "mask", mask,
        scale.map { "scale \($0)" } ?? "", kind, sliced ? "sliced" : ""),
      .attention(operation), shapes, kinds: [kind, kind, .normal, .mask], sliced: sliced)
  }

  static var attentions: [OperationCase] {
    var cases: [OperationCase] = []
    for size in [40, 64, 80, 128, 160, 512] {
      cases += [
        attention(1, 1, heads: 1, size: size), attention(images: 2, 33, 77, heads: 2, size: size),
        attention(100, 100, heads: 1, size: size, causal: true), attention(65, 1, heads: 2, size: size),
      ]
    }
    cases += [
      attention(7, 5, heads: 3, size: 1), attention(images: 2, 9, 13, heads: 3, size: 7),
      attention(1, 600, heads: 2, size: 40), attention(130, 1030, heads: 1, size: 64),
      // More queries than are few, with heads that are staged in parts.
      attention(150, 70, heads: 2, size: 160), attention(130, 45, heads: 1, size: 128),
      attention(images: 2, 77, 77, heads: 2, size: 64, causal: true),
      attention(1, 1, heads: 1, size: 8, causal: true),
      attention(700, 700, heads: 1, size: 40, causal: true),
      attention(images: 2, 50, 60, heads: 2, size: 40, mask: 2),
      attention(images: 2, 50, 60, heads: 2, size: 40, mask: 3),
      attention(images: 2, 60, 60, heads: 2, size: 64, causal: true, mask: 3),
      attention(images: 2, 140, 700, heads: 2, size: 40, mask: 3),
      // Scores of several hundred: a softmax without its maximum overflows.
      attention(40, 70, heads: 2, size: 40, scale: 1, kind: .wide), attention(0, 3, heads: 1, size: 8),
      attention(images: 2, 33, 47, heads: 2, size: 16, mask: 3, sliced: true),
    ]
    return cases
  }
}
