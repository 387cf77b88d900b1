import ArgumentParser
import Langevin
import LangevinMeasurement

/// The rule of exit codes: 64 where the command line asks for what cannot be, whoever finds that out; 1 where a file, a
/// device or memory is at fault.
enum Usage {
  /// Whether it is the command line that is wrong.
  static func isFault(_ error: any Error) -> Bool {
    switch error {
    case let error as GenerationError:
      switch error {
      case .badRequest, .unusedOption: true
      case .nonFinite: false
      }
    case let error as DiffusionError:
      switch error {
      case .flowModel, .unsupportedLevels, .stepCount, .strength, .eta: true
      case .configuration, .unknownScheduler, .unsupportedSetting, .noLearnedVariance, .noSignal, .seedCount,
        .guidanceBatch:
        false
      }
    case let error as VideoError:
      switch error {
      case .unknownFormat, .badFrames: true
      case .noEncoder, .encoderFailed: false
      }
    case is TunerError: true
    default: false
    }
  }

  /// Throws a line for a first word that is no command; the parser would not say which word was meant.
  static func checkCommand(_ arguments: [String]) throws {
    guard let word = arguments.first, !word.hasPrefix("-") else { return }
    let commands = LangevinCommand.configuration.subcommands
    guard word != "help", !commands.contains(where: { $0._commandName == word }) else { return }
    let known = commands.filter { $0.configuration.shouldDisplay }.map { $0._commandName }
    let hint =
      Suggestion.nearest(to: word, among: known).map { "did you mean '\($0)'?" }
      ?? (word.contains(" ") ? "to draw it: langevin generate \"\(word)\";" : "")
    throw ValidationError(
      "there is no command '\(word)'; \(hint.isEmpty ? "" : hint + " ")there are: "
        + known.joined(separator: ", "))
  }
}
