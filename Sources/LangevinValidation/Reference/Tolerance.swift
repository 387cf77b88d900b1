import LangevinTensor

/// How far a float32 computation may be from the exact value, element by element, derived from the
/// operation's `Accuracy`. u = 2^-24 is float32's unit roundoff. The rounding of the output to float16 or bfloat16 is added
/// by `Agreement`.
enum Tolerance {
  /// The allowed absolute error of each element; nil where the result must be exact.
  /// `evaluate` computes plain products for the bound: the reference, or a backend that is trusted. `ties` are those of a
  /// left operand that was rounded already.
  static func bound(
    _ operation: Operation, _ inputs: [HostArray], ties: HostArray? = nil, value: HostArray,
    evaluate: (Operation, [HostArray]) throws -> HostArray
  ) throws -> [Double]? {
    // Squares are of numbers, not of words.
    let (dense, numbers) = Reference.dense(operation, inputs)
    let bound = try bound(ofDense: dense, numbers, value: value, evaluate: evaluate)
    guard let ties = ties ?? (operation.roundsLeft ? Int8Reference.ties(inputs[0]) : nil) else {
      return bound
    }
    let allowance = try Int8Reference.allowance(dense, ties: ties, numbers[1], evaluate: evaluate)
    return bound.map { zip($0, allowance).map { $0 + $1 } }
  }

  private static func bound(
    ofDense operation: Operation, _ inputs: [HostArray], value: HostArray,
    evaluate: (Operation, [HostArray]) throws -> HostArray
  ) throws -> [Double]? {
    let u = 0x1p-24
    let x = inputs.first?.values ?? []
    switch operation.definition.accuracy(of: inputs.map(\.spec)) {
    case .exact: return nil
    case .roundings(let count): return value.values.map { count * u * abs($0) }
    case .elements(let error):
      let values = inputs.map(\.values)
      return parallelMap(value.values.count) { error(values, $0, value.values[$0]) }
    case .sum(let terms, let squares, let plain, let divisor):
      let squared = try evaluate(
        squares, inputs.map { $0.dtype.isFloatingPoint ? $0.map { $0 * $0 } : $0 })
      let sums = plain == operation ? value : try evaluate(plain, inputs)
      return sumBound(squared, sums, terms: terms).map { $0 / divisor }
    case .normalized(.groups(let norm)):
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
    case .normalized(.rows(let norm)):
      let moments = Reference.rowMoments(inputs[0], epsilon: norm.epsilon)
      let width = value.shape[-1]
      return parallelMap(x.count) { i in
        let (mean, scale) = moments[i / width]
        let (gamma, beta) =
          norm.affine ? (inputs[1].values[i % width], inputs[2].values[i % width]) : (1, 0)
        return normBound(deviation: x[i] - mean, scale, gamma, beta, count: width, inputs[0].dtype)
      }
    // A mean of positive terms, a root, two products.
    case .normalized(.uncentredRows): return value.values.map { 16 * u * abs($0) }
    case .normalizedGradient(let statistics):
      return normGradientBound(Reference.Normalization(statistics, inputs), value)
    case .attentionGradient(let attention):
      let magnitudes = Reference.attentionGradient(attention, inputs, magnitudes: true)
      let factor = attentionFactor(attention, inputs, mask: attention.mask ? inputs[5] : nil)
      return magnitudes.map { factor * u * $0 }
    case .softmax:
      // The exponent x - max is rounded once, which the exponential turns into a relative error.
      let width = value.shape[-1]
      let maxima = stride(from: 0, to: x.count, by: max(width, 1)).map { x[$0..<$0 + width].max() ?? 0 }
      return parallelMap(x.count) { i in
        let depth = abs(x[i] - maxima[i / width])
        return u * (2 * depth + 16) * abs(value.values[i])
      }
    case .attention(let attention):
      var absolute = inputs
      absolute[2] = inputs[2].map { abs($0) }
      let factor = attentionFactor(attention, inputs, mask: attention.mask ? inputs[3] : nil)
      return try evaluate(operation, absolute).values.map { factor * u * abs($0) }
    }
  }

  /// A score's error d changes its weight by the factor exp(d), and the weighted mean of V by at most
  /// 2 d sum p|v|; d is a few u times the largest score (Cauchy-Schwarz). Summing S terms adds sqrt(S) u.
  private static func attentionFactor(_ attention: Attention, _ inputs: [HostArray], mask: HostArray?)
    -> Double
  {
    let size = inputs[0].shape[2] / attention.heads
    func largestNorm(_ a: HostArray) -> Double {
      stride(from: 0, to: a.values.count, by: size).map { start in
        a.values[start..<start + size].reduce(0) { $0 + $1 * $1 }.squareRoot()
      }.max() ?? 0
    }
    let masks = mask.map { $0.values.filter { abs($0) <= 1e5 }.map { abs($0) } } ?? []
    let largest =
      Double(abs(attention.scale)) * largestNorm(inputs[0]) * largestNorm(inputs[1]) + (masks.max() ?? 0)
    return 8 * (largest + 1) + 2 * Double(max(inputs[0].shape[1], inputs[1].shape[1])).squareRoot()
  }

