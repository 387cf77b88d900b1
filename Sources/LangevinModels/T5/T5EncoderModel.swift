import LangevinNN
import LangevinTensor

/// The encoder of T5 (arXiv:1910.10683) and UMT5 (arXiv:2304.09151): transformers' `T5EncoderModel` and
/// `UMT5EncoderModel`.
///
/// Trained models have numbers in their residual stream, and in what the perceptrons add to it, that are past
/// float16's 65504. With float16 weights the stream is therefore kept in float32 and a perceptron's output is stored
/// as a 64th of itself: float16 suffices for this component, at half the memory of float32.
public struct T5EncoderModel: Sendable {
  /// What the encoder was built from.
  public let config: T5EncoderConfig
  let tokens: Embedding
  let layers: [T5Layer]
  let finalNorm: T5Norm
  let path: String
  let dtype: DType

  /// Loads the encoder; a decoder and its head in the same checkpoint are passed over. Throws `WeightError`.
  public init(_ config: T5EncoderConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    dtype = weights.dtype
    // The token table is stored under one of its two names, or under both.
    let table = weights.contains("shared") ? weights["shared"] : weights["encoder"]["embed_tokens"]
    tokens = try Embedding(table, count: config.vocabularySize, channels: config.hiddenSize)
    let blocks = weights["encoder"]["block"]
    layers = try (0..<config.layerCount).map { try T5Layer(config, blocks[$0], isFirst: $0 == 0) }
    finalNorm = try T5Norm(weights["encoder"]["final_layer_norm"], config)
    for unused in ["decoder", "lm_head"] { weights[unused].skip() }
    try weights.finish(ignoring: ["encoder.embed_tokens.weight"])
  }

  /// Token ids, N prompts of T tokens each -> hidden states [N, T, C], with zeros past each prompt's length: what
  /// diffusers' `WanPipeline` conditions on.
  ///
  /// Only as many tokens as the longest prompt has are computed: what is masked changes nothing else.
  ///
  /// - Parameter lengths: how many of a prompt's tokens are not padding, end token included.
  ///
  /// Throws as `hiddenStates` does.
  public func callAsFunction(_ ids: [[Int32]], lengths: [Int]) throws -> Tensor {
    try check(ids, lengths)
    let (count, longest) = (ids[0].count, lengths.max() ?? 0)
    let hidden = try hiddenStates(ids.map { Array($0.prefix(longest)) }, lengths: lengths)
    return try layer(path) {
      let prompts = try lengths.enumerated().map { index, length in
        try hidden.rows(index..<index + 1).sliced(0..<length, axis: 1)
          .padded(before: [0, 0, 0], after: [0, count - length, 0])
      }
      return try Tensor.concatenated(prompts, axis: 0)
    }
  }

  /// Token ids, N prompts of T tokens each -> hidden states [N, T, C] after the final norm, those of padding too:
  /// the reference's `last_hidden_state`.
  ///
  /// - Parameter lengths: how many of a prompt's tokens are not padding; padding is not attended to. Without it
  ///   nothing is padding.
  ///
  /// Throws `ModelError.invalidInput` for no prompts, prompts of different lengths, ids outside the vocabulary, and
  /// lengths that do not fit.
  public func hiddenStates(_ ids: [[Int32]], lengths: [Int]? = nil) throws -> Tensor {
    try check(ids, lengths)
    let (images, count) = (ids.count, ids[0].count)
    let device = tokens.table.device
    return try layer(path) {
      let buckets = try Tensor(config.buckets(length: count), [count, count], on: device)
      let padding = try lengths.map { try mask($0, count, on: device) }
      let numbers = try Tensor(ids.flatMap { $0 }, [images, count], on: device)
      var h = try tokens(numbers).cast(to: .float32)
      var bias: Tensor?
      for layer in layers {
        if let own = try layer.attention.bias(buckets) {
          bias = try shared(own, padding, images: images)
        }
        guard let bias else { preconditionFailure("the first layer has a table of relative positions") }
        h = try layer(h, bias: bias)
      }
      return try finalNorm(h).cast(to: dtype)
    }
  }

