import ArgumentParser
import Langevin
import LangevinDiffusion
import LangevinMeasurement
import LangevinServer
import LangevinTraining

/// The rule of exit codes: 64 where the command line asks for what cannot be, whoever finds that out; 1 where a file, a
/// device or memory is at fault.
enum Usage {
  /// Whether it is the command line that is wrong.
  static func isFault(_ error: any Error) -> Bool {
    switch error {
    case let error as GenerationError:
      switch error {
      case .badRequest, .unusedOption: true
      case .nonFinite, .classTaken: false
      }
    case let error as DiffusionError:
      switch error {
      case .flowModel, .unsupportedLevels, .stepCount, .strength, .eta: true
      case .configuration, .unknownScheduler, .unsupportedSetting, .samplerNameTaken, .noLearnedVariance,
        .noSignal, .seedCount, .guidanceBatch, .mixedGuidance:
        false
      }
    case let error as VideoError:
      switch error {
      case .unknownFormat, .badFrames: true
      case .noEncoder, .encoderFailed: false
      }
    case let error as SettingsError:
      switch error {
      case .value(_, _, let path): path == nil
      case .missing, .fixed: true
      case .unknown, .malformed: false
      }
    case let error as DataError:
      if case .invalidOption = error { true } else { false }
    case let error as TrainingError:
      switch error {
      case .batch, .indivisibleLoss: true
      case .nothingToTrain, .stateMismatch, .unreached, .notFinite, .lossScaleExhausted: false
      }
    case is TunerError: true
    case let error as ServerError:
      if case .keyNeeded = error { true } else { false }
    default: false
    }
  }

  /// Throws a line for a first word that is no command; the parser would not say which word was meant.
  static func checkCommand(_ arguments: [String]) throws {
    try checkCommand(arguments[...], of: LangevinCommand.self, name: "")
  }

  private static func checkCommand(
    _ arguments: ArraySlice<String>, of command: any ParsableCommand.Type, name: String
  ) throws {
    let commands = command.configuration.subcommands
    guard let word = arguments.first, !word.hasPrefix("-"), word != "help", !commands.isEmpty else { return }
    if let next = commands.first(where: { $0._commandName == word }) {
      return try checkCommand(arguments.dropFirst(), of: next, name: name + word + " ")
    }
    let known = commands.filter { $0.configuration.shouldDisplay }.map { $0._commandName }
    let hint =
      Suggestion.nearest(to: word, among: known).map { "did you mean '\($0)'?" }
      ?? (word.contains(" ") && name.isEmpty ? "to draw it: langevin generate \"\(word)\";" : "")
    throw ValidationError(
      "there is no command '\(name)\(word)'; \(hint.isEmpty ? "" : hint + " ")there are: "
        + known.joined(separator: ", "))
  }
}
