import LangevinNN
import LangevinTensor

/// CLIP's text encoder. arXiv:2103.00020.
public struct CLIPTextModel: Sendable {
  /// What the encoder was built from.
  public let config: CLIPTextConfig
  let tokens: Embedding
  let positions: Tensor
  let layers: [CLIPEncoderLayer]
  let finalNorm: LayerNormalization
  let path: String

  /// What a prompt becomes.
  public struct Output: Sendable {
    /// After the final layer norm [N, T, C].
    public let lastHiddenState: Tensor
    /// Its vector at the end-of-text token [N, C].
    public let pooled: Tensor
  }

  /// Loads the encoder; keys may begin with `text_model.` or not. Throws `WeightError`.
  public init(_ config: CLIPTextConfig, _ weights: Weights) throws {
    self.config = config
    path = weights.layerPath
    let root = weights.contains("text_model") ? weights["text_model"] : weights
    tokens = try Embedding(
      root["embeddings"]["token_embedding"], count: config.vocabularySize, channels: config.hiddenSize)
    positions = try root["embeddings"].tensor(
      "position_embedding.weight", [config.maxPositions, config.hiddenSize])
    layers = try (0..<config.layerCount).map { try CLIPEncoderLayer(config, root["encoder"]["layers"][$0]) }
    finalNorm = try LayerNormalization(
      root["final_layer_norm"], channels: config.hiddenSize, epsilon: config.layerNormEpsilon)
    try weights.finish(ignoring: ["text_model.embeddings.position_ids", "embeddings.position_ids"])
  }

  /// Token ids, N prompts of T tokens each -> hidden states and pooled vectors.
  ///
  /// Throws `ModelError.invalidInput` for prompts of different lengths, for more tokens than the model has
  /// positions, for ids outside the vocabulary and for a prompt without its end-of-text token.
  public func callAsFunction(_ ids: [[Int32]]) throws -> Output {
    let hidden = try hiddenStates(ids)
    let length = ids[0].count
    let rows = try ids.enumerated().map { Int32($0 * length + (try endOfText($1))) }
    let flat = try hidden.reshaped([ids.count * length, config.hiddenSize])
    let pooled = try layer(path) { try flat.embedding(Tensor(rows, [rows.count], on: flat.device)) }
    return Output(lastHiddenState: hidden, pooled: pooled)
  }

  /// Hidden states [N, T, C] after the final layer norm, without running the last `skipLast` layers: 1 gives
  /// the penultimate layer's, as Stable Diffusion 2 uses. Throws as calling the model does.
  public func hiddenStates(_ ids: [[Int32]], skipLast: Int = 0) throws -> Tensor {
    try check(ids)
    guard skipLast >= 0, skipLast < layers.count else {
      throw ModelError.invalidInput(
        model: "CLIPTextModel", reason: "cannot skip \(skipLast) of \(layers.count) layers")
    }
    let length = ids[0].count
    let numbers = try Tensor(ids.flatMap { $0 }, [ids.count, length], on: tokens.table.device)
    return try layer(path) {
      var h = try tokens(numbers) + positions.rows(0..<length)
      for layer in layers.dropLast(skipLast) { h = try layer(h) }
      return try finalNorm(h)
    }
  }

  private func check(_ ids: [[Int32]]) throws {
    func fail(_ reason: String) -> ModelError { .invalidInput(model: "CLIPTextModel", reason: reason) }
    guard let length = ids.first?.count, length > 0 else { throw fail("there are no tokens") }
    guard ids.allSatisfy({ $0.count == length }) else { throw fail("the prompts differ in length") }
    guard length <= config.maxPositions else {
      throw fail("\(length) tokens are more than the model's \(config.maxPositions) positions")
    }
    if let id = ids.joined().first(where: { $0 < 0 || $0 >= config.vocabularySize }) {
      throw fail("token \(id) is not in the model's vocabulary of \(config.vocabularySize)")
    }
  }

  /// The first end-of-text token; in old files, whose config names it wrongly, the first largest id.
  private func endOfText(_ prompt: [Int32]) throws -> Int {
    let token = config.endOfTextToken == 2 ? prompt.max() : Int32(config.endOfTextToken)
    guard let position = prompt.firstIndex(where: { $0 == token }) else {
      throw ModelError.invalidInput(
        model: "CLIPTextModel", reason: "a prompt has no end-of-text token (\(config.endOfTextToken))")
    }
    return position
  }
}

/// Causal self-attention and a perceptron, each normalised before and added after.
struct CLIPEncoderLayer: Sendable {
  let norm1: LayerNormalization
  let attention: MultiHeadAttention
  let norm2: LayerNormalization
  let expand: Linear
  let contract: Linear
  let activation: Activation
  let path: String

  init(_ config: CLIPTextConfig, _ weights: Weights) throws {
    path = weights.layerPath
    let (channels, epsilon) = (config.hiddenSize, config.layerNormEpsilon)
    norm1 = try LayerNormalization(weights["layer_norm1"], channels: channels, epsilon: epsilon)
    attention = try MultiHeadAttention(
      weights["self_attn"], channels: channels, heads: config.headCount, bias: true, names: .transformers)
    norm2 = try LayerNormalization(weights["layer_norm2"], channels: channels, epsilon: epsilon)
    expand = try Linear(weights["mlp"]["fc1"], inputs: channels, outputs: config.intermediateSize)
    contract = try Linear(weights["mlp"]["fc2"], inputs: config.intermediateSize, outputs: channels)
    activation = config.activation
  }

  /// [N, T, C] -> [N, T, C].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layer(path) {
      let h = try attention(norm1(x), causal: true, residual: x)
      return try contract(expand(norm2(h), activation: activation), residual: h)
    }
  }
}