  /// The lengths that a mask [N, T] says, true for what is not padding.
  ///
  /// Throws `ModelError.invalidInput` where padding does not come after all tokens.
  public static func lengths(ofMask mask: [[Bool]]) throws -> [Int] {
    try mask.map { row in
      let length = row.prefix { $0 }.count
      guard row[length...].allSatisfy({ !$0 }) else {
        throw ModelError.invalidInput(
          model: "T5EncoderModel", reason: "the attention mask has padding before a token")
      }
      return length
    }
  }

  /// [N, 1, 1, T]: 0, and at padding the lowest number that the dtype has, as in the reference.
  private func mask(_ lengths: [Int], _ count: Int, on device: Device) throws -> Tensor {
    let lowest: Float = dtype == .float16 ? -65504 : -.greatestFiniteMagnitude
    let values = lengths.flatMap { length in (0..<count).map { $0 < length ? 0 : lowest } }
    return try Tensor(values, [lengths.count, 1, 1, count], on: device).cast(to: dtype)
  }

  /// A layer's bias [heads, T, T] and the padding's mask as one mask a head and prompt: [N * heads, T, T].
  private func shared(_ bias: Tensor, _ padding: Tensor?, images: Int) throws -> Tensor {
    let (heads, count) = (bias.shape[0], bias.shape[1])
    let whole: Shape = [images, heads, count, count]
    let perHead = try bias.reshaped([1, heads, count, count])
    return try (padding.map { try perHead + $0 } ?? perHead.broadcast(to: whole))
      .reshaped([images * heads, count, count])
  }

  private func check(_ ids: [[Int32]], _ lengths: [Int]?) throws {
    func fail(_ reason: String) -> ModelError {
      .invalidInput(model: config.name + "EncoderModel", reason: reason)
    }
    guard let count = ids.first?.count, count > 0 else { throw fail("there are no tokens") }
    guard ids.allSatisfy({ $0.count == count }) else { throw fail("the prompts differ in length") }
    if let id = ids.joined().first(where: { $0 < 0 || $0 >= config.vocabularySize }) {
      throw fail("token \(id) is not in the model's vocabulary of \(config.vocabularySize)")
    }
    guard let lengths else { return }
    guard lengths.count == ids.count else {
      throw fail("there are \(lengths.count) lengths for \(ids.count) prompts")
    }
    if let length = lengths.first(where: { $0 < 1 || $0 > count }) {
      throw fail("a prompt of \(count) tokens cannot have length \(length)")
    }
  }
}

/// Self-attention and a perceptron, each normalised before and added after.
struct T5Layer: Sendable {
  let norm1: T5Norm
  let attention: T5Attention
  let norm2: T5Norm
  let perceptron: T5Perceptron
  let path: String

  init(_ config: T5EncoderConfig, _ weights: Weights, isFirst: Bool) throws {
    path = weights.layerPath
    let (first, second) = (weights["layer"][0], weights["layer"][1])
    norm1 = try T5Norm(first["layer_norm"], config)
    attention = try T5Attention(
      config, first["SelfAttention"], hasBias: config.biasInEachLayer || isFirst)
    norm2 = try T5Norm(second["layer_norm"], config)
    perceptron = try T5Perceptron(config, second["DenseReluDense"])
  }

  /// float32 [N, T, C] -> float32 [N, T, C]; the bias is [N * heads, T, T].
  func callAsFunction(_ x: Tensor, bias: Tensor) throws -> Tensor {
    try layer(path) {
      let h = try x + attention(norm1(x), bias: bias)
      return try perceptron(norm2(h), residual: h)
    }
  }
}

/// Divides by the root of the mean square, in float32.
struct T5Norm: Sendable {
  let gamma: Tensor
  let epsilon: Float
  let path: String

  init(_ weights: Weights, _ config: T5EncoderConfig) throws {
    path = weights.layerPath
    gamma = try weights.tensor("weight", [config.hiddenSize]).cast(to: .float32)
    epsilon = config.epsilon
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) { try x.rmsNorm(gamma, epsilon: epsilon) }
  }
}

