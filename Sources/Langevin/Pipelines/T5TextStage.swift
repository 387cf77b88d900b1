import LangevinDiffusion
import LangevinModels
import LangevinNN
import LangevinTensor

/// A tokenizer and a T5 encoder of a checkpoint, as Stable Diffusion 3 and FLUX use them: padding is encoded and looked at
/// as words are.
struct T5TextStage: Sendable {
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

  /// Encodes prompts to `length` tokens each, [1, length, C]; the encoder is freed.
  ///
  /// Throws `WeightError`, `TensorError`, `GenerationError.nonFinite`.
  func encode(_ prompts: [Conditioned<String>], length: Int, _ run: GenerationRun) throws
    -> [Conditioned<Tensor>]
  {
    let title = name.replacing("_", with: " ")
    let sequences = try prompts.map { prompt in
      try prompt.map { text in
        let sequence = tokenizer(text, length: length)
        if let rest = sequence.truncated { try run.reportTruncated(text, rest: rest) }
        return sequence.ids
      }
    }
    let weights = Weights(component.weights, on: run.device, as: dtype, component: name)
    let model = try run.load(title) { try T5EncoderModel(config, weights) }
    // Many prompts may have one negative.
    var known: [[Int32]: Tensor] = [:]
    func states(_ ids: [Int32]) throws -> Tensor {
      if let states = known[ids] { return states }
      let states = try run.compute(title, "the \(title)") { try model.hiddenStates([ids]) }
      known[ids] = states
      return states
    }
    return try sequences.map { try $0.map(states) }
  }
}
