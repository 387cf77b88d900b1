import ArgumentParser
import Foundation
import Langevin
import LangevinJSON

/// A run's settings, for commands that look at a step of it.
struct TrainingConfig {
  /// The task that the settings name.
  let type: any ModelTask.Type
  private let path: String
  private let members: [StrictJSON.Member]

  static let help: ArgumentHelp = ArgumentHelp(
    "A step of training instead, by the settings of this train.json or run's folder.", valueName: "config")

  /// Reads a file of `train --config`, or the train.json of a run's folder.
  ///
  /// Its settings say all that prompts and options say otherwise: throws `ValidationError` where there are any but
  /// `options`; and `RunError`, `SettingsError`.
  init(_ path: String, prompts: [String], with options: Set<String>) throws {
    guard prompts.isEmpty else { throw ValidationError("--train takes no prompts: its settings have them") }
    for argument in CommandLine.arguments.dropFirst() where argument.hasPrefix("--") && argument != "--train"
    {
      let name = String(argument.dropFirst(2).prefix { $0 != "=" })
      guard options.contains(name) || name == "train" else {
        throw ValidationError(
          "--train does not go with --\(name); it goes with "
            + options.sorted().map { "--" + $0 }.joined(separator: ", "))
      }
    }
    let url = URL(fileURLWithPath: path)
    var isFolder: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    self.path = isFolder.boolValue ? url.appendingPathComponent("train.json").path : path
    guard
      case .object(let members) = try isFolder.boolValue
        ? RunFolder.settings(of: url) : RunFolder.readSettings(url)
    else { throw SettingsError.malformed(path: path, reason: "it is no object") }
    guard let task = members.first(where: { $0.key == "task" })?.value.string else {
      throw SettingsError.malformed(path: self.path, reason: "it names no task")
    }
    guard let type = TrainingTasks.type(named: task) else {
      throw SettingsError.value(
        key: "task", expected: TrainingTasks.names.joined(separator: ", "), path: self.path)
    }
    (self.type, self.members) = (type, members)
  }

  /// Lends the settings and the data to `body`. Throws `SettingsError`, `DataError` and what `body` throws.
  func withSetup<Task: ModelTask, Result>(
    of type: Task.Type, _ body: (TrainingSetup<Task>) throws -> Result
  ) throws -> Result {
    var document = try SettingsDocument(task: Task.name, Task.defaults)
    try document.merge(members, from: path)
    do {
      return try body(TrainingSetup(document) { Output.warning($0) })
    } catch let error as SettingsError { throw document.placed(error) }
  }
}
