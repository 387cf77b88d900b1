/// Everything that a backend may be asked to compute: the profiler's label, the content of a replay file and the row
/// of the validation's table. What is true of a case on any device stands in this folder, behind `definition`.
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
  /// The gradient of `conv2d` at its weight; inputs x, and g [N, H', W', O] at the output -> [taps * C, O], row-major.
  case conv2dWeightGradient(Conv2D)
  /// The gradients of `attention` at Q, K and V; inputs Q, K, V, the output, g at the output, mask? -> [N T + 2 N S, C], the
  /// rows of dQ, then of dK, then of dV.
  case attentionGradient(Attention)
  /// The gradients of `groupNorm`; inputs x, gamma, beta, and g at the output -> [N P + 2, C], the rows of dx, then dgamma,
  /// then dbeta.
  case groupNormGradient(GroupNorm)
  /// The gradients of `layerNorm`; inputs x, gamma when affine, and g at the output -> [rows + 2, C] when affine, the rows
  /// of dx, then dgamma, then dbeta, else [rows, C].
  case layerNormGradient(LayerNorm)
  /// The gradients of `rmsNorm`; inputs x, gamma, and g at the output -> [rows + 1, C], the rows of dx, then dgamma.
  case rmsNormGradient(epsilon: Float)
  /// `g f'(x)`; inputs x, g.
  case unaryGradient(Unary)
  /// The gradient of `geglu`; inputs x [..., 2C], g [..., C] -> [..., 2C].
  case gegluGradient
  /// The gradient of `embedding` at its table: row v is the sum of g where ids is v; inputs int32 ids [...], g [..., C]
  /// -> [rows, C].
  case embeddingGradient(rows: Int)
  /// One step of an optimizer on one parameter; inputs its state [4, ...], float32, the gradient [...] and what that is
  /// multiplied by, float32 [1] -> the new state. arXiv:1711.05101.
  case adamW(AdamW)
  /// How many elements are NaN or infinite -> int32 [1].
  case nonFiniteCount
  /// The numbers of blocks, int32 words -> float32 [count].
  case dequantize(BlockEncoding)

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
    case conv2dWeightGradient = "conv2d_weight_gradient"
    case attentionGradient = "attention_gradient"
    case groupNormGradient = "group_norm_gradient"
    case layerNormGradient = "layer_norm_gradient"
    case rmsNormGradient = "rms_norm_gradient"
    case unaryGradient = "unary_gradient"
    case gegluGradient = "geglu_gradient"
    case embeddingGradient = "embedding_gradient"
    case adamW = "adam_w"
    case nonFiniteCount = "non_finite_count"
    case dequantize
  }

  /// What the operation is on any device.
  public var definition: any OperationDefinition {
    switch self {
    case .matmul(let matmul): matmul
    case .conv2d(let conv): conv
    case .attention(let attention): attention
    case .groupNorm(let norm): norm
    case .layerNorm(let norm): norm
    case .rmsNorm(let epsilon): RMSNorm(epsilon: epsilon)
    case .rotary(let rotary): rotary
    case .softmax: Softmax()
    case .unary(let function): function
    case .affine(let scale, let offset): Affine(scale: scale, offset: offset)
    case .clamp(let lower, let upper): Clamp(lower: lower, upper: upper)
    case .geglu: GEGLU()
    case .binary(let function): function
    case .linearCombination(let coefficients): LinearCombination(coefficients: coefficients)
    case .reduce(let reduce): reduce
    case .embedding: Embedding()
    case .transpose(let permutation): Transpose(permutation: permutation)
    case .broadcast(let shape): Broadcast(shape: shape)
    case .slice(let slice): slice
    case .concatenate(let axis): Concatenate(axis: axis)
    case .pad(let pad): pad
    case .upsampleNearest(let factor): UpsampleNearest(factor: factor)
    case .cast(let dtype): Cast(dtype: dtype)
    case .normalNoise(let noise): noise
    case .fill(let value, let spec): Fill(value: value, spec: spec)
    case .conv2dWeightGradient(let conv): Conv2DWeightGradient(conv: conv)
    case .attentionGradient(let attention): AttentionGradient(attention: attention)
    case .groupNormGradient(let norm): GroupNormGradient(norm: norm)
    case .layerNormGradient(let norm): LayerNormGradient(norm: norm)
    case .rmsNormGradient(let epsilon): RMSNormGradient(epsilon: epsilon)
    case .unaryGradient(let function): UnaryGradient(function: function)
    case .gegluGradient: GEGLUGradient()
    case .embeddingGradient(let rows): EmbeddingGradient(rows: rows)
    case .adamW(let step): step
    case .nonFiniteCount: NonFiniteCount()
    case .dequantize(let encoding): Dequantize(encoding: encoding)
    }
  }

  /// Which case it is.
  public var kind: Kind { definition.operationKind }
  /// A short name for tables and messages: the function's, where one case stands for several.
  public var name: String { definition.name }
  /// The name with what divides quick calls from slow ones, as in `conv2d 3x3 /2`.
  public var label: String { definition.label }
  /// Whether it belongs to a backward pass: it has no gradient of its own.
  public var isGradient: Bool {
    if case .undefined = definition.gradient { true } else { false }
  }
  /// What sort of work it is.
  public var family: OperationFamily { definition.family }

  /// The output's shape and dtype. Throws `TensorError.invalidOperands` with the reason, which may be that a tensor is
  /// larger than any can be (`Shape.checkedCount`).
  public func output(of inputs: [TensorSpec]) throws -> TensorSpec {
    let definition = definition
    func check(_ spec: TensorSpec, _ what: String) throws {
      guard spec.shape.checkedCount == nil else { return }
      throw TensorError.invalidOperands(
        operation: definition.name, inputs: inputs, reason: "\(what) \(spec.shape) is no possible shape")
    }
    for input in inputs { try check(input, "the input's") }
    let output = try definition.output(of: OperandSpecs(operation: definition.name, inputs: inputs))
    try check(output, "the output's")
    return output
  }

  /// A product without its epilogue's activation, and that; nil where it has none.
  var withoutActivation: (plain: Operation, function: Unary)? {
    if case .matmul(var matmul) = self, let function = matmul.epilogue.activation.function {
      matmul.epilogue.activation = .identity
      return (.matmul(matmul), function)
    }
    if case .conv2d(var conv) = self, let function = conv.epilogue.activation.function {
      conv.epilogue.activation = .identity
      return (.conv2d(conv), function)
    }
    return nil
  }

  /// The work of one call with operands that have passed shape inference.
  ///
  /// A convolution's taps on padding count, a causal attention's hidden keys do not.
  public func work(inputs: [TensorSpec], output: TensorSpec) -> Work {
    definition.work(of: inputs, output: output)
  }
}
