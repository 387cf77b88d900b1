import LangevinTensor

/// The gradient operations, on the shapes and inputs on which the operations themselves go wrong.
extension OperationCases {
  static var gradients: [OperationCase] {
    weightGradients + attentionGradients + normGradients + elementGradients + updates
  }

  private static var weightGradients: [OperationCase] {
    var cases: [OperationCase] = []
    func gradient(
      _ x: Shape, _ outputs: Int, kernel: Int = 3, stride: Int = 1, padding: Padding2D = Padding2D(1),
      sliced: Bool = false
    ) {
      let conv = Conv2D(kernel: Extent2D(height: kernel, width: kernel), stride: stride, padding: padding)
      guard
        let g = try? Operation.conv2d(conv).output(
          of: [TensorSpec(x), TensorSpec([kernel * kernel * x[3], outputs])])
      else { return }
      cases.append(
        OperationCase(
          name("conv2d_weight_gradient", x, outputs, kernel, stride, padding, sliced ? "sliced" : ""),
          .conv2dWeightGradient(conv), [x, g.shape], sliced: sliced))
    }
    let corner = Padding2D(top: 0, left: 0, bottom: 1, right: 1)
    for (x, outputs): (Shape, Int) in [
      ([1, 3, 3, 1], 1), ([2, 5, 7, 3], 5), ([1, 8, 8, 16], 33), ([3, 9, 6, 20], 17), ([2, 16, 16, 8], 40),
    ] {
      gradient(x, outputs)
      gradient(x, outputs, stride: 2)
      gradient(x, outputs, stride: 2, padding: corner)
      gradient(x, outputs, kernel: 1, padding: Padding2D(0))
    }
    gradient([2, 7, 8, 4], 6, kernel: 1, stride: 3, padding: Padding2D(0))
    gradient([1, 12, 10, 5], 7, kernel: 5, stride: 3, padding: Padding2D(2))
    gradient([1, 6, 6, 7], 9, kernel: 3, padding: Padding2D(3))
    gradient([1, 40, 40, 6], 12)
    gradient([2, 6, 7, 5], 8, padding: Padding2D(top: 2, left: 0, bottom: 0, right: 1))
    gradient([2, 5, 5, 9], 11, sliced: true)
    return cases
  }

  private static var attentionGradients: [OperationCase] {
    var cases: [OperationCase] = []
    func gradient(
      _ images: Int, _ queries: Int, _ keys: Int, heads: Int, size: Int, causal: Bool = false,
      mask: Shape? = nil, kind: InputKind = .mask, sliced: Bool = false
    ) {
      let (q, k): (Shape, Shape) = ([images, queries, heads * size], [images, keys, heads * size])
      let attention = Attention(
        heads: heads, scale: 1 / Float(size).squareRoot(), causal: causal, mask: mask != nil)
      cases.append(
        OperationCase(
          name(
            "attention_gradient", q, k, heads, causal ? "causal" : "", mask.map { "\($0)" } ?? "",
            sliced ? "sliced" : ""),
          .attentionGradient(attention), [q, k, k, q, q] + (mask.map { [$0] } ?? []),
          kinds: [.normal, .normal, .normal, .normal, .normal, kind], sliced: sliced))
    }
    for (queries, keys, heads, size) in [
      (1, 1, 1, 1), (5, 3, 1, 2), (1, 9, 2, 8), (33, 17, 2, 40), (16, 64, 1, 64), (7, 77, 3, 20),
      (65, 65, 1, 16),
    ] {
      gradient(2, queries, keys, heads: heads, size: size)
      gradient(1, queries, keys, heads: heads, size: size, mask: [queries, keys])
      gradient(2, queries, keys, heads: heads, size: size, mask: [2, queries, keys])
    }
    for tokens in [1, 2, 31, 70] { gradient(2, tokens, tokens, heads: 2, size: 12, causal: true) }
    gradient(1, 20, 24, heads: 1, size: 160)
    gradient(1, 9, 11, heads: 2, size: 8, sliced: true)
    return cases
  }

