import Foundation
import Langevin

/// The prompts that a model was made for: `prompts.txt` beside its model_index.json, one a line.
enum PromptList {
  static let fileName = "prompts.txt"

  /// Nil where the model has no such file. Throws `CheckpointError.unreadable`.
  static func read(from model: URL) throws -> [String]? {
    guard FileManager.default.fileExists(atPath: model.path) else {
      throw CheckpointError.missingFile(path: model.path)
    }
    let file = model.appendingPathComponent(fileName)
    guard FileManager.default.fileExists(atPath: file.path) else { return nil }
    guard let text = try? String(contentsOf: file, encoding: .utf8) else {
      throw CheckpointError.unreadable(path: file.path, reason: "it is no UTF-8 text")
    }
    return text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
      .filter { !$0.isEmpty && !$0.hasPrefix("#") }
  }

  /// Prints those that have each of the words in them.
  static func show(of model: URL, with words: [String]) throws {
    guard let all = try read(from: model) else {
      return Output.note("\(Checkpoint.name(of: model)) has no list of prompts (\(fileName) in its folder)")
    }
    let chosen = all.filter { prompt in words.allSatisfy { prompt.localizedCaseInsensitiveContains($0) } }
    for line in Terminal.lines(chosen, width: Terminal.columns) { Output.result(line) }
    if chosen.isEmpty {
      Output.note(
        "none of the \(all.count) prompts has \(words.map { "'\($0)'" }.joined(separator: ", ")) in it")
    }
  }
}
