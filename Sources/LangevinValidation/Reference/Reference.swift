import Glibc
import LangevinTensor

/// Every operation in float64, written straight from its definition and independently of the backends.
///
/// Who adds a case here adds its rows to `OperationCases` too, without which `everyOperationHasACase` fails.
public enum Reference {
  /// The operation's value, not rounded except where rounding is its meaning (`cast`, constants).
  /// Throws `TensorError.invalidOperands` where shapes do not fit.
  public static func evaluate(_ operation: Operation, _ inputs: [HostArray]) throws -> HostArray {
    let spec = try operation.output(of: inputs.map(\.spec))
    let x = inputs.first?.values ?? []
    func elements(_ function: (Double) -> Double) -> [Double] { parallelMap(x.count) { function(x[$0]) } }
    let values: [Double]
    switch operation {
    case .matmul(let matmul): values = Reference.matmul(matmul, inputs, spec.shape)
    case .conv2d(let conv): values = Reference.conv2d(conv, inputs, spec.shape)
    case .attention(let attention): values = Reference.attention(attention, inputs)
    case .groupNorm(let norm):
      let moments = groupMoments(norm, inputs[0])
      let (gamma, beta, channels) = (inputs[1].values, inputs[2].values, spec.shape[-1])
      values = parallelMap(x.count) { i in
        let (mean, scale) = moments[group(norm, spec.shape, i)]
        let y = (x[i] - mean) * scale * gamma[i % channels] + beta[i % channels]
        return activate(norm.activation, y)
      }
    case .layerNorm(let norm):
      let (width, rows) = (spec.shape[-1], rowMoments(inputs[0], epsilon: norm.epsilon))
      values = parallelMap(x.count) { i in
        let y = (x[i] - rows[i / width].mean) * rows[i / width].scale
        return norm.affine ? y * inputs[1].values[i % width] + inputs[2].values[i % width] : y
      }
    case .rmsNorm(let epsilon):
      let (width, gamma) = (spec.shape[-1], inputs[1].values)
      values = parallelRows(x.count / max(width, 1), width) { row, out in
        let line = x[row * width..<(row + 1) * width]
        let square = line.reduce(0) { $0 + $1 * $1 } / Double(width)
        for j in 0..<width {
          out[j] = line[row * width + j] / (square + Double(epsilon)).squareRoot() * gamma[j]
        }
      }
    case .rotary(let rotary):
      let (tokens, pairs) = (spec.shape[1], inputs[1].shape[1])
      let isInterleaved = rotary.pairs == .interleaved
      values = parallelMap(x.count) { i in
        let channel = i % (2 * pairs)
        let (pair, isSecond) =
          isInterleaved ? (channel / 2, channel % 2 == 1) : (channel % pairs, channel >= pairs)
        let other = x[i + (isSecond ? -1 : 1) * (isInterleaved ? 1 : pairs)]
        let angle = i / spec.shape[2] % tokens * pairs + pair
        let (c, s) = (inputs[1].values[angle], inputs[2].values[angle])
        return isSecond ? other * s + x[i] * c : x[i] * c - other * s
      }
    case .softmax:
      let width = spec.shape[-1]
      values = parallelRows(x.count / max(width, 1), width) { row, out in
        let line = Array(x[row * width..<(row + 1) * width])
        let maximum = line.max() ?? 0
        let sum = line.reduce(0) { $0 + exp($1 - maximum) }
        for j in 0..<width { out[j] = exp(line[j] - maximum) / sum }
      }
    case .unary(let function): values = elements { unary(function, $0) }
    case .affine(let scale, let offset): values = elements { Double(scale) * $0 + Double(offset) }
    case .clamp(let lower, let upper): values = elements { min(max($0, Double(lower)), Double(upper)) }
    case .geglu:
      let width = spec.shape[-1]
      values = parallelMap(spec.shape.count) { i in
        let first = i / width * 2 * width + i % width
        return x[first] * unary(.gelu, x[first + width])
      }
    case .conv2dWeightGradient(let conv):
      values = conv2dWeightGradient(conv, inputs[0], inputs[1], spec.shape)
    case .attentionGradient(let attention): values = attentionGradient(attention, inputs)
    case .groupNormGradient(let norm):
      values = normGradient(Normalization(.groups(norm), inputs), rows: spec.shape[0])
    case .layerNormGradient(let norm):
      values = normGradient(Normalization(.rows(norm), inputs), rows: spec.shape[0])
    case .rmsNormGradient(let epsilon):
      values = normGradient(Normalization(.uncentredRows(epsilon: epsilon), inputs), rows: spec.shape[0])
    case .unaryGradient(let function):
      values = parallelMap(x.count) { inputs[1].values[$0] * slope(function, x[$0]) }
    case .gegluGradient: values = gegluGradient(inputs[0], inputs[1])
    case .embeddingGradient(let rows): values = embeddingGradient(rows: rows, inputs[0], inputs[1])
    case .adamW(let step): values = adamW(step, inputs)
    case .binary(let function):
      let places = inputs.map { broadcastPlace($0.shape, spec.shape) }
      values = parallelMap(spec.shape.count) { i in
        binary(function, x[places[0](i)], inputs[1].values[places[1](i)])
      }
    case .linearCombination(let coefficients):
      values = parallelMap(x.count) { i in
        coefficients.indices.reduce(0) { $0 + Double(coefficients[$1]) * inputs[$1].values[i] }
      }
    case .reduce(let reduce): values = Reference.reduce(reduce, inputs[0], spec.shape)
    case .cast(let dtype): values = elements(dtype.round)
    case .normalNoise(let noise):
      values = (0..<spec.shape.count).map { i in
        let normals = NoiseFunction.normals(
          block: UInt32(i / 4), seed: noise.seed, stream: noise.stream, step: noise.step)
        return Double(normals[i % 4])
      }
    case .fill(let value, _):
      values = [Double](repeating: spec.dtype.round(Double(value)), count: spec.shape.count)
    case .dequantize(let encoding): values = Operand(inputs[0]).decoded(encoding).array.values
    case .nonFiniteCount: values = [Double(x.count { !$0.isFinite })]
    case .embedding, .transpose, .broadcast, .slice, .concatenate, .pad, .upsampleNearest:
      values = moved(operation, inputs, spec)
    }
    return HostArray(spec, values)
  }

