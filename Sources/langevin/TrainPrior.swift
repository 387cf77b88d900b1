import ArgumentParser
import Langevin

/// `langevin train prior`.
struct TrainPrior: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prior",
    abstract: "Teaches unCLIP's prior to guess a picture's CLIP embedding from its caption.",
    discussion: """
      The model is a folder of UnCLIPPipeline or StableUnCLIPPipeline, as diffusers has them. A prior without weights also \
      gets the mean and the deviation of the embeddings of these pictures.
      """)

  @OptionGroup(title: "Run") var options: TrainOptions
  @OptionGroup(title: "Session") var session: SessionOptions
  @Option(help: "The folder of the CLIP whose image encoder says what is to be guessed.")
  var clip: String?
  @Option(
    parsing: .unconditional, help: "The share of captions that are left out, for guidance. (default: 0.1)")
  var dropText: Double?
  @Option(
    parsing: .unconditional,
    help: "How many pictures, the last by their names, are measured and not learnt from. (default: 0)")
  var withheld: Int?

  func run() throws {
    let own = Members {
      $0.add("clip", clip)
      $0.add("drop_text", dropText)
      $0.add("withheld", withheld)
    }
    try options.run(PriorTask.self, own, session)
  }
}
