import ArgumentParser
import Foundation
import Langevin

/// What a second pass in a larger size is made of.
struct HiresOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      """
      Enlarge what was drawn so many times, above 1 to 8, and draw over it in that size. --width and --height are those of \
      the first pass.
      """, valueName: "N"))
  var hires: Double?
  @Option(
    parsing: .unconditional,
    help: "How much of the schedule is run on what was enlarged, above 0 to 1. (default: 0.5)")
  var hiresStrength: Double?
  @Option(
    help: ArgumentHelp(
      """
      What enlarges: latent, pixels, or the weights of Real-ESRGAN, as `langevin upscale` takes them. (default: pixels)
      """, valueName: "latent|pixels|FILE"))
  var hiresBy: String?

  /// Throws `ValidationError`.
  func check() throws {
    if hires == nil, hiresStrength != nil { throw ValidationError("--hires-strength needs --hires") }
    if hires == nil, hiresBy != nil { throw ValidationError("--hires-by needs --hires") }
  }

  /// The second pass of a request. Throws `ValidationError` and what opening an upscaler throws.
  func highResolution() throws -> HighResolution? {
    guard let hires else { return nil }
    var pass = HighResolution(scale: hires)
    if let hiresStrength { pass.strength = hiresStrength }
    switch hiresBy ?? "pixels" {
    case "pixels": pass.enlarging = .pixels
    case "latent": pass.enlarging = .latent
    case let path:
      guard FileManager.default.fileExists(atPath: path) else {
        throw ValidationError("--hires-by must be latent, pixels or a file of an upscaler, got '\(path)'")
      }
      pass.enlarging = .network(try UpscalerFile(URL(fileURLWithPath: path)))
    }
    return pass
  }
}

extension HighResolution {
  /// As a picture's text has it: A1111's name of the first.
  var enlargingName: String {
    switch enlarging {
    case .latent: "Latent"
    case .pixels: "Lanczos"
    case .network(let file): file.name
    }
  }

  /// The upscaler's file.
  var upscaler: UpscalerFile? { if case .network(let file) = enlarging { file } else { nil } }
}

// Of a picture's text: with A1111's keys where it has them.

extension PictureSetting {
  static func readHires(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.hires == nil else { return }
    guard let scale = Double(values[0]) else { throw unknown("Hires upscale", values[0], reading) }
    reading.options.hires = scale
  }

  static func readHiresStrength(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.hiresStrength == nil, reading.options.hires != nil else { return }
    guard let strength = Double(values[0]) else { throw unknown("Hires strength", values[0], reading) }
    reading.options.hiresStrength = strength
  }

  /// Filters of other tools are not known here by their names.
  static func readHiresUpscaler(_ values: [String], _ reading: inout Reading) throws {
    guard reading.given.hiresBy == nil, reading.options.hires != nil else { return }
    switch values[0] {
    case "Lanczos": reading.options.hiresBy = "pixels"
    case let name where name.hasPrefix("Latent"): reading.options.hiresBy = "latent"
    case let name where reading.parameters.isOurs:
      reading.options.hiresBy = try find(
        name + ".safetensors", "Hires upscaler hash", option: "--hires-by", reading)
    case let name:
      Output.warning(
        "\(Output.path(reading.picture)): its second pass is enlarged by pixels, not by '\(name)'; say with "
          + "--hires-by")
    }
  }
}
