import ArgumentParser
import Foundation
import Langevin
import LangevinTensor
import Logging

/// The command-line tool.
@main struct LangevinCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "langevin",
    abstract: "Generates pictures with diffusion models on OpenCL devices or the CPU.",
    discussion: """
      Examples:
        langevin generate "red apple"
        langevin generate "a lighthouse in a storm" -m org/name -o lighthouse.png
        langevin doctor
      """,
    version: "0.1.0",
    subcommands: [
      Generate.self, Serve.self, Upscale.self, Convert.self, Canny.self, Train.self, Warm.self, Info.self,
      Samplers.self, Devices.self, Doctor.self, Harvest.self, Probe.self, RanksCommand.self,
      DrawForServer.self,
    ],
    groupedSubcommands: [
      CommandGroup(
        name: "Measuring", subcommands: [Bench.self, ProfileCommand.self, Tune.self, MakeReport.self]),
      CommandGroup(name: "Checking", subcommands: [Validate.self, Bisect.self, RunComponent.self]),
      CommandGroup(name: "Other", subcommands: [Embed.self, ExperimentCommand.self]),
    ])

  /// Every failure is one line on standard error: 64 for a command line that is wrong, 130 for an interrupt,
  /// 1 for everything else.
  static func main() {
    StandardStreams.prepare()
    var status: Int32 = 0
    var isTold = false
    do {
      try Usage.checkCommand(Array(CommandLine.arguments.dropFirst()))
      var command = try parseAsRoot()
      let isVerbose = (command as? Generate)?.verbose ?? (command as? ProfileCommand)?.verbose ?? false
      LoggingSystem.bootstrap { _ in ErrorStreamLog(isVerbose: isVerbose) }
      try command.run()
    } catch {
      (status, isTold) = tell(error)
    }
    // Results that nobody got are a failure, whether the work was done or stopped because of them.
    if let failure = StandardStreams.outputFailure, !isTold {
      if !failure.isOfAClosedPipe { Output.error(failure) }
      status = 1
    }
    Foundation.exit(status)
  }

  /// Returns the exit code, and whether an error line was written.
  private static func tell(_ error: any Error) -> (status: Int32, isTold: Bool) {
    if exitCode(for: error) != .success, Ranks.isToldElsewhere() { return (0, true) }
    switch error {
    case is OutputFailure: return (1, false)
    case let interrupted as Interrupted:
      if StandardStreams.outputFailure == nil { Output.note("langevin: \(interrupted)".shortened()) }
      return (130, false)
    case let code as ExitCode:
      // What went wrong is among the results.
      return (code.rawValue, false)
    case _ where exitCode(for: error) == .success:
      // Help and the like.
      Output.document(fullMessage(for: error))
      return (0, false)
    case _ where exitCode(for: error) == .validationFailure:
      Output.error(oneLine(message(for: error)))
      return (ExitCode.validationFailure.rawValue, true)
    default:
      Output.error(error)
      return (Usage.isFault(error) ? ExitCode.validationFailure.rawValue : 1, true)
    }
  }

  /// The parser lists choices on lines of their own.
  private static func oneLine(_ message: String) -> String {
    let lines = message.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
    let choices = lines.dropFirst().map { $0.hasPrefix("- ") ? String($0.dropFirst(2)) : $0 }
    return (lines.first ?? "") + (choices.isEmpty ? "" : " " + choices.joined(separator: ", "))
  }
}
