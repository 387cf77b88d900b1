import LangevinTensor

/// How far a float32 computation may be from the exact value, element by element, derived from what is
/// summed. u = 2^-24 is float32's unit roundoff. The rounding of the output to float16 or bfloat16 is added
/// by `Agreement`.
enum Tolerance {
  /// The allowed absolute error of each element; nil where the result must be exact.
  /// `evaluate` computes plain products for the bound: the reference, or a backend that is trusted.
  static func bound(
    _ operation: Operation, _ inputs: [HostArray], value: HostArray,
    evaluate: (Operation, [HostArray]) throws -> HostArray
  ) throws -> [Double]? {
    let u = 0x1p-24
    let x = inputs.first?.values ?? []
    func relative(_ factor: Double) -> [Double] { value.values.map { factor * u * abs($0) } }

    switch operation {
    case .matmul(let matmul):
      var squared = matmul
      squared.scale = matmul.scale * matmul.scale
      squared.epilogue.activation = .identity
      let squares = try evaluate(.matmul(squared), inputs.map { $0.map { $0 * $0 } })
      var plain = matmul
      plain.epilogue.activation = .identity
      let sums = plain == matmul ? value : try evaluate(.matmul(plain), inputs)
      return sumBound(
        squares, sums, terms: (matmul.transposeLeft ? inputs[0].shape[-2] : inputs[0].shape[-1]) + 3)

    case .conv2d(let conv):
      var plain = conv
      plain.epilogue.activation = .identity
      let squares = try evaluate(.conv2d(plain), inputs.map { $0.map { $0 * $0 } })
      let sums = plain == conv ? value : try evaluate(.conv2d(plain), inputs)
      return sumBound(
        squares, sums, terms: conv.kernel.height * conv.kernel.width * inputs[0].shape[3] + 3)

    case .attention(let attention):
      // A score's error d changes its weight by the factor exp(d), and the weighted mean of V by at most
      // 2 d sum p|v|; d is a few u times the largest score (Cauchy-Schwarz). Summing S terms adds sqrt(S) u.
      let size = inputs[0].shape[2] / attention.heads
      func largestNorm(_ a: HostArray) -> Double {
        stride(from: 0, to: a.values.count, by: size).map { start in
          a.values[start..<start + size].reduce(0) { $0 + $1 * $1 }.squareRoot()
        }.max() ?? 0
      }
      let masks = attention.mask ? inputs[3].values.filter { abs($0) <= 1e5 }.map { abs($0) } : []
      let largest =
        Double(abs(attention.scale)) * largestNorm(inputs[0]) * largestNorm(inputs[1]) + (masks.max() ?? 0)
      var absolute = inputs
      absolute[2] = inputs[2].map { abs($0) }
      let factor = 8 * (largest + 1) + 2 * Double(inputs[1].shape[1]).squareRoot()
      return try evaluate(operation, absolute).values.map { factor * u * abs($0) }

    case .groupNorm(let norm):
      let moments = Reference.groupMoments(norm, inputs[0])
      let channels = value.shape[-1]
      let count = x.count / max(moments.count, 1)
      return parallelMap(x.count) { i in
        let (mean, scale) = moments[Reference.group(norm, value.shape, i)]
        let bound = normBound(
          deviation: x[i] - mean, scale, inputs[1].values[i % channels], inputs[2].values[i % channels],
          count: count, inputs[0].dtype)
        // As an epilogue's: the slope, and the activation's own rounding.
        return norm.activation == .identity ? bound : 1.13 * bound + 10 * u * abs(value.values[i])
      }
    case .layerNorm(let norm):
      let moments = Reference.rowMoments(inputs[0], epsilon: norm.epsilon)
      let width = value.shape[-1]
      return parallelMap(x.count) { i in
        let (mean, scale) = moments[i / width]
        let (gamma, beta) =
          norm.affine ? (inputs[1].values[i % width], inputs[2].values[i % width]) : (1, 0)
        return normBound(deviation: x[i] - mean, scale, gamma, beta, count: width, inputs[0].dtype)
      }
    // A mean of positive terms, a root, two products.
    case .rmsNorm: return relative(16)

    case .rotary:
      // Two products and their sum: 2 u of the sum of their magnitudes.
      var turned = inputs.map { $0.map { abs($0) } }
      turned[2] = inputs[2].map { -abs($0) }
      let first = try evaluate(operation, turned).values
      turned[2] = inputs[2].map { abs($0) }
      let second = try evaluate(operation, turned).values
      return zip(first, second).map { 3 * u * max(abs($0), abs($1)) }

    case .softmax:
      // The exponent x - max is rounded once, which the exponential turns into a relative error.
      let width = value.shape[-1]
      let maxima = stride(from: 0, to: x.count, by: max(width, 1)).map { x[$0..<$0 + width].max() ?? 0 }
      return parallelMap(x.count) { i in
        let depth = abs(x[i] - maxima[i / width])
        return u * (2 * depth + 16) * abs(value.values[i])
      }

    case .unary(let function):
      return zip(x, value.values).map { unaryBound(function, $0, $1) }
    case .affine(let scale, let offset):
      return x.map { 2 * u * (abs(Double(scale) * $0) + abs(Double(offset))) }
    case .clamp: return nil
    case .geglu:
      let width = value.shape[-1]
      return value.values.indices.map { i in
        let first = i / width * 2 * width + i % width
        return abs(x[first]) * unaryBound(.gelu, x[first + width], 0) + 2 * u * abs(value.values[i])
      }
    case .binary(let function):
      switch function {
      case .add, .subtract, .multiply: return relative(1)
      // OpenCL's division may be 2.5 ULP off.
      case .divide: return relative(5)
      case .minimum, .maximum: return nil
      }
    case .linearCombination(let coefficients):
      return x.indices.map { i in
        let terms = coefficients.indices.reduce(0) {
          $0 + abs(Double(coefficients[$1]) * inputs[$1].values[i])
        }
        return Double(coefficients.count + 1) * u * terms
      }
    case .reduce(let reduce):
      guard reduce.kind == .sum || reduce.kind == .mean else { return nil }
      let count = reduce.axes.reduce(1) { $0 * inputs[0].shape[$1] }
      let squares = try evaluate(.reduce(Reduce(.sum, axes: reduce.axes)), [inputs[0].map { $0 * $0 }])
      let sums = try evaluate(.reduce(Reduce(.sum, axes: reduce.axes)), inputs)
      let divisor = reduce.kind == .mean ? Double(count) : 1
      return sumBound(squares, sums, terms: count).map { $0 / divisor }

    // The rest moves, rounds or counts, and the noise is a contract to the bit. An operation that is not
    // listed above must be exact, so a new one that is not fails until its bound is derived here.
    default: return nil
    }
  }

