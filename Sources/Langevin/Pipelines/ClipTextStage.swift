import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A tokenizer and a CLIP text encoder of a checkpoint, as Stable Diffusion 1.x, 2.x and XL use them.
public struct ClipTextStage: Sendable {
  /// What the denoiser gets to see.
  public enum Layer: Sendable { case last, penultimate }

  /// What a prompt became.
  public struct Encoded: Sendable {
    /// [1, chunks T, C].
    public var states: Tensor
    /// Of the first chunk [1, P]; nil without a projection, unless it was asked for.
    public var pooled: Tensor?
  }

  /// In the checkpoint: `text_encoder`.
  let name: String
  let component: Checkpoint.Component
  let config: CLIPTextConfig
  let tokenizer: CLIPTokenizer
  let dtype: DType

  /// By the names of model_index.json. Throws `CheckpointError`, `ModelError`, `TokenizerError`.
  public init(
    _ checkpoint: Checkpoint, _ name: String = "text_encoder", tokenizer: String = "tokenizer",
    precision: DType
  ) throws {
    self.name = name
    component = try checkpoint.component(name)
    config = try CLIPTextConfig(component.configuration)
    self.tokenizer = try checkpoint.tokenizer(named: tokenizer).load()
    dtype = precision
  }

  /// For people: `text encoder 2`.
  private var title: String { name.replacing("_", with: " ") }

  /// Encodes prompts, each beside its negative, where the shorter of the two is filled up to the longer in chunks; the
  /// encoder is freed.
  ///
  /// `pooling` an encoder without a projection gives the vectors at the prompts' ends as they are.
  ///
  /// Throws `WeightError`, `TensorError`, `GenerationError.nonFinite`.
  public func encode(
    _ prompts: [Conditioned<String>], _ layer: Layer, pooling: Bool = false, _ run: GenerationRun
  ) throws -> [Conditioned<Encoded>] {
    let length = min(tokenizer.maximumLength, config.maxPositions)
    let chunks = try prompts.map { prompt in
      try prompt.map { text in
        let chunks = try tokenizer.chunks(text, run.request.promptSyntax, length: length)
        if let rest = chunks.truncated { try run.reportTruncated(text, rest: rest) }
        return chunks
      }
    }
    let weights = Weights(component.weights, on: run.device, as: dtype, component: name)
    let model = try run.load(title) { try load(weights, pooling: pooling) }
    return try chunks.map { prompt in
      let encoded = try encode(prompt.all, length: length, layer, model, run)
      return Conditioned(encoded[encoded.count - 1], negative: encoded.count > 1 ? encoded[0] : nil)
    }
  }

  /// The states of two encoders beside each other, [1, T, C + C'].
  ///
  /// Throws `GenerationError` where they have not as many tokens: their tokenizers should differ in padding alone.
  static func joined(_ first: Encoded, _ second: Encoded) throws -> Tensor {
    let (a, b) = (first.states, second.states)
    guard a.shape[1] == b.shape[1] else {
      throw GenerationError.badRequest(
        "the prompt is \(a.shape[1]) tokens for the first text encoder and \(b.shape[1]) for the second")
    }
    return try Tensor.concatenated([a, b], axis: -1)
  }

  private typealias Model = (_ ids: [[Int32]]) throws -> (text: CLIPTextModel.Output, embeds: Tensor?)

  private func load(_ weights: Weights, pooling: Bool) throws -> Model {
    guard component.className == "CLIPTextModelWithProjection" else {
      let model = try CLIPTextModel(config, weights)
      return { ids in
        let output = try model(ids)
        return (output, pooling ? try model.pooled(output.lastHiddenState, of: ids) : nil)
      }
    }
    let model = try CLIPTextModelWithProjection(config, weights)
    return { ids in
      let output = try model(ids)
      return (output.text, output.textEmbeds)
    }
  }

  private func encode(
    _ row: [PromptChunks], length: Int, _ layer: Layer, _ model: Model, _ run: GenerationRun
  ) throws -> [Encoded] {
    let count = row.map(\.ids.count).max() ?? 1
    let padded = row.map { prompt -> PromptChunks in
      var prompt = prompt
      while prompt.ids.count < count {
        prompt.ids.append(tokenizer.emptyChunk(length: length))
        prompt.weights.append([Float](repeating: 1, count: length))
      }
      return prompt
    }
    var embeds: Tensor?
    let states = try run.compute(title, "the \(title)") {
      let output = try model(padded.flatMap(\.ids))
      embeds = output.embeds
      let states = layer == .last ? output.text.lastHiddenState : output.text.hiddenState
      return try padded.contains(where: \.isWeighted)
        ? weighted(states, padded.flatMap { $0.weights.joined() }) : states
    }
    let rows = try states.reshaped([row.count, count * length, states.shape[2]])
    return try row.indices.map { prompt in
      Encoded(
        states: try rows.rows(prompt..<prompt + 1),
        pooled: try embeds?.rows(prompt * count..<prompt * count + 1))
    }
  }

  /// Each token's vector times its weight, then the mean of each chunk brought back to what it was: A1111's
  /// emphasis. [chunks, T, C].
  private func weighted(_ states: Tensor, _ weights: [Float]) throws -> Tensor {
    let single = try states.cast(to: .float32)
    let scaled = try single * Tensor(weights, [states.shape[0], states.shape[1], 1], on: states.device)
    let (before, after) = (try single.reduced(.mean, axes: [1, 2]), try scaled.reduced(.mean, axes: [1, 2]))
    return try (scaled * (before / after)).cast(to: states.dtype)
  }
}
