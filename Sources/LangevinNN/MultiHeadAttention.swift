import LangevinTensor

/// Self-attention, or cross-attention where a context is given. arXiv:1706.03762, section 3.2.2.
public struct MultiHeadAttention: Sendable {
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  let heads: Int
  let path: String

  /// The checkpoint's names of the four projections.
  public struct Names: Sendable {
    /// The name of the layer that makes the queries.
    public var query: String
    /// The name of the layer that makes the keys.
    public var key: String
    /// The name of the layer that makes the values.
    public var value: String
    /// Of the projection after the heads.
    public var output: String

    /// Names of a checkpoint's own.
    public init(query: String, key: String, value: String, output: String) {
      self.query = query
      self.key = key
      self.value = value
      self.output = output
    }

    /// `to_q`, `to_k`, `to_v`, `to_out.0`.
    public static let diffusers = Names(query: "to_q", key: "to_k", value: "to_v", output: "to_out.0")
    /// `query`, `key`, `value`, `proj_attn`: the autoencoders of early diffusers.
    public static let earlyDiffusers = Names(query: "query", key: "key", value: "value", output: "proj_attn")
    /// `q_proj`, `k_proj`, `v_proj`, `out_proj`.
    public static let transformers = Names(
      query: "q_proj", key: "k_proj", value: "v_proj", output: "out_proj")
  }

  /// Loads four projections; the inner width is `channels`, which the heads divide.
  ///
  /// `contextChannels` is the width of what keys and values are made of; `bias` is that of the query, key and
  /// value projections, the output projection always has one.
  public init(
    _ weights: Weights, channels: Int, contextChannels: Int? = nil, heads: Int, bias: Bool, names: Names
  ) throws {
    precondition(heads > 0 && channels % heads == 0)
    let source = contextChannels ?? channels
    query = try Linear(weights[names.query], inputs: channels, outputs: channels, bias: bias)
    key = try Linear(weights[names.key], inputs: source, outputs: channels, bias: bias)
    value = try Linear(weights[names.value], inputs: source, outputs: channels, bias: bias)
    output = try Linear(weights[names.output], inputs: channels, outputs: channels)
    self.heads = heads
    path = weights.layerPath
  }

  /// x [N, T, channels], context [N, S, contextChannels] (x itself when nil) -> [N, T, channels], plus the
  /// residual.
  ///
  /// The mask is added to the scores, [T, S] or [N, T, S]. What the queries find in each of `added` comes to
  /// what they find in the context.
  public func callAsFunction(
    _ x: Tensor, context: Tensor? = nil, causal: Bool = false, mask: Tensor? = nil, residual: Tensor? = nil,
    added: [AddedAttention] = []
  ) throws -> Tensor {
    let source = context ?? x
    return try layer(path) {
      let queries = try query(x)
      var mixed = try queries.attention(
        keys: key(source), values: value(source), heads: heads, causal: causal, mask: mask)
      for part in added {
        let found = try queries.attention(keys: part.keys, values: part.values, heads: heads)
        mixed = try Tensor.combination([(1, mixed), (part.scale, found)])
      }
      return try output(mixed, residual: residual)
    }
  }
}

/// More that the queries of an attention look at, with a softmax of its own: decoupled cross-attention,
/// arXiv:2308.06721, equation 5.
public struct AddedAttention: Sendable {
  /// After their projection, [N, S, channels].
  public var keys: Tensor
  /// After their projection, [N, S, channels].
  public var values: Tensor
  /// What is found is multiplied by this.
  public var scale: Float

  /// Projected keys and values of S tokens.
  public init(keys: Tensor, values: Tensor, scale: Float) {
    (self.keys, self.values, self.scale) = (keys, values, scale)
  }
}
