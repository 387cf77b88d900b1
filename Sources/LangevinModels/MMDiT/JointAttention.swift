import LangevinNN
import LangevinTensor

/// Attention over a picture's tokens and a text's as one sequence, each with projections of its own. arXiv:2403.03206,
/// section 4.
struct JointAttention: Sendable {
  /// What becomes of the text's tokens.
  enum TextRole {
    /// There are none.
    case absent
    /// They are looked at, and nothing comes back to them.
    case context
    /// They look around as the picture's do.
    case stream
  }

  let picture: JointStream
  let text: JointStream?
  let heads: Int
  let path: String

  /// Loads the projections under diffusers' names; without `hasOutput` what the heads found is returned as it is.
  init(
    _ weights: Weights, heads: Int, headSize: Int, normalizesHeads: Bool, text role: TextRole,
    hasOutput: Bool = true
  ) throws {
    path = weights.layerPath
    self.heads = heads
    let size = JointStream.Size(heads: heads, headSize: headSize, normalizesHeads: normalizesHeads)
    picture = try JointStream(
      weights, size, names: .diffusers, norms: ("norm_q", "norm_k"), looksAround: true, hasOutput: hasOutput)
    let names = MultiHeadAttention.Names(
      query: "add_q_proj", key: "add_k_proj", value: "add_v_proj", output: "to_add_out")
    switch role {
    case .absent: text = nil
    case .context, .stream:
      let isStream = role == .stream
      text = try JointStream(
        weights, size, names: names, norms: ("norm_added_q", "norm_added_k"), looksAround: isStream,
        hasOutput: isStream)
    }
  }

  /// x [N, T, C] and text [N, S, C] -> both after attention; the text nil where nothing comes back to it. The angles
  /// are those of the picture's tokens.
  func callAsFunction(_ x: Tensor, text states: Tensor? = nil, angles: RotaryAngles? = nil) throws
    -> (picture: Tensor, text: Tensor?)
  {
    try layer(path) {
      let own = try picture(x, heads: heads, angles: angles)
      let other = try states.flatMap { try text?($0, heads: heads, angles: nil) }
      func joined(_ parts: [Tensor?]) throws -> Tensor { try .concatenated(parts.compactMap { $0 }, axis: 1) }
      let mixed = try joined([own.queries, other?.queries]).attention(
        keys: joined([own.keys, other?.keys]), values: joined([own.values, other?.values]), heads: heads)
      guard let output = text?.output else { return (try picture.output?(mixed) ?? mixed, nil) }
      let count = x.shape[1]
      let found = try mixed.sliced(0..<count, axis: 1)
      return (
        try picture.output?(found) ?? found, try output(mixed.sliced(count..<mixed.shape[1], axis: 1))
      )
    }
  }
}

/// The projections of one kind of token.
struct JointStream: Sendable {
  struct Size {
    var heads: Int
    var headSize: Int
    var normalizesHeads: Bool
  }

  let query: Linear?
  let queryNorm: HeadNormalization?
  let key: Linear
  let keyNorm: HeadNormalization?
  let value: Linear
  let output: Linear?

  init(
    _ weights: Weights, _ size: Size, names: MultiHeadAttention.Names, norms: (query: String, key: String),
    looksAround: Bool, hasOutput: Bool
  ) throws {
    let channels = size.heads * size.headSize
    func linear(_ name: String) throws -> Linear {
      try Linear(weights[name], inputs: channels, outputs: channels)
    }
    func norm(_ name: String) throws -> HeadNormalization? {
      size.normalizesHeads ? try HeadNormalization(weights[name], headSize: size.headSize) : nil
    }
    if looksAround {
      (query, queryNorm) = (try linear(names.query), try norm(norms.query))
    } else {
      // The reference computes these and drops what becomes of them.
      (query, queryNorm) = (nil, nil)
      weights[names.query].skip()
      weights[norms.query].skip()
    }
    (key, keyNorm, value) = (try linear(names.key), try norm(norms.key), try linear(names.value))
    output = hasOutput ? try linear(names.output) : nil
  }

  /// [N, T, C] -> queries, keys and values, [N, T, C] each.
  func callAsFunction(_ x: Tensor, heads: Int, angles: RotaryAngles?) throws
    -> (queries: Tensor?, keys: Tensor, values: Tensor)
  {
    func finished(_ x: Tensor, _ norm: HeadNormalization?) throws -> Tensor {
      let normal = try norm?(x) ?? x
      return try angles?.turned(normal, heads: heads) ?? normal
    }
    return (
      try query.map { try finished($0(x), queryNorm) }, try finished(key(x), keyNorm), try value(x)
    )
  }
}

/// Divides each head by its root mean square. arXiv:2302.05442, section 2.2, with RMS norms.
struct HeadNormalization: Sendable {
  let norm: RMSNormalization
  let headSize: Int

  init(_ weights: Weights, headSize: Int) throws {
    self.headSize = headSize
    norm = try RMSNormalization(weights, channels: headSize, epsilon: 1e-6)
  }

  /// [N, T, heads * headSize].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try norm(x.reshaped([-1, headSize])).reshaped(x.shape)
  }
}
