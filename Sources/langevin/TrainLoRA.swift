import ArgumentParser
import Langevin

/// How a denoiser's loss is made, for tasks that teach additions to a model.
struct DenoisingOptions: ParsableArguments {
  @Option(
    help: "epsilon, v_prediction, sample or flow_prediction. (default: what the model's scheduler says)")
  var prediction: String?
  @Option(
    parsing: .unconditional,
    help: "Gamma of min-SNR weights, as 5. (default: all noise levels weigh the same)")
  var snrGamma: Double?
  @Option(help: "uniform, stratified or logit-normal. (default: uniform)") var timesteps: String?
  @Option(parsing: .unconditional, help: "Of logit-normal timesteps. (default: 0)") var logitMean: Double?
  @Option(parsing: .unconditional, help: "Of logit-normal timesteps. (default: 1)") var logitDeviation:
    Double?
  @Option(parsing: .upToNextOption, help: "What to draw now and then.") var prompts: [String] = []
  @Option(parsing: .unconditional, help: "With which guidance. (default: the model's)") var guidance: Double?
  @Option(parsing: .unconditional, help: "In how many steps. (default: the model's)") var sampleSteps: Int?

  func add(to members: inout Members) {
    members.add("prediction", prediction)
    members.add("snr_gamma", snrGamma)
    members.add("timesteps", timesteps)
    members.add("logit_mean", logitMean)
    members.add("logit_deviation", logitDeviation)
    members.add("prompts", prompts)
    members.add("guidance", guidance)
    members.add("sample_steps", sampleSteps)
  }
}

/// `langevin train lora`.
struct TrainLoRA: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lora",
    abstract: "Teaches low-rank adapters of a Stable Diffusion model.",
    discussion: """
      The model is a folder of StableDiffusionPipeline or a single file, and stays as it is. RUN/model has the adapters \
      as diffusers reads them, and as kohya's tools do: langevin generate --lora RUN/model.
      """)

  @OptionGroup(title: "Run") var options: TrainOptions
  @OptionGroup(title: "Session") var session: SessionOptions
  @OptionGroup(title: "Loss and samples") var denoising: DenoisingOptions
  @Option(parsing: .unconditional, help: "How many columns the first matrix of each pair has. (default: 4)")
  var rank: Int?
  @Option(
    parsing: .unconditional, help: "Divided by the rank it is the adapters' scale. (default: the rank)")
  var alpha: Double?
  @Option(
    parsing: .upToNextOption,
    help: "The UNet's layers that learn, or the ends of their names. (default: to_k to_q to_v to_out.0)")
  var targets: [String] = []
  @Flag(inversion: .prefixedNo, help: "The text encoder learns along.") var trainTextEncoder: Bool?
  @Option(
    parsing: .upToNextOption, help: "Its layers that learn. (default: q_proj k_proj v_proj out_proj)")
  var textTargets: [String] = []
  @Option(parsing: .unconditional, help: "Its rate in units of the run's. (default: 1)") var textRate: Double?
  @Option(parsing: .unconditional, help: "The share of captions that are left out. (default: 0)")
  var dropCaption: Double?

  func run() throws {
    let own = Members {
      $0.add("rank", rank)
      $0.add("alpha", alpha)
      $0.add("targets", targets)
      $0.add("train_text_encoder", trainTextEncoder)
      $0.add("text_targets", textTargets)
      $0.add("text_rate", textRate)
      $0.add("drop_caption", dropCaption)
      denoising.add(to: &$0)
    }
    try options.run(LoRATask.self, own, session)
  }
}

/// `langevin train textual-inversion`.
struct TrainTextualInversion: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "textual-inversion",
    abstract: "Teaches a Stable Diffusion model's text encoder a new word.",
    discussion: """
      The model is a folder of StableDiffusionPipeline or a single file, and stays as it is. RUN/model has the word's \
      vectors as diffusers reads them: langevin generate --embedding RUN/model.
      """)

  @OptionGroup(title: "Run") var options: TrainOptions
  @OptionGroup(title: "Session") var session: SessionOptions
  @OptionGroup(title: "Loss and samples") var denoising: DenoisingOptions
  @Option(help: "The new word, as <cat-toy>.") var token: String?
  @Option(help: "A word of one token that it begins as, as toy.") var initializer: String?
  @Option(parsing: .unconditional, help: "How many vectors it has. (default: 1)") var vectors: Int?
  @Option(
    parsing: .upToNextOption,
    help:
      "Captions where a picture's own does not have the word; {} stands for it. (default: a photo of {}, …)")
  var templates: [String] = []

  func run() throws {
    let own = Members {
      $0.add("token", token)
      $0.add("initializer", initializer)
      $0.add("vectors", vectors)
      $0.add("templates", templates)
      denoising.add(to: &$0)
    }
    try options.run(TextualInversionTask.self, own, session)
  }
}
