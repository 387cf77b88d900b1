import LangevinModels
import LangevinNN
import LangevinTensor

/// A tokenizer and a CLIP text encoder of a checkpoint, as Stable Diffusion 1.x, 2.x and XL use them.
struct ClipTextStage: Sendable {
  /// What the denoiser gets to see.
  enum Layer { case last, penultimate }

  /// What a row of prompts became.
  struct Encoded {
    /// [prompts of the row, chunks T, C].
    var states: Tensor
    /// Of each prompt's first chunk [prompts of the row, P]; nil without a projection.
    var pooled: Tensor?
  }

  /// In the checkpoint: `text_encoder`.
  let name: String
  let component: Checkpoint.Component
  let config: CLIPTextConfig
  let tokenizer: CLIPTokenizer

  init(_ checkpoint: Checkpoint, _ name: String = "text_encoder", tokenizer: String = "tokenizer") throws {
    self.name = name
    component = try checkpoint.component(name)
    config = try CLIPTextConfig(component.configuration)
    self.tokenizer = try checkpoint.tokenizer(named: tokenizer).load()
  }

  /// For people: `text encoder 2`.
  private var title: String { name.replacing("_", with: " ") }

  /// Encodes rows of prompts, such as (negative, prompt), which are filled up to the longest in chunks; the
  /// encoder is let go.
  func encode(_ rows: [[String]], _ layer: Layer, as dtype: DType, _ run: GenerationRun) throws -> [Encoded] {
    let length = min(tokenizer.maximumLength, config.maxPositions)
    var told: Set<String> = []
    let chunks = try rows.map { row in
      try row.map { prompt in
        let chunks = try tokenizer.chunks(prompt, run.request.promptSyntax, length: length)
        if let rest = chunks.truncated, told.insert(prompt).inserted {
          try run.report(.truncated(prompt: prompt, rest: rest))
        }
        return chunks
      }
    }
    let weights = Weights(component.weights, on: run.device, as: dtype, component: name)
    let model = try run.load(title) { try load(weights) }
    return try chunks.map { try encode($0, length: length, layer, model, run) }
  }

  private typealias Model = (_ ids: [[Int32]]) throws -> (text: CLIPTextModel.Output, embeds: Tensor?)

  private func load(_ weights: Weights) throws -> Model {
    guard component.className == "CLIPTextModelWithProjection" else {
      let model = try CLIPTextModel(config, weights)
      return { ids in (try model(ids), nil) }
    }
    let model = try CLIPTextModelWithProjection(config, weights)
    return { ids in
      let output = try model(ids)
      return (output.text, output.textEmbeds)
    }
  }

  private func encode(
    _ row: [PromptChunks], length: Int, _ layer: Layer, _ model: Model, _ run: GenerationRun
  ) throws -> Encoded {
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
    let pooled = try embeds.map { embeds in
      try Tensor.concatenated(row.indices.map { try embeds.rows($0 * count..<$0 * count + 1) }, axis: 0)
    }
    return Encoded(
      states: try states.reshaped([row.count, count * length, states.shape[2]]), pooled: pooled)
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
