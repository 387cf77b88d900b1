import LangevinModels
import LangevinNN
import LangevinTensor

/// What a text encoder with its projection says of captions, each made when it is first needed and kept on the host.
struct ProjectedTexts: Sendable {
  let config: CLIPTextConfig
  let tokenizer: CLIPTokenizer
  /// Tokens T of a caption.
  let length: Int
  private let encoder: CLIPTextModelWithProjection
  private let device: Device
  private let kept: BoundedCache<String, Row>

  private struct Row: Sendable {
    var embedding, hidden: [Float]
    /// Start, text and end.
    var visible: Int
  }

  init(_ stage: ProjectedTextStage, on device: Device, cacheBytes: Int) throws {
    (config, tokenizer, self.device) = (stage.config, stage.tokenizer, device)
    length = min(tokenizer.maximumLength, config.maxPositions)
    encoder = try CLIPTextModelWithProjection(
      config, Weights(stage.component.weights, on: device, component: "text_encoder"))
    kept = BoundedCache(limit: cacheBytes)
  }

  /// Embeddings [N, D], hidden states [N, T, C], float32, and which of the tokens are no padding.
  func callAsFunction(_ captions: [String]) throws -> ProjectedTextStage.Output {
    let rows = try captions.map { caption in
      try kept.value(for: caption, byteCount: { ($0.embedding.count + $0.hidden.count) * 4 }) {
        let sequence = tokenizer(caption, length: length)
        let output = try encoder([sequence.ids])
        return Row(
          embedding: try output.textEmbeds.floats(), hidden: try output.text.lastHiddenState.floats(),
          visible: sequence.textCount + 2)
      }
    }
    return ProjectedTextStage.Output(
      embeddings: try Tensor(rows.flatMap(\.embedding), [rows.count, config.projectionSize], on: device),
      hidden: try Tensor(rows.flatMap(\.hidden), [rows.count, length, config.hiddenSize], on: device),
      visible: rows.map { row in (0..<length).map { $0 < row.visible } })
  }
}
