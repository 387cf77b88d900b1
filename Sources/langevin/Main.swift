import ArgumentParser
import Foundation
import Langevin
import Logging

/// The command-line tool.
@main struct LangevinCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "langevin",
    abstract: "Generates pictures with diffusion models on OpenCL devices or the CPU.",
    version: "0.1.0",
    subcommands: [
      Generate.self, RunComponent.self, Embed.self, Samplers.self, ExperimentCommand.self, Devices.self,
      Doctor.self, Validate.self, Bisect.self, Bench.self, ProfileCommand.self, Tune.self,
      MakeReport.self, Harvest.self, Probe.self,
    ])

  /// Every failure is one line on standard error: 64 for a command line that is wrong, 130 for an interrupt,
  /// 1 for everything else.
  static func main() {
    do {
      var command = try parseAsRoot()
      let isVerbose = (command as? Generate)?.verbose ?? (command as? ProfileCommand)?.verbose ?? false
      LoggingSystem.bootstrap { _ in ErrorStreamLog(isVerbose: isVerbose) }
      try command.run()
    } catch let interrupted as Interrupted {
      Output.note("langevin: \(interrupted)")
      Foundation.exit(130)
    } catch let code as ExitCode {
      // What went wrong has been said.
      Foundation.exit(code.rawValue)
    } catch  where exitCode(for: error) == .success {
      exit(withError: error)
    } catch  where exitCode(for: error) == .validationFailure {
      Output.error(oneLine(message(for: error)))
      Foundation.exit(ExitCode.validationFailure.rawValue)
    } catch {
      Output.error("\(error)")
      Foundation.exit(1)
    }
  }

  /// The parser lists choices on lines of their own.
  private static func oneLine(_ message: String) -> String {
    let lines = message.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
    let choices = lines.dropFirst().map { $0.hasPrefix("- ") ? String($0.dropFirst(2)) : $0 }
    return (lines.first ?? "") + (choices.isEmpty ? "" : " " + choices.joined(separator: ", "))
  }
}
