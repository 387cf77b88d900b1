/// The mask is additive, [T, S] or [N, T, S]; `causal` hides keys after the query (T = S).
public struct Attention: Sendable, Hashable, Codable {
  /// They divide the channels.
  public var heads: Int
  /// What Q K^T is multiplied by before the softmax.
  public var scale: Float
  /// A query sees no key after itself.
  public var causal: Bool
  /// Whether there is a fourth input.
  public var mask: Bool

  /// By default every query sees every key.
  public init(heads: Int, scale: Float, causal: Bool = false, mask: Bool = false) {
    self.heads = heads
    self.scale = scale
    self.causal = causal
    self.mask = mask
  }
}

/// The inputs of `attention` by name, whatever stands for an operand.
public struct AttentionOperands<Value> {
  public var queries, keys, values: Value
  public var mask: Value?
}

extension Attention {
  /// The inputs by name.
  public func operands<Value>(_ inputs: [Value]) -> AttentionOperands<Value> {
    AttentionOperands(
      queries: inputs[0], keys: inputs[1], values: inputs[2], mask: mask ? inputs[3] : nil)
  }
}

extension Attention {
  /// [N, T, heads * D] -> [N, heads, T, D], with the axes in another order where one is given.
  func split(_ x: Tensor, _ permutation: [Int] = [0, 2, 1, 3]) throws -> Tensor {
    try x.reshaped([x.shape[0], x.shape[1], heads, x.shape[2] / heads]).transposed(permutation)
  }

  /// [N, heads, T, D] -> [N, T, heads * D].
  func joined(_ x: Tensor) throws -> Tensor {
    try x.transposed([0, 2, 1, 3]).reshaped([x.shape[0], x.shape[2], heads * x.shape[3]])
  }

  /// What each query gives to each key, [N, heads, T, S].
  func weights(_ queries: Tensor, _ keys: Tensor, _ mask: Tensor?) throws -> Tensor {
    let (q, k) = (queries.shape, keys.shape)
    var scores = try split(queries).matmul(split(keys, [0, 2, 3, 1])) * scale
    if let mask {
      scores = try scores + (mask.shape.rank == 3 ? mask.reshaped([q[0], 1, q[1], k[1]]) : mask)
    }
    if causal {
      let hidden = (0..<q[1] * k[1]).map { $0 % k[1] > $0 / k[1] ? -Float.infinity : 0 }
      scores = try scores + Tensor(hidden, [q[1], k[1]], on: scores.device).cast(to: scores.dtype)
    }
    // A query that sees nothing gives zeros: its maximum is finite, and its sum is not zero.
    let maximum = try scores.reduced(.maximum, axes: [3])
      .maximum(scores.constant(-.greatestFiniteMagnitude))
    let weights = try (scores - maximum).map(.exp)
    return try weights
      / weights.reduced(.sum, axes: [3]).maximum(scores.constant(.leastNormalMagnitude))
  }
}

extension Attention: OperationDefinition {
  public var operationKind: Operation.Kind { .attention }
  public var label: String { causal ? "attention causal" : "attention" }
  public var family: OperationFamily { .attention }

  public func operand(_ index: Int) -> OperandDefinition {
    .named("queries", "keys", "values", "mask", at: index)
  }

  public func output(of inputs: OperandSpecs) throws -> TensorSpec {
    try inputs.requireFloats(mask ? 4 : 3)
    let (q, k, v) = (inputs[0], inputs[1], inputs[2])
    try inputs.require(
      q.rank == 3 && k.rank == 3 && v == k, "Q must be [N, T, C] and K, V alike [N, S, C]")
    try inputs.require(q[0] == k[0] && q[2] == k[2], "Q and K differ in images or channels")
    try inputs.require(
      heads > 0 && q[2] % heads == 0, "\(q[2]) channels do not split into \(heads) heads")
    try inputs.require(k[1] > 0, "needs at least one key")
    try inputs.require(!causal || q[1] == k[1], "causal attention needs as many keys as queries")
    if mask {
      try inputs.require(
        inputs[3] == [q[1], k[1]] || inputs[3] == [q[0], q[1], k[1]], "mask must be [T, S] or [N, T, S]")
    }
    return inputs.like(q)
  }

  public func work(of inputs: [TensorSpec], output: TensorSpec) -> Work {
    let (queries, keys) = (Double(inputs[0].shape[1]), Double(inputs[1].shape[1]))
    let pairs = Double(inputs[0].shape[0]) * (causal ? queries * (queries + 1) / 2 : queries * keys)
    // Two products over the channels; for each score of a head the scale, the mask, the maximum, the
    // difference, exp and the sum; the division of the result.
    let perScore = mask ? 6.0 : 5.0
    let flops = pairs * (4 * Double(inputs[0].shape[2]) + perScore * Double(heads))
    return Work(flops: flops + Double(output.shape.count), inputs, output)
  }

  /// The scores of all heads lie in memory at once.
  public var decomposition: Decomposition? {
    { inputs in
      let operands = operands(inputs)
      let weights = try weights(operands.queries, operands.keys, operands.mask)
      return try joined(weights.matmul(split(operands.values)))
    }
  }

  /// By FlashAttention's backward pass, arXiv:2205.14135, appendix B. A mask is taken for a constant.
  public var gradient: GradientRule {
    .rule(
      keeps: { _ in
        var kept: GradientRule.Kept = mask ? [0, 1, 2, 3] : [0, 1, 2]
        kept.output = true
        return kept
      },
      pass: { call in
        let inputs = (0..<3).map(call.input)
        let all = try Tensor.apply(
          .attentionGradient(self),
          inputs + [call.output, call.gradient] + (mask ? [call.input(3)] : []))
        var next = 0
        let parts = try inputs.map { input in
          let count = input.shape[0] * input.shape[1]
          defer { next += count }
          return try all.rows(next..<next + count).reshaped(input.shape)
        }
        return parts.map { Optional($0) } + (mask ? [nil] : [])
      })
  }

  public func accuracy(of inputs: [TensorSpec]) -> Accuracy { .attention(self) }

  public var locality: Locality { .heads(self) }

  public func extents(of inputs: [TensorSpec]) -> Extents {
    let (q, k) = (inputs[0].shape, inputs[1].shape)
    let tokens = causal ? [q[1]] : [q[1], k[1]]
    let maskRank = mask ? inputs[3].shape.rank : 0
    return .own([q[0], heads, q[2] / heads] + tokens) { values in
      let (images, heads, size, queries) = (values[0], values[1], values[2], values[3])
      let keys = values[values.count - 1]
      var smaller = self
      smaller.heads = heads
      let k: Shape = [images, keys, heads * size]
      let masks: [Shape] =
        maskRank == 0 ? [] : [maskRank == 3 ? [images, queries, keys] : [queries, keys]]
      return (.attention(smaller), [[images, queries, heads * size], k, k] + masks)
    }
  }

  public var representative: Operation { .attention(self) }
}
