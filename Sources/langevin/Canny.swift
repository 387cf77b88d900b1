import ArgumentParser
import Foundation
import Langevin

/// `langevin canny`.
struct Canny: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Draws a picture's edges, for ControlNets that follow edges.",
    discussion: """
      Examples:
        langevin canny photo.jpg edges.png
        langevin generate "a house in winter" --control DIR --control-image edges.png

      The edges are those of OpenCV's Canny. The new picture's path goes to standard output.
      """)

  @Argument(help: "A PNG, JPEG or WebP file.")
  var picture: String
  @Argument(help: "The new picture's file, .png, .jpg or .webp. Folders are made.")
  var output: String
  @Option(
    parsing: .unconditional,
    help: "A pixel whose gradient is above this is an edge where it touches one, 0 to 2040.")
  var low = CannyThresholds.standard.low
  @Option(parsing: .unconditional, help: "A pixel whose gradient is above this is an edge, 0 to 2040.")
  var high = CannyThresholds.standard.high

  func validate() throws {
    for (name, value) in [("--low", low), ("--high", high)] {
      guard 0...2040 ~= value else { throw ValidationError("\(name) must be 0 to 2040, got \(value)") }
    }
    guard low <= high else {
      throw ValidationError("--low must be at most --high, got \(low) and \(high)")
    }
  }

  func run() throws {
    let url = URL(fileURLWithPath: output)
    guard PictureFormat(url) != nil else {
      throw ValidationError("the new picture must end in .png, .jpg or .webp, got '\(output)'")
    }
    try OutputFile.check(url)
    let picture = try Picture.read(URL(fileURLWithPath: picture)).picture
    try picture.edges(CannyThresholds(low: low, high: high)).write(to: url)
    Output.result(Output.path(url))
  }
}
