import ArgumentParser
import Foundation
import Langevin
import LangevinJSON
import LangevinTensor

// Settings of train.json as options; what is not given is left to the file of --config, and then to the defaults.

/// What every task can be told.
struct TrainOptions: ParsableArguments {
  @Option(help: "The folder of the new run.")
  var output: String
  @Option(help: "A file of settings as a run's train.json; options go before it.")
  var config: String?
  @Option(name: [.customShort("m"), .long], help: "The folder of the model to start from.")
  var model: String?
  @Option(
    parsing: .upToNextOption,
    help: "A folder of pictures with metadata.jsonl or with .txt files beside them, or WebDataset tars.")
  var data: [String] = []
  @Option(help: "The column of metadata.jsonl that holds captions.") var captionColumn: String?
  @Flag(inversion: .prefixedNo, help: "Leave broken pictures out.") var skipBroken: Bool?
  @Option(parsing: .unconditional, help: "Of everything random. (default: 0)") var seed: UInt64?
  @Option(parsing: .unconditional, help: "Samples of a step. (default: 16)") var batch: Int?
  @Option(parsing: .unconditional, help: "Parts in which a batch is computed. (default: 1)")
  var accumulation: Int?
  @Option(parsing: .unconditional, help: "Steps of the run. (default: 1000)") var steps: Int?
  @Option(parsing: .unconditional, help: "The highest rate. (default: 1e-4)") var learningRate: Double?
  @Option(parsing: .unconditional, help: "Steps that lead up to it. (default: 0)") var warmUp: Int?
  @Option(help: "constant, cosine or linear-cooldown. (default: constant)") var schedule: String?
  @Option(
    parsing: .unconditional, help: "The share of steps that goes down, for linear-cooldown. (default: 0.2)")
  var cooldown: Double?
  @Option(parsing: .unconditional, help: "AdamW's memory of gradients. (default: 0.9)") var beta1: Double?
  @Option(parsing: .unconditional, help: "AdamW's memory of their squares. (default: 0.999)") var beta2:
    Double?
  @Option(parsing: .unconditional, help: "AdamW's smallest divisor. (default: 1e-8)") var epsilon: Double?
  @Option(parsing: .unconditional, help: "AdamW's decay. (default: 0.01)") var weightDecay: Double?
  @Option(
    parsing: .unconditional, help: "Gradients are shortened to this length; 0 leaves them. (default: 1)")
  var maxGradNorm: Double?
  @Option(
    parsing: .unconditional,
    help: "How much of the weights' average stays, as 0.999; 0 keeps none. (default: 0)")
  var ema: Double?
  @Option(help: "Storage of weights and activations: f32, f16 or bf16; masters are f32. (default: f32)")
  var precision: String?
  @Flag(inversion: .prefixedNo, help: "Compute blocks a second time instead of keeping them: less memory.")
  var recompute: Bool?
  @Option(name: [.customShort("W"), .long], parsing: .unconditional, help: "Pixels. (default: the model's)")
  var width: Int?
  @Option(name: [.customShort("H"), .long], parsing: .unconditional, help: "Pixels. (default: the model's)")
  var height: Int?
  @Option(
    parsing: .unconditional, help: "Pixels of white around each picture, by which crops move. (default: 0)")
  var padding: Int?
  @Option(parsing: .unconditional, help: "Places of a crop along each axis. (default: any)") var places: Int?
  @Flag(inversion: .prefixedNo, help: "Mirror half of the pictures.") var mirror: Bool?
  @Option(parsing: .unconditional, help: "Steps between samples; 0 draws none. (default: 500)")
  var sampleEvery: Int?
  @Option(parsing: .unconditional, help: "Minutes between states. (default: 10)")
  var checkpointMinutes: Double?

  @Option(
    help: "A safetensors file of pictures, captions, timesteps and noise to take instead of drawing them.")
  var replay: String?

  private var members: [StrictJSON.Member] {
    Members {
      $0.add("model", model)
      $0.add("data", data)
      $0.add("caption_column", captionColumn)
      $0.add("skip_broken", skipBroken)
      $0.add("seed", seed)
      $0.add("batch", batch)
      $0.add("accumulation", accumulation)
      $0.add("steps", steps)
      $0.add("learning_rate", learningRate)
      $0.add("warm_up", warmUp)
      $0.add("schedule", schedule)
      $0.add("cooldown", cooldown)
      $0.add("beta1", beta1)
      $0.add("beta2", beta2)
      $0.add("epsilon", epsilon)
      $0.add("weight_decay", weightDecay)
      $0.add("max_grad_norm", maxGradNorm)
      $0.add("ema", ema)
      $0.add("precision", precision)
      $0.add("recompute", recompute)
      $0.add("width", width)
      $0.add("height", height)
      $0.add("padding", padding)
      $0.add("places", places)
      $0.add("mirror", mirror)
      $0.add("sample_every", sampleEvery)
      $0.add("checkpoint_minutes", checkpointMinutes)
      $0.add("replay", replay)
    }.list
  }

