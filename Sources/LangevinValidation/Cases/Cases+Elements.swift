import LangevinTensor

extension OperationCases {
  static var norms: [OperationCase] {
    var cases: [OperationCase] = []
    func groupNorm(
      _ x: Shape, groups: Int, epsilon: Float = 1e-5, activation: Activation = .identity,
      kind: InputKind = .normal, sliced: Bool = false
    ) {
      cases.append(
        OperationCase(
          name("group_norm", x, groups, epsilon, activation, kind, sliced ? "sliced" : ""),
          .groupNorm(GroupNorm(groups: groups, epsilon: epsilon, activation: activation)),
          [x, [x[-1]], [x[-1]]],
          kinds: [kind], sliced: sliced))
    }
    for activation in [Activation.identity, .silu] {
      for (x, groups): (Shape, Int) in [
        ([1, 1], 1), ([2, 5, 7, 32], 32), ([2, 5, 7, 320], 32), ([1, 3, 3, 1280], 32), ([1, 6], 2),
        ([3, 11, 6], 3),
        ([2, 3, 5, 7, 4], 1), ([2, 65, 12], 4), ([2, 300, 20], 4), ([0, 4, 4, 8], 2), ([2, 0, 8], 2),
      ] { groupNorm(x, groups: groups, activation: activation) }
    }
    groupNorm([2, 17, 17, 40], groups: 4, kind: .mean(1000))
    groupNorm([1, 1, 4], groups: 2, kind: .mean(1000))
    let narrow = InputKind.narrow(mean: 300, deviation: 0.03)
    groupNorm([2, 17, 17, 40], groups: 4, epsilon: 1e-6, kind: narrow)
    groupNorm([1, 33, 35, 64], groups: 32, epsilon: 1e-6, activation: .silu, kind: narrow)
    groupNorm([2, 7, 20], groups: 5, epsilon: 1e-6, kind: narrow)
    groupNorm([2, 4, 4, 8], groups: 2, epsilon: 1e-6, activation: .silu, kind: .constant(3))
    groupNorm([2, 9, 9, 24], groups: 3, epsilon: 1e-6, activation: .silu, sliced: true)

    for x: Shape in [[1], [1, 1], [5, 7], [3, 4, 100], [2, 33], [1, 1030], [0, 8], [2, 3, 1280]] {
      for kind in [InputKind.normal, .mean(1000), narrow] {
        cases.append(
          OperationCase(
            name("layer_norm", x, kind), .layerNorm(LayerNorm(epsilon: 1e-5)), [x, [x[-1]], [x[-1]]],
            kinds: [kind]))
        cases.append(
          OperationCase(
            name("layer_norm plain", x, kind), .layerNorm(LayerNorm(epsilon: 1e-6, affine: false)), [x],
            kinds: [kind]))
      }
      cases.append(OperationCase(name("rms_norm", x), .rmsNorm(epsilon: 1e-6), [x, [x[-1]]]))
      for kind in [InputKind.normal, .wide] {
        cases.append(OperationCase(name("softmax", x, kind), .softmax, [x], kinds: [kind]))
      }
    }
    cases += [
      OperationCase(
        "layer_norm sliced", .layerNorm(LayerNorm(epsilon: 1e-5)), [[7, 37], [37], [37]], sliced: true),
      OperationCase("rms_norm sliced", .rmsNorm(epsilon: 1e-5), [[7, 37], [37]], sliced: true),
      OperationCase("softmax sliced", .softmax, [[7, 37]], sliced: true),
      OperationCase("softmax [3, 4096]", .softmax, [[3, 4096]], kinds: [.wide]),
    ]
    return cases
  }

