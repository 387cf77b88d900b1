import LangevinTensor

/// Inputs and shapes on which kernels go wrong that are right on ordinary ones.
extension OperationCases {
  static var faultFinding: [OperationCase] { extremes + denormals + equalRows + longRows + tileBounds }

  /// Logits whose exponential overflows, and sums that dwarf their differences.
  private static var extremes: [OperationCase] {
    let large = InputKind.extremes(60_000)
    var cases = [
      OperationCase("softmax extremes", .softmax, [[5, 37]], kinds: [large]),
      OperationCase("softmax long extremes", .softmax, [[3, 4099]], kinds: [large]),
      OperationCase("geglu extremes", .geglu, [[3, 130]], kinds: [large]),
      OperationCase(
        "attention mask extremes", .attention(Attention(heads: 2, scale: 0.25, mask: true)),
        [[2, 37, 32], [2, 45, 32], [2, 45, 32], [2, 37, 45]], kinds: [.normal, .normal, .normal, large]),
      OperationCase(
        "attention long mask extremes", .attention(Attention(heads: 1, scale: 0.25, mask: true)),
        [[1, 5, 16], [1, 600, 16], [1, 600, 16], [5, 600]], kinds: [.normal, .normal, .normal, large]),
      OperationCase(
        "attention scores extremes", .attention(Attention(heads: 1, scale: 1)),
        [[1, 33, 40], [1, 70, 40], [1, 70, 40]], kinds: [.extremes(40), .extremes(40)]),
      OperationCase(
        "group_norm mean 30000", .groupNorm(GroupNorm(groups: 3, epsilon: 1e-5, activation: .silu)),
        [[2, 19, 17, 24], [24], [24]], kinds: [.mean(30_000)]),
      OperationCase(
        "layer_norm mean -30000", .layerNorm(LayerNorm(epsilon: 1e-5)), [[9, 333], [333], [333]],
        kinds: [.mean(-30_000)]),
    ]
    for function in [Unary.silu, .gelu, .geluTanh, .quickGelu, .sigmoid, .tanh, .exp, .square, .abs] {
      cases.append(
        OperationCase(name(function.rawValue, "extremes"), .unary(function), [[7, 19]], kinds: [large]))
    }
    return cases
  }

  /// A device may flush them where it computes, but not where it moves them.
  private static var denormals: [OperationCase] {
    let (kind, x): (InputKind, Shape) = (.denormal, [6, 37])
    return [
      OperationCase("add denormal", .binary(.add), [x, x], kinds: [kind, kind]),
      OperationCase("multiply denormal", .binary(.multiply), [x, x], kinds: [kind, .normal]),
      OperationCase("affine denormal", .affine(scale: -1.5, offset: 0), [x], kinds: [kind]),
      OperationCase(
        "linear_combination denormal", .linearCombination([0.5, -2]), [x, x], kinds: [kind, kind]),
      OperationCase("silu denormal", .unary(.silu), [x], kinds: [kind]),
      OperationCase("softmax denormal", .softmax, [x], kinds: [kind]),
      OperationCase(
        "layer_norm denormal", .layerNorm(LayerNorm(epsilon: 1e-5)), [x, [37], [37]], kinds: [kind]),
      OperationCase("rms_norm denormal", .rmsNorm(epsilon: 1e-6), [x, [37]], kinds: [kind]),
      OperationCase(
        "group_norm denormal", .groupNorm(GroupNorm(groups: 2, epsilon: 1e-6)), [[2, 9, 6], [6], [6]],
        kinds: [kind]),
      OperationCase("matmul denormal", .matmul(MatMul()), [[9, 40], [40, 33]], kinds: [kind]),
      OperationCase(
        "attention denormal", .attention(Attention(heads: 1, scale: 1)),
        [[1, 9, 8], [1, 11, 8], [1, 11, 8]],
        kinds: [kind, kind, kind]),
      OperationCase("transpose denormal", .transpose([1, 0]), [x], kinds: [kind]),
      OperationCase("concatenate denormal", .concatenate(axis: 1), [x, x], kinds: [kind, .normal]),
      OperationCase(
        "pad denormal", .pad(Pad(before: [1, 0], after: [0, 2], value: .leastNonzeroMagnitude)), [x],
        kinds: [kind]),
    ]
  }

