/// What an operation must do at least, whatever kernel does it: the arithmetic of its formula, each input read
/// once and the output written once. Set against time and a device's ceilings it gives the roofline.
public struct Work: Sendable, Hashable, Codable {
  /// Floating-point operations: a multiply-add counts 2, a comparison, a division or a function (exp, erf) 1.
  public var flops: Double
  /// Bytes of the inputs; of a table or a sliced tensor only what is looked at.
  public var bytesRead: Double
  /// Bytes of the output.
  public var bytesWritten: Double

  /// Bytes in both directions.
  public var bytes: Double { bytesRead + bytesWritten }
  /// Operations a byte; infinite where nothing is moved.
  public var intensity: Double { bytes > 0 ? flops / bytes : .infinity }

  /// Work of these amounts.
  public init(flops: Double = 0, bytesRead: Double = 0, bytesWritten: Double = 0) {
    self.flops = flops
    self.bytesRead = bytesRead
    self.bytesWritten = bytesWritten
  }

  /// The work of both.
  public static func + (a: Work, b: Work) -> Work {
    Work(
      flops: a.flops + b.flops, bytesRead: a.bytesRead + b.bytesRead,
      bytesWritten: a.bytesWritten + b.bytesWritten)
  }

  /// Adds the work of another.
  public static func += (a: inout Work, b: Work) { a = a + b }
}

extension Operation {
  /// The work of one call with operands that have passed shape inference.
  ///
  /// A convolution's taps on padding count, a causal attention's hidden keys do not. Weights in panels count with
  /// the zeros that fill the last panel.
  public func work(inputs: [TensorSpec], output: TensorSpec) -> Work {
    let count = Double(output.shape.count)
    var read = Double(inputs.reduce(0) { $0 + $1.byteCount })
    let flops: Double
    switch self {
    case .matmul(let matmul):
      let inner = inputs[0].shape[matmul.transposeLeft ? -2 : -1]
      let perElement = matmul.epilogue.flops + (matmul.scale == 1 ? 0 : 1)
      flops = count * (2 * Double(inner) + Double(perElement))
    case .conv2d(let conv):
      let inner = conv.kernel.height * conv.kernel.width * inputs[0].shape[-1]
      flops = count * Double(2 * inner + conv.epilogue.flops)
    case .attention(let attention):
      let (queries, keys) = (Double(inputs[0].shape[1]), Double(inputs[1].shape[1]))
      let pairs =
        Double(inputs[0].shape[0]) * (attention.causal ? queries * (queries + 1) / 2 : queries * keys)
      // Two products over the channels; for each score of a head the scale, the mask, the maximum, the
      // difference, exp and the sum; the division of the result.
      let perScore = attention.mask ? 6.0 : 5.0
      flops = pairs * (4 * Double(inputs[0].shape[2]) + perScore * Double(attention.heads)) + count
    case .groupNorm(let norm):
      // Mean 1, variance 3, scale and shift 2.
      flops = count * Double(6 + norm.activation.flops)
    case .layerNorm(let norm): flops = count * (norm.affine ? 8 : 6)
    case .rmsNorm: flops = count * 4
    case .rotary: flops = count * 3
    case .softmax: flops = count * 5
    case .unary(let function): flops = count * Double(function.flops)
    case .affine, .clamp: flops = count * 2
    case .geglu: flops = count * Double(Activation.gelu.flops + 1)
    case .binary: flops = count
    case .linearCombination(let coefficients): flops = count * Double(2 * coefficients.count - 1)
    case .reduce(let reduce):
      flops = Double(inputs[0].shape.count) + (reduce.kind == .mean ? count : 0)
    case .embedding:
      read = Double(inputs[1].byteCount + output.byteCount)
      flops = 0
    case .slice:
      read = Double(output.byteCount)
      flops = 0
    case .normalNoise:
      // Box-Muller: log, its factor, sqrt, the angle, sin, cos and two products a pair.
      flops = count * 4
    case .nonFiniteCount: flops = Double(inputs[0].shape.count)
    // What only moves or writes elements computes nothing.
    default: flops = 0
    }
    return Work(flops: flops, bytesRead: read, bytesWritten: Double(output.byteCount))
  }
}

extension Epilogue {
  /// For each element.
  fileprivate var flops: Int { inputCount + activation.flops }
}

extension Activation {
  /// For each element.
  fileprivate var flops: Int {
    switch self {
    case .identity: 0
    case .silu, .quickGelu: 4
    case .gelu: 5
    case .geluTanh: 9
    }
  }
}

extension Unary {
  /// For each element.
  fileprivate var flops: Int {
    switch self {
    case .silu: Activation.silu.flops
    case .gelu: Activation.gelu.flops
    case .geluTanh: Activation.geluTanh.flops
    case .quickGelu: Activation.quickGelu.flops
    case .sigmoid: 4
    case .rsqrt: 2
    case .tanh, .exp, .log, .sqrt, .sin, .cos, .square, .abs, .negate, .reciprocal: 1
    }
  }
}
