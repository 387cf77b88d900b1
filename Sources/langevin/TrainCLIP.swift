import ArgumentParser
import Langevin
import LangevinModels

/// `langevin train clip`.
struct TrainCLIP: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clip",
    abstract: "Teaches CLIP's encoders that a picture and its caption belong together.",
    discussion: """
      The model is a folder of CLIPModel with its tokenizer, as transformers has it. All pairs of a batch are compared with \
      each other, also where --accumulation computes it in parts.
      """)

  @OptionGroup(title: "Run") var options: TrainOptions
  @OptionGroup(title: "Session") var session: SessionOptions
  @Option(
    parsing: .unconditional,
    help: "How many pictures, the last by their names, are measured and not learnt from. (default: 0)")
  var withheld: Int?

  func run() throws { try options.run(CLIPTask.self, Members { $0.add("withheld", withheld) }, session) }
}
