import ArgumentParser
import Foundation
import Langevin
import LangevinMeasurement

/// `langevin report`.
struct MakeReport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Writes what this machine's devices are, what they get right and how fast they are.",
    discussion: """
      Examples:
        langevin report
        langevin report --quick -o REPORT.md
        langevin report --compare before.json after.json

      Writes a markdown file to share, and a JSON file of the same name beside it for --compare. Ctrl-C keeps what \
      was done, marked as partial.
      """)

  @Option(
    name: [.customLong("device"), .customLong("devices")],
    help: "Devices by name, separated by commas, or all.")
  var device = "all"
  @Option(name: [.short, .long], help: "The markdown file.")
  var output = "REPORT.md"
  @Flag(help: "Leave out the full-size model, and most of the validation.")
  var quick = false
  @Option(parsing: .unconditional, help: "Warm runs of each measurement on each device.")
  var rounds = 3
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Say what changed between the JSON files of two reports.", valueName: "file"))
  var compare: [String] = []
  @Flag(help: "No progress; warnings and errors only.")
  var quiet = false

  func run() throws {
    Interrupt.install()
    guard compare.isEmpty else { return try MakeReport.compare(compare) }
    guard (1...10_000).contains(rounds) else {
      throw ValidationError("--rounds must be 1 to 10000, got \(rounds)")
    }
    let url = URL(fileURLWithPath: output)
    guard url.pathExtension.lowercased() == "md", !output.hasSuffix("/") else {
      throw ValidationError("--output must end in .md, got '\(output)'")
    }
    let json = url.deletingPathExtension().appendingPathExtension("json")
    for file in [url, json] { try OutputFile.check(file) }
    let devices = try MeasuredDevices(device)

    let isQuiet = quiet
    var reporter = Reporter(devices.subjects, version: LangevinCommand.configuration.version)
    (reporter.isQuick, reporter.rounds) = (quick, rounds)
    reporter.shouldStop = { Interrupt.isRequested }
    reporter.progress = { if !isQuiet { Output.note($0) } }
    var report = try reporter.run()
    report.devices += devices.failures.map { .init(name: $0.name, failure: $0.failure ?? "") }
    if !devices.failures.isEmpty { report.isPartial = true }

    try MeasurementFile.write(report, to: json)
    try MeasurementFile.write(report.markdown, to: url)
    for file in [url, json] { Output.result(Output.path(file)) }
    if Interrupt.isRequested {
      throw Interrupted(reason: "\(Output.path(url)) has what was done, and says that it is partial")
    }
  }

  private static func compare(_ paths: [String]) throws {
    guard paths.count == 2 else {
      throw ValidationError("--compare takes two files, got \(paths.count)")
    }
    let reports = try paths.map { try MachineReport.read(URL(fileURLWithPath: $0)) }
    let comparison = MachineComparison(reports[0], reports[1])
    for line in comparison.lines(width: Terminal.tableWidth) { Output.wrapped(line) }
  }
}
