import ArgumentParser
import Langevin
import LangevinModels

/// `langevin train autoencoder`.
struct TrainAutoencoder: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "autoencoder",
    abstract: "Teaches a KL autoencoder to reconstruct pictures from latents.",
    discussion: """
      The model is a folder of AutoencoderKL, or of a pipeline with a component vae, as diffusers has them. What is written \
      has the same layout, and its scaling_factor makes the deviation of latents 1. With --decoder-only the latents stay what \
      they are, so that a diffusion model that was trained on them goes on working; --latent-noise then makes up for its \
      small errors.
      """)

  @OptionGroup(title: "Run") var options: TrainOptions
  @OptionGroup(title: "Session") var session: SessionOptions
  @Option(
    parsing: .unconditional,
    help: "How much the error of the differences between neighbouring pixels counts. (default: 0.5)")
  var gradientWeight: Double?
  @Option(
    parsing: .unconditional, help: "How much latents unlike normal noise count. (default: 1e-6)")
  var klWeight: Double?
  @Flag(inversion: .prefixedNo, help: "Leave the encoder as it is.") var decoderOnly: Bool?
  @Option(
    parsing: .unconditional,
    help: "The most noise on the latents that are decoded, in their deviations. (default: 0)")
  var latentNoise: Double?
  @Option(help: "A CLIP's folder, whose image encoder compares pictures too. (default: none)")
  var perceptual: String?
  @Option(parsing: .unconditional, help: "How much its comparison counts. (default: 0.1)")
  var perceptualWeight: Double?
  @Option(
    parsing: .unconditional,
    help: "The side of squares that are cut out of pictures, in pixels. (default: half of the width)")
  var cropSize: Int?
  @Option(
    parsing: .unconditional, help: "The share of steps that learn from such squares. (default: 0)")
  var cropShare: Double?
  @Option(
    parsing: .unconditional,
    help: "How many pictures, the last by their names, are measured and not learnt from. (default: 0)")
  var withheld: Int?

  func run() throws {
    let own = Members {
      $0.add("gradient_weight", gradientWeight)
      $0.add("kl_weight", klWeight)
      $0.add("decoder_only", decoderOnly)
      $0.add("latent_noise", latentNoise)
      $0.add("perceptual", perceptual)
      $0.add("perceptual_weight", perceptualWeight)
      $0.add("crop_size", cropSize)
      $0.add("crop_share", cropShare)
      $0.add("withheld", withheld)
    }
    try options.run(AutoencoderTask.self, own, session)
  }
}