  static var pointwise: [OperationCase] {
    var cases: [OperationCase] = []
    let shapes: [Shape] = [[], [1], [7], [3, 5], [0, 4], [2, 3, 5, 7], [33, 65]]
    for function in Unary.allCases {
      let kind: InputKind =
        switch function {
        case .log, .sqrt, .rsqrt, .reciprocal: .positive
        case .exp: .normal
        case .silu, .gelu, .geluTanh, .quickGelu, .sigmoid, .tanh, .sin, .cos, .square, .abs, .negate: .wide
        }
      for x in shapes {
        cases.append(OperationCase(name(function.rawValue, x), .unary(function), [x], kinds: [kind]))
      }
      let narrow = if case .wide = kind { InputKind.normal } else { kind }
      cases.append(
        OperationCase(name(function.rawValue, "narrow"), .unary(function), [[1001]], kinds: [narrow]))
      cases.append(
        OperationCase(
          name(function.rawValue, "sliced"), .unary(function), [[5, 13]], kinds: [kind], sliced: true))
    }
    // Timesteps, and what is reduced to a quarter turn in another way.
    for function in [Unary.sin, .cos] {
      for mean in [1_000.0, 50_000] {
        cases.append(
          OperationCase(
            name(function.rawValue, "of", mean), .unary(function), [[1001]], kinds: [.mean(mean)]))
      }
    }
    for x in shapes + [[100_003]] {
      cases += [
        OperationCase(name("affine", x), .affine(scale: -1.5, offset: 0.25), [x]),
        OperationCase(name("clamp", x), .clamp(lower: -0.5, upper: 0.75), [x]),
      ]
    }
    for x: Shape in [[2], [1, 2], [3, 10], [0, 4], [2, 3, 66], [5, 2560]] {
      cases.append(OperationCase(name("geglu", x), .geglu, [x], kinds: [.wide]))
    }
    let pairs: [(Shape, Shape)] = [
      ([], []), ([1], [1]), ([7], [7]), ([3, 5], [5]), ([5], [3, 5]), ([3, 5], [3, 1]), ([3, 1], [1, 5]),
      ([2, 3, 4], []),
      ([2, 1, 4], [3, 1]), ([2, 4, 4, 8], [2, 1, 1, 8]), ([0, 4], [4]), ([0, 4], [1, 1]),
      ([2, 3, 1, 5], [1, 3, 4, 1]),
      ([1, 1, 1, 1, 5], [4, 1, 3, 1, 1]), ([300, 301], [300, 301]), ([300, 301], [301]),
      ([2, 100, 160], [2, 1, 160]),
    ]
    for pairs in Rotary.Pairs.allCases {
      func rotary(_ x: Shape, heads: Int, kind: InputKind = .normal, sliced: Bool = false) {
        let table: Shape = [x[1], x[2] / heads / 2]
        cases.append(
          OperationCase(
            name("rotary", pairs, x, heads, kind, sliced ? "sliced" : ""),
            .rotary(Rotary(heads: heads, pairs: pairs)), [x, table, table], kinds: [kind], sliced: sliced))
      }
      for (x, heads): (Shape, Int) in [
        ([1, 1, 2], 1), ([1, 3, 2], 1), ([2, 5, 12], 3), ([1, 7, 66], 1), ([2, 3, 34], 1), ([2, 9, 144], 3),
        ([3, 35, 128], 1), ([2, 77, 1536], 12), ([0, 4, 8], 2), ([2, 0, 8], 2), ([1, 3, 0], 1),
      ] { rotary(x, heads: heads) }
      rotary([2, 5, 40], heads: 2, kind: .wide)
      rotary([2, 5, 40], heads: 2, kind: .denormal)
      rotary([3, 4, 36], heads: 1, sliced: true)
    }
    for function in Binary.allCases {
      let kinds: [InputKind] = function == .divide ? [.normal, .positive] : []
      for (a, b) in pairs {
        cases.append(OperationCase(name(function.rawValue, a, b), .binary(function), [a, b], kinds: kinds))
      }
      cases.append(
        OperationCase(
          name(function.rawValue, "sliced"), .binary(function), [[4, 6], [1, 6]], kinds: kinds, sliced: true))
    }
    for count in 1...8 {
      let coefficients = (0..<count).map { Float($0) * 0.37 - 1.1 }
      for x: Shape in [[1], [2, 5, 7, 4], [9001]] {
        cases.append(
          OperationCase(
            name("linear_combination", count, x), .linearCombination(coefficients),
            Array(repeating: x, count: count)))
      }
    }
    cases.append(
      OperationCase(
        "linear_combination sliced", .linearCombination([0.5, -2]), [[3, 7], [3, 7]], sliced: true))
    for kind in Reduce.Kind.allCases {
      for (x, axes): (Shape, [Int]) in [
        ([1], [0]), ([7], [0]), ([3, 5], [0]), ([3, 5], [1]), ([3, 5], [0, 1]), ([3, 5], []),
        ([2, 3, 4, 5], [1, 2]),
        ([2, 3, 4, 5], [0, 3]), ([2, 3, 4, 5], [0, 1, 2, 3]), ([0, 4], [1]), ([2, 70, 33], [1]),
        ([3, 1000], [1]), ([3, 2, 4, 5, 2, 17], [0, 2, 4]),
        ([5, 192], [1]), ([2, 3, 4, 48], [2, 3]), ([2, 19_200], [1]),
        ([40_000], [0]), ([], []),
      ] {
        cases.append(OperationCase(name("reduce", kind, x, axes), .reduce(Reduce(kind, axes: axes)), [x]))
      }
      cases.append(
        OperationCase(
          name("reduce", kind, "sliced"), .reduce(Reduce(kind, axes: [1])), [[4, 9]], sliced: true))
      cases.append(
        OperationCase(
          name("reduce", kind, "mean 100"), .reduce(Reduce(kind, axes: [0])), [[5000, 3]], kinds: [.mean(100)]
        ))
    }
    return cases
  }