  /// A sum of K terms rounds K times, each time by at most u times the partial sum of that moment, and the
  /// roundings are independent: sqrt(K) u max|partial| (Higham and Mary 2019). Partial sums stay within the
  /// result plus four standard deviations, the root of the sum of the squared terms. An activation's slope is
  /// at most 1.13, and it adds the rounding of its own few steps.
  private static func sumBound(_ squares: HostArray, _ sums: HostArray, terms: Int) -> [Double] {
    zip(squares.values, sums.values).map { square, sum in
      let partial = 4 * max(square, 0).squareRoot() + abs(sum)
      return 0x1p-24 * partial * (1.13 * Double(terms).squareRoot() + 16)
    }
  }

  /// The inputs are exact, so however large the mean is, x - mean need not lose more than the last bit: a mean
  /// that is kept as a float and a rest, or corrected by the deviations' own mean, is off by u times the
  /// deviations' partial sums over their number. These stay within four standard deviations sqrt(K) after K
  /// terms, as in `sumBound`, so K roundings make 4 u K of the deviation / count, at most 4 u. Numbers of 16 bits
  /// lie on a grid on which all K go the same way: at least 16 lanes, as CPUs have, make that
  /// 4 sqrt(count / 16) u. The sum of squares is off by sqrt(count / 16) u of itself, of which the root takes half.
  /// The rest is the last few roundings of the scale, the product and the sum.
  private static func normBound(
    deviation: Double, _ scale: Double, _ gamma: Double, _ beta: Double, count: Int, _ dtype: DType
  ) -> Double {
    let lane = (Double(count) / 16).squareRoot()
    let mean = dtype == .float32 ? 4 : max(4, 4 * lane)
    let relative = 12 + lane / 2
    return 0x1p-24 * (mean * abs(gamma) + relative * abs(scale * gamma * deviation) + 4 * abs(beta))
  }

  private static func unaryBound(_ function: Unary, _ x: Double, _ y: Double) -> Double {
    let u = 0x1p-24
    return switch function {
    // 1 + erf and 1 + tanh cancel for negative x, where they are as exact as their terms of about 1.
    case .gelu, .geluTanh: 16 * u * abs(x)
    // The product 1.702 x is rounded before the exponential.
    case .quickGelu: u * abs(y) * (8 + 4 * abs(x))
    // 4 ULP: OpenCL promises 3 for exp and log, 4 for sin and cos, 5 for tanh.
    case .silu, .sigmoid, .tanh: 10 * u * abs(y)
    case .exp, .log, .sin, .cos: 8 * u * abs(y)
    case .sqrt, .rsqrt, .reciprocal: 6 * u * abs(y)
    case .square: u * abs(y)
    case .abs, .negate: 0
    }
  }
}