  /// Begins a run of a task, with settings of its own.
  func run<Task: ModelTask>(_ type: Task.Type, _ own: Members, _ session: SessionOptions) throws {
    var document = try SettingsDocument(task: Task.name, Task.defaults)
    if let config {
      let url = URL(fileURLWithPath: config)
      guard case .object(let members) = try RunFolder.readSettings(url) else {
        throw SettingsError.malformed(path: config, reason: "it is no object")
      }
      try document.merge(members, from: config)
    }
    try document.merge(members + own.list)
    try document.merge([.init("task", .string(Task.name))])
    try session.run(type, document, in: URL(fileURLWithPath: output), resuming: false)
  }
}

/// Options that were given, as members of train.json.
struct Members {
  private(set) var list: [StrictJSON.Member] = []

  init(_ fill: (inout Members) -> Void) { fill(&self) }

  mutating func add(_ key: String, _ value: String?) { append(key, value.map { .string($0) }) }
  mutating func add(_ key: String, _ value: Bool?) { append(key, value.map { .bool($0) }) }
  mutating func add(_ key: String, _ value: (some BinaryInteger)?) {
    append(key, value.map { .number("\($0)") })
  }
  mutating func add(_ key: String, _ value: Double?) { append(key, value.map { .real($0) }) }
  mutating func add(_ key: String, _ value: [String]) {
    append(key, value.isEmpty ? nil : .array(value.map { .string($0) }))
  }

  private mutating func append(_ key: String, _ value: StrictJSON?) {
    if let value { list.append(StrictJSON.Member(key, value)) }
  }
}

/// `langevin train diffusion`.
struct TrainDiffusion: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diffusion",
    abstract: "Teaches a UNet to denoise: pictures, or latents of captioned pictures.",
    discussion: """
      The model is a folder of StableDiffusionPipeline, StableUnCLIPImg2ImgPipeline, DDPMPipeline or DDIMPipeline, as \
      diffusers has them.
      """)

  @OptionGroup(title: "Run") var options: TrainOptions
  @OptionGroup(title: "Session") var session: SessionOptions
  @Option(
    help: "epsilon, v_prediction or sample. (default: what the model's scheduler says)")
  var prediction: String?
  @Option(
    parsing: .unconditional,
    help: "Gamma of min-SNR weights, as 5. (default: all noise levels weigh the same)")
  var snrGamma: Double?
  @Option(help: "uniform, stratified or logit-normal. (default: uniform)") var timesteps: String?
  @Option(parsing: .unconditional, help: "Of logit-normal timesteps. (default: 0)") var logitMean: Double?
  @Option(parsing: .unconditional, help: "Of logit-normal timesteps. (default: 1)") var logitDeviation:
    Double?
  @Option(
    parsing: .unconditional, help: "The share of captions that are left out, for guidance. (default: 0.1)")
  var dropCaption: Double?
  @Option(
    parsing: .unconditional,
    help: "The share of image embeddings that are left out, where the model takes any. (default: 0.1)")
  var dropImage: Double?
  @Option(
    parsing: .unconditional, help: "The most noise of an image embedding, a timestep. (default: the last)")
  var maxNoiseLevel: Int?
  @Flag(inversion: .prefixedNo, help: "The text encoder learns along.") var trainTextEncoder: Bool?
  @Option(parsing: .unconditional, help: "Its rate in units of the run's. (default: 0.25)") var textRate:
    Double?
  @Flag(inversion: .prefixedNo, help: "Residual blocks that start from nothing add nothing at first.")
  var zeroInit: Bool?
  @Option(parsing: .upToNextOption, help: "What to draw now and then.") var prompts: [String] = []
  @Option(parsing: .unconditional, help: "With which guidance. (default: the model's)") var guidance: Double?
  @Option(parsing: .unconditional, help: "In how many steps. (default: the model's)") var sampleSteps: Int?

  func run() throws {
    let own = Members {
      $0.add("prediction", prediction)
      $0.add("snr_gamma", snrGamma)
      $0.add("timesteps", timesteps)
      $0.add("logit_mean", logitMean)
      $0.add("logit_deviation", logitDeviation)
      $0.add("drop_caption", dropCaption)
      $0.add("drop_image", dropImage)
      $0.add("max_noise_level", maxNoiseLevel)
      $0.add("train_text_encoder", trainTextEncoder)
      $0.add("text_rate", textRate)
      $0.add("zero_init", zeroInit)
      $0.add("prompts", prompts)
      $0.add("guidance", guidance)
      $0.add("sample_steps", sampleSteps)
    }
    try options.run(DiffusionTask.self, own, session)
  }
}
