import ArgumentParser
import Foundation
import LangevinDoctor
import LangevinMeasurement

/// `langevin doctor`.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what is wrong on this machine, and which command mends it.",
    discussion: """
      Examples:
        langevin doctor

      The exit code is 1 if no OpenCL device can be used.
      """)

  @Flag(help: "One JSON object on standard output.")
  var json = false

  func run() throws {
    let diagnosis = Examination(executable: Tool.executable).diagnosis()
    if json {
      try Output.json(diagnosis)
    } else {
      for finding in diagnosis.findings {
        let command = finding.command.map { "; run: \($0)" } ?? ""
        Output.result("\(finding.state.rawValue): \(finding.check): \(finding.message)\(command)")
      }
    }
    if diagnosis.usableDevices == 0 { Foundation.exit(1) }
  }
}
