import LangevinModels
import LangevinNN
import LangevinTensor
import LangevinTraining

/// Captions as a UNet looks at them: the states of a CLIP text encoder, which learns along, or whose states are kept.
struct CaptionEncoder: Sendable {
  let component: Checkpoint.Component
  let config: CLIPTextConfig
  let tokenizer: CLIPTokenizer
  private let device: Device
  /// Nil where the encoder is trained.
  private let frozen: CLIPTextModel?
  private let kept: BoundedCache<String, [Float]>

  init(_ context: TaskContext, _ checkpoint: Checkpoint, isTrained: Bool, cacheBytes: Int) throws {
    component = try isTrained ? context.component("text_encoder") : checkpoint.textEncoder
    config = try CLIPTextConfig(component.configuration)
    tokenizer = try checkpoint.tokenizer.load()
    device = context.device
    frozen =
      try isTrained
      ? nil : CLIPTextModel(config, Weights(component.weights, on: device, component: "text_encoder"))
    kept = BoundedCache(limit: cacheBytes)
  }

  /// Tokens of a caption.
  var length: Int { min(tokenizer.maximumLength, config.maxPositions) }

  func network(rateScale: Float) -> TrainedNetwork {
    let config = config
    return TrainedNetwork("text_encoder", start: component.weights, rateScale: rateScale) {
      _ = try CLIPTextModel(config, $0)
    }
  }

  /// [N, T, C]; with `weights` by an encoder that is built from them.
  func states(of captions: [String], _ weights: Weights?) throws -> Tensor {
    if let weights {
      let ids = captions.map { tokenizer($0, length: length).ids }
      return try CLIPTextModel(config, weights)(ids).lastHiddenState
    }
    let states = try captions.map { caption in
      try kept.value(for: caption, byteCount: { $0.count * 4 }) {
        guard let frozen else { preconditionFailure("a trained encoder's states are not kept") }
        return try frozen([tokenizer(caption, length: length).ids]).lastHiddenState.floats()
      }
    }
    return try Tensor(states.flatMap { $0 }, [captions.count, length, config.hiddenSize], on: device)
  }

  /// Says how many captions are longer than the encoder reads, with one of them.
  func noticeCutCaptions(of data: any TrainingData, _ notice: (String) -> Void) {
    tokenizer.noticeCutCaptions(of: data, length: length, notice)
  }
}

extension CLIPTokenizer {
  /// Says how many captions have more than `length` tokens, with one of them.
  func noticeCutCaptions(of data: any TrainingData, length: Int, _ notice: (String) -> Void) {
    let captions = Set(data.pictures.flatMap { $0.captions.map(\.text) }).sorted()
    let cut = captions.filter { self($0, length: length).truncated != nil }
    guard let first = cut.first else { return }
    notice(
      "\(cut.count) of \(captions.count) captions are longer than the text encoder's \(length) tokens and are cut, "
        + "as '\(first)'")
  }
}
