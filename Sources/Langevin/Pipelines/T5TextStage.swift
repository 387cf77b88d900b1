import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A tokenizer and a T5 encoder of a checkpoint, as Stable Diffusion 3, FLUX and WAN use them.
struct T5TextStage: Sendable {
  /// What becomes of the tokens behind a prompt's end.
  enum Padding {
    /// They are encoded and looked at as words are.
    case encoded
    /// They are not looked at, and zeros stand in the place of their states.
    case zero
  }

  /// In the checkpoint: `text_encoder_3`.
  let name: String
  let component: Checkpoint.Component
  let config: T5EncoderConfig
  let tokenizer: T5Tokenizer
  let dtype: DType

  /// By the names of model_index.json. Throws `CheckpointError`, `ModelError`, `TokenizerError`.
  init(_ checkpoint: Checkpoint, _ name: String, tokenizer: String, precision: DType) throws {
    self.name = name
    component = try checkpoint.component(name)
    config = try T5EncoderConfig(component.configuration)
    guard case .folder(let folder) = try checkpoint.tokenizer(named: tokenizer) else {
      throw CheckpointError.missingComponent(path: checkpoint.url.path, name: tokenizer)
    }
    self.tokenizer = try T5Tokenizer(folder: folder)
    dtype = precision
  }

  /// Encodes prompts, cleaned, to `length` tokens each, [1, length, C]; the encoder is freed.
  ///
  /// Throws `WeightError`, `TensorError`, `GenerationError.nonFinite`.
  func encode(
    _ prompts: [Conditioned<String>], length: Int, padding: Padding = .encoded,
    cleaning: (String) -> String = { $0 }, _ run: GenerationRun
  ) throws -> [Conditioned<Tensor>] {
    let title = name.replacing("_", with: " ")
    let sequences = try prompts.map { prompt in
      try prompt.map { text in
        let sequence = tokenizer(cleaning(text), length: length)
        if let rest = sequence.truncated { try run.reportTruncated(text, rest: rest) }
        return sequence
      }
    }
    let weights = Weights(component.weights, on: run.device, as: dtype, component: name)
    let model = try run.load(title) { try T5EncoderModel(config, weights) }
    // Many prompts may have one negative.
    var known: [[Int32]: Tensor] = [:]
    func states(_ sequence: T5Tokenizer.Sequence) throws -> Tensor {
      let ids = sequence.ids
      if let states = known[ids] { return states }
      let states = try run.compute(title, "the \(title)") {
        padding == .zero ? try model([ids], lengths: [sequence.length]) : try model.hiddenStates([ids])
      }
      known[ids] = states
      return states
    }
    return try sequences.map { try $0.map(states) }
  }
}
