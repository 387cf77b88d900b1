import Glibc
import LangevinTensor

/// The gradient operations, each from its own formula.
extension Reference {
  static func conv2dWeightGradient(_ conv: Conv2D, _ x: HostArray, _ g: HostArray, _ shape: Shape) -> [Double]
  {
    let (height, width, channels) = (x.shape[1], x.shape[2], x.shape[3])
    let outputs = g.shape[3]
    let pixels: Shape = [g.shape[0], g.shape[1], g.shape[2]]
    return parallelRows(shape[0], outputs) { row, out in
      let (tap, channel) = (row / channels, row % channels)
      for pixel in 0..<pixels.count {
        let index = pixels.index(of: pixel)
        let line = index[1] * conv.stride - conv.padding.top + tap / conv.kernel.width
        let column = index[2] * conv.stride - conv.padding.left + tap % conv.kernel.width
        guard (0..<height).contains(line), (0..<width).contains(column) else { continue }
        let factor = x.values[((index[0] * height + line) * width + column) * channels + channel]
        for j in 0..<outputs { out[j] += factor * g.values[pixel * outputs + j] }
      }
    }
  }

  /// Rows of dQ, dK and dV. With `magnitudes` every product counts as positive, which bounds the sums' errors.
  static func attentionGradient(_ attention: Attention, _ inputs: [HostArray], magnitudes: Bool = false)
    -> [Double]
  {
    let (q, k, v, o, g) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])
    let (images, queries, keys, channels) = (q.shape[0], q.shape[1], k.shape[1], q.shape[2])
    let (size, scale) = (channels / attention.heads, Double(attention.scale))
    let mask = attention.mask ? inputs[5] : nil
    func counted(_ value: Double) -> Double { magnitudes ? abs(value) : value }
    func dot(_ a: HostArray, _ i: Int, _ b: HostArray, _ j: Int, magnitudes: Bool) -> Double {
      (0..<size).reduce(0) {
        let product = a.values[i + $1] * b.values[j + $1]
        return $0 + (magnitudes ? abs(product) : product)
      }
    }
    // A head of an image by itself: its part of each of the three.
    var result = [Double](repeating: 0, count: (images * queries + 2 * images * keys) * channels)
    let (keyStart, valueStart) = (images * queries * channels, images * (queries + keys) * channels)
    for image in 0..<images {
      for head in 0..<attention.heads {
        func place(_ token: Int, of count: Int) -> Int { (image * count + token) * channels + head * size }
        for query in 0..<queries {
          let row = place(query, of: queries)
          var weights = (0..<keys).map { key -> Double in
            if attention.causal && key > query { return -.infinity }
            let score = scale * dot(q, row, k, place(key, of: keys), magnitudes: false)
            guard let mask else { return score }
            return score
              + mask.values[(mask.shape.rank == 3 ? image * queries * keys : 0) + query * keys + key]
          }
          let maximum = weights.max() ?? 0
          guard maximum > -.infinity else { continue }
          weights = weights.map { exp($0 - maximum) }
          let sum = weights.reduce(0, +)
          let total = dot(g, row, o, row, magnitudes: magnitudes)
          for key in 0..<keys {
            let (weight, column) = (weights[key] / sum, place(key, of: keys))
            let ofWeight = dot(g, row, v, column, magnitudes: magnitudes)
            let ofScore = counted(scale) * weight * (magnitudes ? ofWeight + total : ofWeight - total)
            for c in 0..<size {
              result[row + c] += ofScore * counted(k.values[column + c])
              result[keyStart + column + c] += ofScore * counted(q.values[row + c])
              result[valueStart + column + c] += weight * counted(g.values[row + c])
            }
          }
        }
      }
    }
    return result
  }

  /// A normalisation and the gradient at its output.
  struct Normalization {
    let x, g: HostArray
    let gamma, beta: [Double]?
    let activation: Activation
    /// Which elements share statistics.
    let group: (Int) -> Int
    /// Mean and 1 / sqrt(variance + epsilon) of each group; a mean of 0 where it is left in.
    let moments: [(mean: Double, scale: Double)]
    let isCentred: Bool

    var channels: Int { x.shape[-1] }
    var groupSize: Int { x.values.count / max(moments.count, 1) }
    func standardized(_ i: Int) -> Double {
      let (mean, scale) = moments[group(i)]
      return (x.values[i] - mean) * scale
    }
    /// The normalisation's output before the activation.
    func output(_ i: Int) -> Double {
      standardized(i) * (gamma?[i % channels] ?? 1) + (beta?[i % channels] ?? 0)
    }
    /// The gradient before the activation.
    func inner(_ i: Int) -> Double {
      activation.function.map { g.values[i] * slope($0, output(i)) } ?? g.values[i]
    }

    init(_ statistics: Accuracy.Statistics, _ inputs: [HostArray]) {
      x = inputs[0]
      g = inputs[inputs.count - 1]
      let shape = x.shape
      let others = inputs.dropFirst().dropLast().map(\.values)
      gamma = others.first
      beta = others.count > 1 ? others[1] : nil
      switch statistics {
      case .groups(let norm):
        activation = norm.activation
        group = { Reference.group(norm, shape, $0) }
        moments = groupMoments(norm, x)
        isCentred = true
      case .rows(let norm):
        activation = .identity
        group = { $0 / shape[-1] }
        moments = rowMoments(x, epsilon: norm.epsilon)
        isCentred = true
      case .uncentredRows(let epsilon):
        activation = .identity
        group = { $0 / shape[-1] }
        moments = (0..<x.values.count / max(shape[-1], 1)).map { row in
          let line = rowOf(inputs[0], row)
          let square = line.reduce(0) { $0 + $1 * $1 } / Double(line.count)
          return (0, 1 / (square + Double(epsilon)).squareRoot())
        }
        isCentred = false
      }
      func rowOf(_ x: HostArray, _ row: Int) -> ArraySlice<Double> {
        x.values[row * x.shape[-1]..<(row + 1) * x.shape[-1]]
      }
    }

    /// The mean of a function of the elements over each group.
    func groupMeans(_ value: (Int) -> Double) -> [Double] {
      var sums = [Double](repeating: 0, count: moments.count)
      for i in x.values.indices { sums[group(i)] += value(i) }
      return sums.map { $0 / Double(groupSize) }
    }

    /// The sum of a function of the elements over all rows.
    func channelSums(_ value: (Int) -> Double) -> [Double] {
      var sums = [Double](repeating: 0, count: channels)
      for i in x.values.indices { sums[i % channels] += value(i) }
      return sums
    }
  }

  /// The rows of dx, then dgamma and dbeta where the output has room for them.
  static func normGradient(_ norm: Normalization, rows: Int) -> [Double] {
    func scaled(_ i: Int) -> Double { norm.inner(i) * (norm.gamma?[i % norm.channels] ?? 1) }
    let means = norm.groupMeans(scaled)
    let slopes = norm.groupMeans { scaled($0) * norm.standardized($0) }
    var values = parallelMap(norm.x.values.count) { i in
      let group = norm.group(i)
      return norm.moments[group].scale
        * (scaled(i) - (norm.isCentred ? means[group] : 0) - norm.standardized(i) * slopes[group])
    }
    let sums = [{ norm.inner($0) * norm.standardized($0) }, norm.inner]
    for sum in sums where values.count < rows * norm.channels { values += norm.channelSums(sum) }
    return values
  }

  /// The derivative of a function.
  static func slope(_ function: Unary, _ x: Double) -> Double {
    func gated(_ k: Double) -> Double {
      let s = 1 / (1 + exp(-k * x))
      return s * (1 + k * x * (1 - s))
    }
    switch function {
    case .silu: return gated(1)
    case .quickGelu: return gated(1.702)
    case .gelu: return 0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
    case .geluTanh:
      let root = (2 / Double.pi).squareRoot()
      let s = 1 / (1 + exp(-2 * root * (x + 0.044715 * x * x * x)))
      let other = 1 / (1 + exp(2 * root * (x + 0.044715 * x * x * x)))
      return s + 2 * x * root * (1 + 3 * 0.044715 * x * x) * s * other
    case .sigmoid: return 1 / (1 + exp(-x)) / (1 + exp(x))
    case .tanh: return 1 / (cosh(x) * cosh(x))
    case .exp: return exp(x)
    case .log: return 1 / x
    case .sqrt: return 0.5 / x.squareRoot()
    case .rsqrt: return -0.5 / (x * x.squareRoot())
    case .sin: return cos(x)
    case .cos: return -sin(x)
    case .square: return 2 * x
    case .abs: return x > 0 ? 1 : x < 0 ? -1 : 0
    case .negate: return -1
    case .reciprocal: return -1 / (x * x)
    }
  }

  static func gegluGradient(_ x: HostArray, _ g: HostArray) -> [Double] {
    let width = g.shape[-1]
    return parallelMap(x.values.count) { i in
      let (row, column) = (i / (2 * width), i % (2 * width))
      let a = x.values[row * 2 * width + column % width]
      let b = x.values[row * 2 * width + width + column % width]
      let gradient = g.values[row * width + column % width]
      return gradient * (column < width ? unary(.gelu, b) : a * slope(.gelu, b))
    }
  }

  static func embeddingGradient(rows: Int, _ ids: HostArray, _ g: HostArray) -> [Double] {
    let width = g.shape[-1]
    var values = [Double](repeating: 0, count: rows * width)
    for (i, id) in ids.values.enumerated() where (0..<rows).contains(Int(id)) {
      for c in 0..<width { values[Int(id) * width + c] += g.values[i * width + c] }
    }
    return values
  }

  static func adamW(_ step: AdamW, _ inputs: [HostArray]) -> [Double] {
    let count = inputs[1].values.count
    let (state, beta1, beta2) = (inputs[0].values, Double(step.beta1), Double(step.beta2))
    var values = state
    for i in 0..<count {
      let g = inputs[1].values[i] * inputs[2].values[0]
      let mean = beta1 * state[count + i] + (1 - beta1) * g
      let square = beta2 * state[2 * count + i] + (1 - beta2) * g * g
      let update =
        mean / Double(step.correction1)
        / ((square / Double(step.correction2)).squareRoot() + Double(step.epsilon))
      let value = state[i] - Double(step.rate) * (update + Double(step.decay) * state[i])
      values[i] = value
      values[count + i] = mean
      values[2 * count + i] = square
      values[3 * count + i] =
        Double(step.averaging) * state[3 * count + i] + (1 - Double(step.averaging)) * value
    }
    return values
  }
}