  private static var normGradients: [OperationCase] {
    var cases: [OperationCase] = []
    let narrow = InputKind.narrow(mean: 300, deviation: 0.03)
    for activation in [Activation.identity, .silu] {
      for (x, groups, kind): (Shape, Int, InputKind) in [
        ([1, 2], 1, .normal), ([2, 5, 7, 32], 32, .normal), ([2, 5, 7, 64], 8, .normal),
        ([3, 11, 6], 3, .normal),
        ([2, 300, 20], 4, .normal), ([2, 17, 17, 40], 4, .mean(100)), ([1, 33, 35, 64], 32, narrow),
      ] {
        cases.append(
          OperationCase(
            name("group_norm_gradient", x, groups, activation, kind),
            .groupNormGradient(GroupNorm(groups: groups, epsilon: 1e-5, activation: activation)),
            [x, [x[-1]], [x[-1]], x], kinds: [kind]))
      }
    }
    cases.append(
      OperationCase(
        "group_norm_gradient sliced",
        .groupNormGradient(GroupNorm(groups: 3, epsilon: 1e-5, activation: .silu)),
        [[2, 9, 9, 24], [24], [24], [2, 9, 9, 24]], sliced: true))
    for x: Shape in [[2], [1, 2], [5, 7], [3, 4, 100], [2, 33], [70, 320], [2, 1030]] {
      for kind in [InputKind.normal, .mean(100)] {
        cases += [
          OperationCase(
            name("layer_norm_gradient", x, kind), .layerNormGradient(LayerNorm(epsilon: 1e-5)),
            [x, [x[-1]], x],
            kinds: [kind]),
          OperationCase(
            name("layer_norm_gradient plain", x, kind),
            .layerNormGradient(LayerNorm(epsilon: 1e-6, affine: false)), [x, x], kinds: [kind]),
        ]
      }
      cases.append(
        OperationCase(name("rms_norm_gradient", x), .rmsNormGradient(epsilon: 1e-6), [x, [x[-1]], x]))
    }
    cases += [
      OperationCase(
        "layer_norm_gradient sliced", .layerNormGradient(LayerNorm(epsilon: 1e-5)),
        [[7, 37], [37], [7, 37]],
        sliced: true),
      OperationCase(
        "rms_norm_gradient sliced", .rmsNormGradient(epsilon: 1e-5), [[7, 37], [37], [7, 37]], sliced: true),
    ]
    return cases
  }

  private static var elementGradients: [OperationCase] {
    var cases: [OperationCase] = []
    for function in Unary.allCases {
      let operation = Operation.unaryGradient(function)
      let kind: InputKind = operation.definition.operand(0).domain == .positive ? .positive : .wide
      // The exponential of 30 is no number to compare.
      let tails = function == .exp ? InputKind.normal : kind
      for x: Shape in [[], [1], [3, 5], [0, 4], [33, 65]] {
        cases.append(OperationCase(name(operation.name, x), operation, [x, x], kinds: [tails]))
      }
      cases.append(
        OperationCase(
          name(operation.name, "sliced"), operation, [[5, 13], [5, 13]], kinds: [tails], sliced: true))
      if kind != .positive {
        cases.append(
          OperationCase(name(operation.name, "at zero"), operation, [[37], [37]], kinds: [.constant(0)]))
      }
    }
    for (x, half): (Shape, Shape) in [
      ([2], [1]), ([3, 10], [3, 5]), ([0, 4], [0, 2]), ([2, 3, 66], [2, 3, 33]), ([5, 2560], [5, 1280]),
    ] {
      for kind in [InputKind.normal, .wide] {
        cases.append(
          OperationCase(name("geglu_gradient", x, kind), .gegluGradient, [x, half], kinds: [kind]))
      }
    }
    cases.append(OperationCase("geglu_gradient sliced", .gegluGradient, [[4, 38], [4, 19]], sliced: true))
    for (rows, ids, channels): (Int, Shape, Int) in [
      (1, [1], 1), (10, [3, 5], 7), (49, [2, 77], 64), (5, [], 3), (3, [400], 20),
    ] {
      cases.append(
        OperationCase(
          name("embedding_gradient", rows, ids, channels), .embeddingGradient(rows: rows),
          [ids, Shape(ids.dimensions + [channels])], kinds: [.ids(rows)], dtypes: [.int32]))
    }
    cases.append(
      OperationCase(
        "embedding_gradient sliced", .embeddingGradient(rows: 9), [[6], [6, 4]], kinds: [.ids(9)],
        dtypes: [.int32], sliced: true))
    return cases
  }

  private static var updates: [OperationCase] {
    let first = AdamW(step: 1, rate: 1e-3, averaging: 0.9)
    let later = AdamW(step: 1000, rate: 6e-4, beta1: 0.9, beta2: 0.99, decay: 0.1, averaging: 0.9995)
    var cases: [OperationCase] = []
    for (title, step) in [("first", first), ("later", later)] {
      for shape: Shape in [[1], [7], [3, 5], [0, 4], [33, 65]] {
        cases.append(
          OperationCase(
            name("adam_w", title, shape), .adamW(step), [Shape([4] + shape.dimensions), shape, [1]],
            kinds: [.positive, .normal, .positive]))
      }
    }
    return cases
  }
}
