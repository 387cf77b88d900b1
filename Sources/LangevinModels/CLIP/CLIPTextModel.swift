import LangevinNN
import LangevinTensor

/// CLIP's text encoder. arXiv:2103.00020.
public struct CLIPTextModel: Sendable {
  /// What the encoder was built from.
  public let config: CLIPTextConfig
  let tokens: Embedding
  let positions: Tensor
  let encoder: CLIPEncoder
  let finalNorm: LayerNormalization
  let path: String

  /// What a prompt becomes.
  public struct Output: Sendable {
    /// After the final layer norm [N, T, C].
    public let lastHiddenState: Tensor
    /// Before the last `skipLast` layers and without the final layer norm [N, T, C]: transformers'
    /// `hidden_states[-1 - skipLast]`. Stable Diffusion XL is conditioned on `[-2]`.
    public let hiddenState: Tensor
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
    encoder = try CLIPEncoder(config.layers, causal: true, root["encoder"])
    finalNorm = try LayerNormalization(
      root["final_layer_norm"], channels: config.hiddenSize, epsilon: config.layerNormEpsilon)
    try weights.finish(ignoring: ["text_model.embeddings.position_ids", "embeddings.position_ids"])
  }

  /// Token ids, N prompts of T tokens each -> hidden states.
  ///
  /// `hiddenState` of the output is that before the last `skipLast` layers, at most all of them. Throws
  /// `ModelError.invalidInput` for prompts of different lengths, for more tokens than the model has positions and for
  /// ids outside the vocabulary.
  public func callAsFunction(_ ids: [[Int32]], skipLast: Int = 1) throws -> Output {
    try check(ids)
    try encoder.check(skipLast: skipLast, model: "CLIPTextModel")
    return try layer(path) {
      let states = try encoder(embed(ids), keeping: skipLast)
      return Output(lastHiddenState: try finalNorm(states.last), hiddenState: states.kept)
    }
  }

  /// The vectors of `lastHiddenState` [N, T, C] at the prompts' end-of-text tokens, [N, C].
  ///
  /// Throws `ModelError.invalidInput` for a prompt that has none, which the hidden states alone do not need.
  public func pooled(_ states: Tensor, of ids: [[Int32]]) throws -> Tensor {
    let length = states.shape[1]
    let rows = try ids.enumerated().map { Int32($0 * length + (try endOfText($1))) }
    let flat = try states.reshaped([ids.count * length, config.hiddenSize])
    return try layer(path) { try flat.embedding(Tensor(rows, [rows.count], on: flat.device)) }
  }

  /// Hidden states [N, T, C] after the final layer norm, without running the last `skipLast` layers: 1 gives the
  /// penultimate layer's, as Stable Diffusion 2 uses. Throws as calling the model does.
  public func hiddenStates(_ ids: [[Int32]], skipLast: Int = 0) throws -> Tensor {
    try check(ids)
    try encoder.check(skipLast: skipLast, model: "CLIPTextModel")
    return try layer(path) { try finalNorm(encoder(embed(ids), skipLast: skipLast)) }
  }

  private func embed(_ ids: [[Int32]]) throws -> Tensor {
    let length = ids[0].count
    let numbers = try Tensor(ids.flatMap { $0 }, [ids.count, length], on: tokens.table.device)
    return try tokens(numbers) + positions.rows(0..<length)
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

/// The text encoder and the projection of its pooled vectors: Stable Diffusion XL's second encoder, and unCLIP's.
public struct CLIPTextModelWithProjection: Sendable {
  /// The encoder without its projection.
  public let text: CLIPTextModel
  let projection: Linear

  /// What a prompt becomes.
  public struct Output: Sendable {
    /// [N, projectionSize], not normalised.
    public let textEmbeds: Tensor
    /// What the encoder returns before the projection.
    public let text: CLIPTextModel.Output
  }

  /// Loads `text_model.…` and `text_projection`. Throws `WeightError`.
  public init(_ config: CLIPTextConfig, _ weights: Weights) throws {
    text = try CLIPTextModel(config, weights["text_model"])
    projection = try Linear(
      weights["text_projection"], inputs: config.hiddenSize, outputs: config.projectionSize, bias: false)
    try weights.finish(ignoring: ["text_model.embeddings.position_ids"])
  }

  /// As calling the encoder; a prompt without its end-of-text token throws too.
  public func callAsFunction(_ ids: [[Int32]], skipLast: Int = 1) throws -> Output {
    let output = try text(ids, skipLast: skipLast)
    return Output(textEmbeds: try projection(text.pooled(output.lastHiddenState, of: ids)), text: output)
  }
}