/// Attention whose scores are not scaled, with a bias for each head and distance between query and key.
struct T5Attention: Sendable {
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  /// The bias of each bucket of distances, [buckets, heads].
  let table: Tensor?
  let heads: Int
  let dtype: DType
  let path: String

  init(_ config: T5EncoderConfig, _ weights: Weights, hasBias: Bool) throws {
    path = weights.layerPath
    dtype = weights.dtype
    heads = config.headCount
    let (channels, inner) = (config.hiddenSize, config.headCount * config.headSize)
    query = try Linear(weights["q"], inputs: channels, outputs: inner, bias: false)
    key = try Linear(weights["k"], inputs: channels, outputs: inner, bias: false)
    value = try Linear(weights["v"], inputs: channels, outputs: inner, bias: false)
    output = try Linear(weights["o"], inputs: inner, outputs: channels, bias: false)
    table =
      hasBias
      ? try weights.tensor("relative_attention_bias.weight", [config.bucketCount, heads]) : nil
  }

  /// Buckets [T, T] -> [heads, T, T]; nil where an earlier layer's bias serves.
  func bias(_ buckets: Tensor) throws -> Tensor? {
    guard let table else { return nil }
    return try layer(path) { try table.embedding(buckets).transposed([2, 0, 1]) }
  }

  /// float32 [N, T, C] -> float32 [N, T, C]. A mask is one for all heads, so here every head is an image.
  func callAsFunction(_ x: Tensor, bias: Tensor) throws -> Tensor {
    try layer(path) {
      let x = try x.cast(to: dtype)
      let (images, count) = (x.shape[0], x.shape[1])
      func split(_ projected: Tensor) throws -> Tensor {
        try projected.reshaped([images, count, heads, -1]).transposed([0, 2, 1, 3])
          .reshaped([images * heads, count, -1])
      }
      let mixed = try split(query(x)).attention(
        keys: split(key(x)), values: split(value(x)), heads: 1, scale: 1, mask: bias)
      let joined = try mixed.reshaped([images, heads, count, -1]).transposed([0, 2, 1, 3])
        .reshaped([images, count, -1])
      return try output(joined).cast(to: .float32)
    }
  }
}

/// Two products with a nonlinearity between them, which a third may gate.
struct T5Perceptron: Sendable {
  let expand: Weight
  let gate: Weight?
  let contract: Weight
  let nonlinearity: T5EncoderConfig.Nonlinearity
  /// Of what is stored in float16 on the way to the residual, which is float32.
  let scale: Float
  let dtype: DType
  let path: String

  init(_ config: T5EncoderConfig, _ weights: Weights) throws {
    path = weights.layerPath
    dtype = weights.dtype
    scale = dtype == .float16 ? 1 / 64 : 1
    nonlinearity = config.nonlinearity
    let (channels, inner) = (config.hiddenSize, config.intermediateSize)
    func linear(_ name: String) throws -> Weight {
      try weights[name].linear(inputs: channels, outputs: inner)
    }
    expand = try linear(config.isGated ? "wi_0" : "wi")
    gate = config.isGated ? try linear("wi_1") : nil
    contract = try weights["wo"].linear(inputs: inner, outputs: channels)
  }

  /// float32 [N, T, C] and its residual -> float32 [N, T, C].
  func callAsFunction(_ x: Tensor, residual: Tensor) throws -> Tensor {
    try layer(path) {
      let x = try x.cast(to: dtype)
      var hidden: Tensor
      switch nonlinearity {
      case .relu: hidden = try x.matmul(expand).clamped(0, .greatestFiniteMagnitude)
      case .activation(let function): hidden = try x.matmul(expand, activation: function)
      }
      if let gate { hidden = try hidden * x.matmul(gate, scale: scale) }
      let sum = try hidden.matmul(contract, scale: gate == nil ? scale : 1)
      return try Tensor.combination([(1, residual), (1 / scale, sum.cast(to: .float32))])
    }
  }
}