  private static var equalRows: [OperationCase] {
    let (kind, x): (InputKind, Shape) = (.equalRows, [7, 133])
    return [
      OperationCase("softmax equal rows", .softmax, [x], kinds: [kind]),
      OperationCase(
        "layer_norm equal rows", .layerNorm(LayerNorm(epsilon: 1e-5)), [x, [133], [133]], kinds: [kind]),
      OperationCase(
        "layer_norm plain equal rows", .layerNorm(LayerNorm(epsilon: 1e-6, affine: false)), [x],
        kinds: [kind]),
      OperationCase("rms_norm equal rows", .rmsNorm(epsilon: 1e-6), [x, [133]], kinds: [kind]),
      OperationCase(
        "group_norm equal", .groupNorm(GroupNorm(groups: 4, epsilon: 1e-6)), [[2, 5, 9, 12], [12], [12]],
        kinds: [.constant(-777)]),
      OperationCase(
        "attention equal keys", .attention(Attention(heads: 2, scale: 0.25)),
        [[2, 9, 32], [2, 35, 32], [2, 35, 32]], kinds: [.normal, .constant(1.5), .normal]),
    ]
  }

  private static var longRows: [OperationCase] {
    let x: Shape = [2, 100_003]
    let gains: [Shape] = [[100_003], [100_003]]
    return [
      OperationCase("softmax long", .softmax, [x]),
      OperationCase("layer_norm long", .layerNorm(LayerNorm(epsilon: 1e-5)), [x] + gains),
      OperationCase("rms_norm long", .rmsNorm(epsilon: 1e-6), [x, gains[0]]),
      OperationCase(
        "group_norm long", .groupNorm(GroupNorm(groups: 2, epsilon: 1e-5, activation: .silu)),
        [[1, 50_021, 6], [6], [6]], kinds: [.mean(10)]),
      OperationCase("reduce sum long", .reduce(Reduce(.sum, axes: [0])), [[300_007]]),
      OperationCase("reduce maximum long", .reduce(Reduce(.maximum, axes: [1])), [[3, 100_003]]),
      OperationCase("matmul long", .matmul(MatMul()), [[3, 50_021], [50_021, 5]]),
      OperationCase(
        "matmul long transposed", .matmul(MatMul(right: .transposed)), [[9, 20_011], [33, 20_011]]),
      OperationCase(
        "attention long", .attention(Attention(heads: 1, scale: 0.3)),
        [[1, 3, 8], [1, 20_011, 8], [1, 20_011, 8]]),
      OperationCase("transpose long", .transpose([1, 0]), [x]),
    ]
  }

  /// One less than a tile, a tile and one more: 8, 32, 64 and 128 rows and columns, 16, 32 and 512 deep.
  private static var tileBounds: [OperationCase] {
    var cases: [OperationCase] = []
    for (m, n, k) in [
      (7, 31, 15), (8, 32, 16), (9, 33, 17), (63, 95, 31), (64, 96, 32), (65, 97, 33), (127, 63, 511),
      (128, 64, 512), (129, 65, 513), (71, 129, 1025),
    ] {
      for right in [MatrixLayout.rowMajor, .transposed, .packed] {
        let epilogue = Epilogue(bias: true, residual: true, activation: .gelu)
        cases.append(
          OperationCase(
            name("matmul tile", m, n, k, right), .matmul(MatMul(right: right, epilogue: epilogue)),
            [[m, k], right.storing(rows: k, columns: n), [n], [m, n]]))
      }
    }
    for (x, n): (Shape, Int) in [
      ([1, 7, 9, 31], 31), ([1, 8, 8, 32], 32), ([1, 5, 13, 33], 33), ([2, 8, 8, 16], 64),
      ([1, 11, 12, 17], 129),
      ([1, 16, 8, 57], 65),
    ] {
      let k = 9 * x[3]
      for layout in [MatrixLayout.rowMajor, .packed] {
        let conv = Conv2D(
          kernel: Extent2D(height: 3, width: 3), padding: Padding2D(1), weight: layout,
          epilogue: Epilogue(bias: true, perImage: true, residual: true, activation: .silu))
        cases.append(
          OperationCase(
            name("conv2d tile", x, n, layout), .conv2d(conv),
            [x, [k, n], [n], [x[0], n], [x[0], x[1], x[2], n]]))
      }
    }
    for (queries, keys, size) in [
      (7, 31, 15), (8, 32, 16), (9, 33, 17), (31, 255, 33), (32, 256, 48), (33, 257, 40), (17, 513, 64),
    ] {
      let k: Shape = [2, keys, 2 * size]
      for mask in [false, true] {
        cases.append(
          OperationCase(
            name("attention tile", queries, keys, size, mask ? "mask" : ""),
            .attention(Attention(heads: 2, scale: 1 / Float(size).squareRoot(), mask: mask)),
            [[2, queries, 2 * size], k, k] + (mask ? [[queries, keys]] : []),
            kinds: [.normal, .normal, .normal, .mask]))
      }
    }
    return cases
  }
}