  static var movements: [OperationCase] {
    var cases: [OperationCase] = []
    for (x, permutation): (Shape, [Int]) in [
      ([], []), ([5], [0]), ([3, 5], [1, 0]), ([3, 5], [0, 1]), ([100, 130], [1, 0]),
      ([2, 3, 5], [2, 0, 1]),
      ([2, 3, 5, 7], [0, 2, 3, 1]), ([2, 5, 7, 3], [0, 3, 1, 2]), ([2, 3, 4, 5], [3, 2, 1, 0]),
      ([0, 4], [1, 0]),
      ([2, 3, 2, 3, 2, 3], [5, 0, 3, 2, 4, 1]), ([2, 77, 12, 9], [0, 2, 1, 3]),
      ([1, 40, 41, 33], [0, 3, 1, 2]),
    ] { cases.append(OperationCase(name("transpose", x, permutation), .transpose(permutation), [x])) }
    for (x, y): (Shape, Shape) in [
      ([], [3]), ([1], [7]), ([1], [1]), ([5], [3, 5]), ([3, 1], [3, 5]), ([2, 1, 3, 1], [2, 4, 3, 5]),
      ([1, 4], [0, 4]),
      ([2, 1, 1, 320], [2, 9, 9, 320]), ([2, 1], [1, 1, 1, 1, 2, 3]),
    ] { cases.append(OperationCase(name("broadcast", x, y), .broadcast(y), [x])) }
    for (x, starts, sizes): (Shape, [Int], [Int]) in [
      ([], [], []), ([7], [2], [3]), ([5, 7], [0, 2], [5, 4]), ([5, 7], [4, 6], [1, 1]),
      ([5, 7], [1, 1], [0, 3]),
      ([2, 6, 6, 5], [1, 2, 0, 1], [1, 3, 6, 3]),
      ([2, 3, 2, 3, 2, 3], [0, 1, 0, 1, 1, 0], [2, 2, 1, 2, 1, 3]),
    ] {
      cases.append(
        OperationCase(name("slice", x, starts, sizes), .slice(Slice(starts: starts, sizes: sizes)), [x]))
    }
    for (shapes, axis): ([Shape], Int) in [
      ([[3]], 0), ([[3], [4]], 0), ([[2, 3], [2, 5]], 1), ([[2, 3], [1, 3], [4, 3]], 0),
      ([[2, 0], [2, 3]], 1),
      ([[2, 3, 4, 5], [2, 3, 4, 8]], 3), ([[2, 3, 4], [2, 1, 4]], 1),
      (Array(repeating: [1, 2], count: 9), 1),
    ] { cases.append(OperationCase(name("concatenate", shapes, axis), .concatenate(axis: axis), shapes)) }
    for (x, before, after): (Shape, [Int], [Int]) in [
      ([], [], []), ([1], [2], [3]), ([3, 4], [0, 0], [0, 0]), ([3, 4], [1, 0], [0, 2]),
      ([0, 4], [2, 1], [1, 0]),
      ([2, 5, 5, 3], [0, 0, 0, 0], [0, 1, 1, 0]),
      ([2, 3, 2, 3, 2, 3], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]),
    ] {
      for value: Float in [0, -1.3] {
        cases.append(
          OperationCase(
            name("pad", x, before, after, value), .pad(Pad(before: before, after: after, value: value)), [x]))
      }
    }
    for (x, factor): (Shape, Int) in [
      ([1, 1, 1, 1], 2), ([2, 3, 5, 7], 2), ([1, 4, 4, 3], 3), ([1, 2, 3, 4], 1), ([0, 2, 2, 3], 2),
      ([1, 16, 16, 64], 2),
    ] {
      cases.append(OperationCase(name("upsample_nearest", x, factor), .upsampleNearest(factor: factor), [x]))
    }
    for (table, ids): (Shape, Shape) in [
      ([1, 1], [1]), ([10, 7], [3, 5]), ([49, 64], [2, 77]), ([5, 3], [0]), ([6, 9], []),
    ] {
      cases.append(
        OperationCase(
          name("embedding", table, ids), .embedding, [table, ids], kinds: [.normal, .ids(table[0])],
          dtypes: [.float32, .int32]))
    }
    cases += [
      OperationCase("transpose sliced", .transpose([0, 2, 1]), [[3, 5, 7]], sliced: true),
      OperationCase("broadcast sliced", .broadcast([4, 3, 5]), [[3, 1]], sliced: true),
      OperationCase("slice sliced", .slice(Slice(starts: [1, 2], sizes: [2, 3])), [[4, 6]], sliced: true),
      OperationCase("concatenate sliced", .concatenate(axis: 1), [[3, 2], [3, 4]], sliced: true),
      OperationCase("pad sliced", .pad(Pad(before: [1, 0], after: [0, 2])), [[3, 4]], sliced: true),
      OperationCase("upsample_nearest sliced", .upsampleNearest(factor: 2), [[2, 3, 3, 5]], sliced: true),
      OperationCase(
        "embedding sliced", .embedding, [[9, 4], [6]], kinds: [.normal, .ids(9)], dtypes: [.float32, .int32],
        sliced: true),
      OperationCase("transpose int32", .transpose([1, 0]), [[4, 6]], kinds: [.ids(99)], dtypes: [.int32]),
      OperationCase(
        "concatenate int32", .concatenate(axis: 0), [[4], [6]], kinds: [.ids(99), .ids(99)],
        dtypes: [.int32, .int32]),
    ]
    return cases
  }

  static var constants: [OperationCase] {
    var cases: [OperationCase] = []
    for to in DType.allCases {
      for x: Shape in [[], [1], [37], [0, 3], [5, 1001]] {
        cases.append(OperationCase(name("cast to", to, x), .cast(to), [x], kinds: [.wide]))
      }
      cases.append(
        OperationCase(
          name("cast from int32 to", to), .cast(to), [[301]], kinds: [.ids(20_000)], dtypes: [.int32]))
      cases.append(
        OperationCase(name("cast sliced to", to), .cast(to), [[5, 7]], kinds: [.wide], sliced: true))
      for x: Shape in [[1], [3, 5], [0]] {
        cases.append(OperationCase(name("fill", to, x), .fill(-2.7, TensorSpec(x, to)), []))
      }
    }
    for (seed, shape): (UInt64, Shape) in [
      (0, [1]), (1, [5]), (1 << 40 + 3, [2, 4, 9, 4]), (7, [10_007]), (7, [0]), (9, []),
    ] {
      let noise = NormalNoise(seed: seed, stream: 3, step: 11, shape: shape)
      cases.append(OperationCase(name("normal_noise", seed, shape), .normalNoise(noise), []))
    }
    for x: Shape in [[1], [100], [3, 333], []] {
      cases.append(OperationCase(name("non_finite_count", x), .nonFiniteCount, [x], kinds: [.nonFinite]))
    }
    return cases + [
      OperationCase("non_finite_count of finite", .nonFiniteCount, [[1000]]),
      OperationCase("non_finite_count of none", .nonFiniteCount, [[0]]),
      OperationCase(
        "non_finite_count sliced", .nonFiniteCount, [[4, 25]], kinds: [.nonFinite], sliced: true),
    ]
  }
}