  static func unary(_ function: Unary, _ x: Double) -> Double {
    switch function {
    case .silu: x / (1 + exp(-x))
    case .gelu: 0.5 * x * erfc(-x / 2.0.squareRoot())
    case .geluTanh: x / (1 + exp(-2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .quickGelu: x / (1 + exp(-1.702 * x))
    case .sigmoid: 1 / (1 + exp(-x))
    case .tanh: tanh(x)
    case .exp: exp(x)
    case .log: log(x)
    case .sqrt: x.squareRoot()
    case .rsqrt: 1 / x.squareRoot()
    case .sin: sin(x)
    case .cos: cos(x)
    case .square: x * x
    case .abs: abs(x)
    case .negate: -x
    case .reciprocal: 1 / x
    }
  }

  static func activate(_ activation: Activation, _ x: Double) -> Double {
    activation.function.map { unary($0, x) } ?? x
  }

  private static func binary(_ function: Binary, _ a: Double, _ b: Double) -> Double {
    switch function {
    case .add: a + b
    case .subtract: a - b
    case .multiply: a * b
    case .divide: a / b
    case .minimum: min(a, b)
    case .maximum: max(a, b)
    case .less: a < b ? 1 : 0
    case .equal: a == b ? 1 : 0
    }
  }

  private static func reduce(_ reduce: Reduce, _ x: HostArray, _ shape: Shape) -> [Double] {
    var values: [Double?] = Array(repeating: nil, count: shape.count)
    let strides = shape.strides
    for (i, value) in x.values.enumerated() {
      let index = x.shape.index(of: i)
      let place = index.indices.reduce(0) { $0 + (reduce.axes.contains($1) ? 0 : index[$1] * strides[$1]) }
      guard let old = values[place] else {
        values[place] = value
        continue
      }
      switch reduce.kind {
      case .sum, .mean: values[place] = old + value
      case .minimum: values[place] = min(old, value)
      case .maximum: values[place] = max(old, value)
      }
    }
    let count = Double(reduce.axes.reduce(1) { $0 * x.shape[$1] })
    return values.map { ($0 ?? 0) / (reduce.kind == .mean ? count : 1) }
  }
}
