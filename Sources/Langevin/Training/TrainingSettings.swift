import LangevinDiffusion
import LangevinJSON
import LangevinTensor
import LangevinTraining

/// What every task can be told, under the keys of train.json.
///
/// A key of the file is the name here in snake case, and an option of the command is the same in kebab case.
public struct TrainingSettings: Codable, Sendable, Equatable {
  /// `clip`, `autoencoder`, `diffusion`, ...
  public var task = ""
  /// The folder of the model to start from.
  public var model: String?
  /// Folders of pictures, or tar files.
  public var data: [String] = []
  /// The column of metadata.jsonl that holds captions.
  public var captionColumn: String?
  /// Whether broken pictures are left out.
  public var skipBroken = false
  /// Of everything random.
  public var seed: UInt64 = 0
  /// Samples of a step.
  public var batch = 16
  /// Parts in which a batch is computed.
  public var accumulation = 1
  /// Steps of the run.
  public var steps = 1000
  /// The highest rate.
  public var learningRate = 1e-4
  /// Steps that lead up to it.
  public var warmUp = 0
  /// What the rate does afterwards.
  public var schedule = LearningRate.Shape.constant
  /// Which part of all steps goes down to zero, for `linear-cooldown`.
  public var cooldown = 0.2
  /// AdamW's memory of gradients.
  public var beta1 = 0.9
  /// AdamW's memory of their squares.
  public var beta2 = 0.999
  /// AdamW's smallest divisor.
  public var epsilon = 1e-8
  /// AdamW's decay.
  public var weightDecay = 0.01
  /// Gradients are shortened to this length; 0 leaves them.
  public var maxGradNorm = 1.0
  /// How much of the average of the weights stays in the long run; 0 keeps none.
  public var ema = 0.0
  /// `f32`, `f16` or `bf16`.
  public var precision = "f32"
  /// Whether blocks are computed a second time instead of being kept.
  public var recompute = false
  /// In pixels; nil is what the model was made for.
  public var width: Int?
  /// In pixels.
  public var height: Int?
  /// Pixels of white around each picture, by which crops move.
  public var padding = 0
  /// Places of a crop along each axis; nil is any.
  public var places: Int?
  /// Whether half of the pictures are mirrored.
  public var mirror = false
  /// Steps between pictures of what the model can do; 0 draws none.
  public var sampleEvery = 500
  /// A safetensors file whose pictures, captions, timesteps and noise are taken instead of any that are drawn; see
  /// `TrainingReplay`.
  public var replay: String?
  /// Minutes between states.
  public var checkpointMinutes = 10.0

  /// The defaults.
  public init() {}

  /// How the trainer goes about it. Throws `SettingsError` for a value that no run can have.
  public func trainer() throws -> TrainerSettings {
    func require(_ condition: Bool, _ key: String, _ expected: String) throws {
      if !condition { throw SettingsError.value(key: key, expected: expected) }
    }
    // So that the numbers of samples are far from what an integer holds.
    try require((1...1_000_000_000).contains(steps), "steps", "1 to 1000000000")
    try require((1...1_000_000).contains(batch), "batch", "1 to 1000000")
    try require((1...1_000_000).contains(accumulation), "accumulation", "1 to 1000000")
    try require(learningRate > 0 && learningRate <= 10, "learning_rate", "above 0 and at most 10")
    try require((0...1_000_000_000).contains(warmUp), "warm_up", "0 to 1000000000")
    try require((0...1).contains(cooldown), "cooldown", "0 to 1")
    try require((0..<1).contains(beta1), "beta1", "0 to below 1")
    try require((0..<1).contains(beta2), "beta2", "0 to below 1")
    try require(epsilon > 0, "epsilon", "above 0")
    try require(weightDecay >= 0, "weight_decay", "0 or more")
    try require(maxGradNorm >= 0, "max_grad_norm", "0 or more")
    try require((0..<1).contains(ema), "ema", "0 to below 1")
    try require(checkpointMinutes > 0, "checkpoint_minutes", "above 0")
    try require(sampleEvery >= 0, "sample_every", "0 or more")
    let rate = LearningRate(
      base: learningRate, warmUp: warmUp, total: steps, shape: schedule, cooldown: cooldown)
    var result = TrainerSettings(batch: batch, rate: rate)
    result.accumulation = accumulation
    (result.beta1, result.beta2) = (Float(beta1), Float(beta2))
    (result.epsilon, result.weightDecay) = (Float(epsilon), Float(weightDecay))
    result.maxGradientNorm = maxGradNorm > 0 ? Float(maxGradNorm) : nil
    result.averaging = Float(ema)
    result.recomputes = recompute
    switch precision {
    case "f32": result.precision = .float32
    case "f16": result.precision = .float16
    case "bf16": result.precision = .bfloat16
    default: throw SettingsError.value(key: "precision", expected: "f32, f16 or bf16")
    }
    return result
  }
}

/// What is wrong with the settings of a run.
public enum SettingsError: Error, Sendable, Equatable, CustomStringConvertible {
  /// No task reads this key of a file.
  case unknown(key: String, path: String, known: [String])
  /// A value that cannot be; with the file that has it, where it comes from one.
  case value(key: String, expected: String, path: String? = nil)
  /// A key without which a task cannot start.
  case missing(key: String)
  /// A resumed run cannot take another value.
  case fixed(key: String)
  /// A file that is no object of settings.
  case malformed(path: String, reason: String)

  /// One line that says what to do.
  public var description: String { text.printable }

  private var text: String {
    switch self {
    case .unknown(let key, let path, let known):
      "\(path): no setting is called '\(key)'; "
        + (Suggestion.nearest(to: key, among: known).map { "did you mean '\($0)'?" }
          ?? "there are \(known.joined(separator: ", "))")
    case .value(let key, let expected, let path):
      (path.map { "\($0): '\(key)'" } ?? option(key)) + " must be \(expected)"
    case .missing(let key): "\(option(key)) is missing"
    case .fixed(let key):
      "\(option(key)) cannot change when a run goes on; begin a new run, or leave it out"
    case .malformed(let path, let reason): "\(path): \(reason)"
    }
  }

  private func option(_ key: String) -> String { "--" + key.replacing("_", with: "-") }
}
