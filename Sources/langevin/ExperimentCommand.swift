import ArgumentParser
import Foundation
import Langevin
import LangevinExperiment
import LangevinTensor

/// `langevin experiment`.
struct ExperimentCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "experiment",
    abstract: "Shows what diffusion models do: a page with figures and numbers.",
    discussion: """
      Examples:
        langevin experiment
        langevin experiment --trained --output page

      The data are points in the plane. Nothing is trained: for a finite data set the optimal denoiser has a closed form. The samplers are those of \
      `langevin generate`, and run on the chosen device. Writes index.html, which needs nothing else, and \
      results.json with the numbers. The exit code is 1 if a number is not what its claim says.
      """)

  @Option(name: [.short, .long], help: "The folder; it is made where there is none.")
  var output = "experiment"
  @Option(help: "auto, cpu, opencl or opencl:N; `langevin devices` lists them.")
  var device = "auto"
  @Option(parsing: .unconditional, help: "Of all noise.")
  var seed: UInt64 = 0
  @Flag(
    help: "Train small networks instead: targets, few steps, dropped captions, CLIP, unCLIP. Takes minutes.")
  var trained = false
  @Flag(help: "Fewer points and samples.")
  var quick = false
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  func run() throws {
    Interrupt.install()
    let choice = try DeviceChoice.parse(device)
    let folder = URL(fileURLWithPath: output)
    let (page, results) = (
      folder.appendingPathComponent("index.html"), folder.appendingPathComponent("results.json")
    )
    try ExperimentCommand.makeFolder(folder)
    for file in [page, results] { try OutputFile.check(file) }

    let device = try choice.opened(isQuiet: quiet)
    let isQuiet = quiet
    let progress: @Sendable (String) throws -> Void = { part in
      try Interrupt.check()
      if !isQuiet, !part.isEmpty { Output.note(part) }
    }
    Interrupt.limit { Interrupted() }
    let report = try run(on: device, progress)
    Interrupt.settle()
    try Array(report.html.utf8).withUnsafeBytes { try OutputFile.write($0, to: page) }
    try Output.json(report, to: results)
    for claim in report.claims {
      let number = String(format: "%.3g", claim.value)
      Output.result("\(claim.holds ? "holds" : "FAILS")  \(number)  \(claim.statement)")
    }
    for file in [page, results] { Output.result(Output.path(file)) }
    if !report.claims.allSatisfy(\.holds) { throw ExitCode.failure }
  }

  private func run(on device: Device, _ progress: @escaping @Sendable (String) throws -> Void) throws
    -> ExperimentReport
  {
    if trained {
      var experiment = try TrainedExperiment(on: device, seed: seed, quick: quick)
      experiment.progress = progress
      return try experiment.run()
    }
    var experiment = try Experiment(on: device, seed: seed, quick: quick)
    experiment.progress = progress
    return try experiment.run()
  }

  private static func makeFolder(_ folder: URL) throws {
    var isFolder: ObjCBool = false
    if FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) {
      guard isFolder.boolValue else {
        throw ImageError.unwritable(path: folder.path, reason: "it is a file, not a folder")
      }
      return
    }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw ImageError.unwritable(path: folder.path, reason: "the folder cannot be made")
    }
  }
}
