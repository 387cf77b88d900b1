/// Everything a backend may be asked to compute: the profiler's label, the kernel cache's key and the
/// test table's row. A new case is added here, in `Operation+Inference.swift`, in each of the two backends and in
/// the validation's float64 reference; the compiler names each place, since these switches are exhaustive. Its
/// arithmetic, where it has any, is counted in `Operation+Work.swift`.
///
/// Shapes: N images, H x W pixels, C channels (last), T and S tokens. All floating-point inputs of an
/// operation share one dtype, which is the output's too unless said otherwise.
public enum Operation: Sendable, Hashable, Codable {
  /// `act(scale * A B + bias + residual)`; inputs A, B, bias?, residual?.
  case matmul(MatMul)
  /// `act(conv(x, W) + bias + perImage + residual)`; inputs x, W, bias?, perImage?, residual?.
  case conv2d(Conv2D)
  /// `softmax(scale * Q K^T + mask) V` per head; inputs Q [N, T, heads * D], K, V [N, S, heads * D], mask?.
  case attention(Attention)
  /// `act((x - mean) / sqrt(variance + epsilon) * gamma + beta)` over groups of channels; x [N, ..., C],
  /// gamma [C], beta [C]. arXiv:1803.08494.
  case groupNorm(GroupNorm)
  /// Normalises the last axis; inputs x [..., C], and gamma [C], beta [C] when affine. arXiv:1607.06450.
  case layerNorm(LayerNorm)
  /// `x / sqrt(mean(x^2) + epsilon) * gamma` over the last axis; x [..., C], gamma [C]. arXiv:1910.07467.
  case rmsNorm(epsilon: Float)
  /// Turns each pair (a, b) of a head's channels by an angle of its token: `(a c - b s, a s + b c)`; inputs x
  /// [N, T, heads * D], cosines c and sines s, both float32 [T, D / 2] in every storage of x: at position 1000 half
  /// precision would be off by the angle of a token. arXiv:2104.09864, eq. 34.
  case rotary(Rotary)
  /// Along the last axis.
  case softmax
  case unary(Unary)
  /// `scale * x + offset`.
  case affine(scale: Float, offset: Float)
  case clamp(lower: Float, upper: Float)
  /// [..., 2C] -> [..., C]: first half times GELU (exact) of the second. arXiv:2002.05202.
  case geglu
  /// Combines two tensors element by element, with broadcasting.
  case binary(Binary)
  /// `sum_i c_i x_i` over inputs of equal shape: a sampler's update step in one pass.
  case linearCombination([Float])
  case reduce(Reduce)
  /// Rows of a table: table [V, C], int32 ids [...] -> [..., C]. Ids outside the table are an error on the
  /// CPU and give rows of NaN on a device.
  case embedding
  /// Output axis i is input axis `permutation[i]`.
  case transpose([Int])
  case broadcast(Shape)
  case slice(Slice)
  case concatenate(axis: Int)
  case pad(Pad)
  /// [N, H, W, C] -> [N, fH, fW, C], each pixel repeated.
  case upsampleNearest(factor: Int)
  /// Rounds to nearest even between floating-point types; int32 rounds toward zero.
  case cast(DType)
  /// Standard normal float32 numbers, the same bits on every device. No inputs.
  case normalNoise(NormalNoise)
  /// A constant. No inputs.
  case fill(Float, TensorSpec)
  /// Reorders a checkpoint's weight into the right operand of `matmul` and `conv2d`.
  case arrangeWeight(WeightArrangement)
  /// How many elements are NaN or infinite -> int32 [1].
  case nonFiniteCount

  /// The cases without their payloads; the raw value is the name in tables and messages.
  public enum Kind: String, Sendable, Hashable, CaseIterable, Codable {
    case matmul, conv2d, attention
    case groupNorm = "group_norm"
    case layerNorm = "layer_norm"
    case rmsNorm = "rms_norm"
    case rotary, softmax, unary, affine, clamp, geglu, binary
    case linearCombination = "linear_combination"
    case reduce, embedding, transpose, broadcast, slice, concatenate, pad
    case upsampleNearest = "upsample_nearest"
    case cast
    case normalNoise = "normal_noise"
    case fill
    case arrangeWeight = "arrange_weight"
    case nonFiniteCount = "non_finite_count"
  }

  /// Which case it is.
  public var kind: Kind {
    switch self {
    case .matmul: .matmul
    case .conv2d: .conv2d
    case .attention: .attention
    case .groupNorm: .groupNorm
    case .layerNorm: .layerNorm
    case .rmsNorm: .rmsNorm
    case .rotary: .rotary
    case .softmax: .softmax
    case .unary: .unary
    case .affine: .affine
    case .clamp: .clamp
    case .geglu: .geglu
    case .binary: .binary
    case .linearCombination: .linearCombination
    case .reduce: .reduce
    case .embedding: .embedding
    case .transpose: .transpose
    case .broadcast: .broadcast
    case .slice: .slice
    case .concatenate: .concatenate
    case .pad: .pad
    case .upsampleNearest: .upsampleNearest
    case .cast: .cast
    case .normalNoise: .normalNoise
    case .fill: .fill
    case .arrangeWeight: .arrangeWeight
    case .nonFiniteCount: .nonFiniteCount
    }
  }

  /// A short name for tables and messages: the function's, where one case stands for several.
  public var name: String {
    switch self {
    case .unary(let function): function.rawValue
    case .binary(let function): function.rawValue
    case .reduce(let reduce): "reduce_\(reduce.kind.rawValue)"
    default: kind.rawValue
    }
  }
}

extension Operation {
  /// Whether that input is float32 however the others are stored: a rotation's tables.
  public func isAlwaysFloat32(input: Int) -> Bool {
    if case .rotary = self { input > 0 } else { false }
  }
}