  /// The errors of the standardised x and of what the activation passes go through the formula of dx; sums go by
  /// `sumBound`, in which the errors of the terms are independent but for the mean's, which a group's share.
  private static func normGradientBound(_ norm: Reference.Normalization, _ value: HostArray) -> [Double] {
    let (u, channels, size) = (0x1p-24, norm.channels, Double(norm.groupSize))
    let lane = (size / 16).squareRoot()
    let (meanError, relative) = (norm.x.dtype == .float32 ? 4 : max(4, 4 * lane), 12 + lane / 2)
    func gamma(_ i: Int) -> Double { norm.gamma?[i % channels] ?? 1 }
    func standardError(_ i: Int) -> Double {
      u * ((norm.isCentred ? meanError : 0) + relative * abs(norm.standardized(i)))
    }
    func innerError(_ i: Int) -> Double {
      guard let function = norm.activation.function else { return 0 }
      let output = norm.output(i)
      let before =
        abs(gamma(i)) * standardError(i) + u * (2 * abs(output) + 4 * abs(norm.beta?[i % channels] ?? 0))
      let slope = Reference.slope(function, output)
      return abs(norm.g.values[i]) * (function.slopeError(output, slope) + 0.5 * before) + 2 * u
        * abs(norm.inner(i))
    }
    func scaled(_ i: Int) -> Double { gamma(i) * norm.inner(i) }
    let means = norm.groupMeans(scaled)
    let slopes = norm.groupMeans { scaled($0) * norm.standardized($0) }
    /// The error of a group's mean of terms.
    func meanErrors(_ term: (Int) -> Double, _ error: (Int) -> Double) -> [Double] {
      let squares = norm.groupMeans { term($0) * term($0) }
      let errors = norm.groupMeans(error)
      let values = norm.groupMeans(term)
      return squares.indices.map { group in
        let partial = 4 * (squares[group] / size).squareRoot() + abs(values[group])
        return u * partial * (1.13 * size.squareRoot() + 16) + errors[group]
      }
    }
    let meansError = meanErrors(scaled) { abs(gamma($0)) * innerError($0) + u * abs(scaled($0)) }
    func slope(_ i: Int) -> Double { scaled(i) * norm.standardized(i) }
    let slopesError = meanErrors(slope) { i in
      abs(gamma(i) * norm.standardized(i)) * innerError(i) + abs(scaled(i)) * standardError(i)
        + 2 * u * abs(slope(i))
    }
    var bounds = parallelMap(norm.x.values.count) { i in
      let (group, y) = (norm.group(i), norm.standardized(i))
      let mean = norm.isCentred ? means[group] : 0
      let terms = abs(scaled(i)) + abs(mean) + abs(y * slopes[group])
      let inside =
        abs(gamma(i)) * innerError(i) + (norm.isCentred ? meansError[group] : 0) + abs(y) * slopesError[group]
        + standardError(i) * abs(slopes[group]) + 4 * u * terms
      return norm.moments[group].scale * inside + relative * u * abs(value.values[i])
    }
    let rows = Double(norm.x.values.count / max(channels, 1))
    func channelBounds(_ term: (Int) -> Double, _ error: (Int) -> Double) -> [Double] {
      let squares = norm.channelSums { term($0) * term($0) }
      let sums = norm.channelSums(term)
      let errors = norm.channelSums { error($0) * error($0) }
      return squares.indices.map { channel in
        let partial = 4 * squares[channel].squareRoot() + abs(sums[channel])
        return u * partial * (1.13 * rows.squareRoot() + 16) + 4 * errors[channel].squareRoot()
      }
    }
    let shared = norm.channelSums { abs(norm.inner($0)) * (norm.isCentred ? meanError * u : 0) }
    func ofGamma(_ i: Int) -> Double { norm.inner(i) * norm.standardized(i) }
    let gammas = channelBounds(ofGamma) { i in
      abs(norm.standardized(i)) * innerError(i) + abs(norm.inner(i)) * standardError(i)
    }
    let betas = channelBounds(norm.inner, innerError)
    for sums in [zip(gammas, shared).map { $0 + $1 }, betas] where bounds.count < value.values.count {
      bounds += sums
    }
    return bounds
  }

  /// A sum of K terms rounds K times, each time by at most u times the partial sum of that moment, and the
  /// roundings are independent: sqrt(K) u max|partial| (Higham and Mary 2019). Partial sums stay within the
  /// result plus four standard deviations, the root of the sum of the squared terms. An activation's slope is
  /// at most 1.13, and it adds the rounding of its own few steps. Winograd's tiles, whose errors are larger, have to keep
  /// the same bound.
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
}
