import Foundation
import Langevin
import LangevinTensor
import Logging

/// Results go to standard output, everything meant for a person to standard error. Every line passes here, and
/// what a model's file or the command line put into it cannot reach the terminal as a control character.
enum Output {
  static func result(_ line: String) { StandardStreams.writeResult(line.printable + "\n") }
  static func note(_ line: String) { StandardStreams.writeMessage(line.printable + "\n") }
  static func warning(_ line: String) { note("langevin: warning: " + line.shortened()) }
  static func error(_ line: String) { note("langevin: error: " + line.shortened()) }

  static func error(_ error: any Error) {
    // A command to copy is no use without its middle.
    if case CheckpointError.pickle = error { return note("langevin: error: \(error)") }
    self.error("\(error)")
  }

  /// A result of several lines.
  static func document(_ text: String) {
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) { result(String(line)) }
  }

  /// The line that is redrawn in place on a terminal; nothing ends it.
  static func bar(_ text: String) { StandardStreams.writeMessage("\r\(text.printable)\u{1B}[K") }
  static func endBar() { StandardStreams.writeMessage("\n") }
  /// Control characters that this tool made, which draw a picture.
  static func picture(_ drawing: String) { StandardStreams.writeMessage(drawing) }

  /// Pretty-printed with sorted keys.
  static func json(_ value: some Encodable) throws {
    document(String(decoding: try encode(value), as: UTF8.self))
  }

  /// The same into a file, which appears whole.
  static func json(_ value: some Encodable, to url: URL) throws {
    try (encode(value) + Data("\n".utf8)).withUnsafeBytes { try OutputFile.write($0, to: url) }
  }

  private static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(value)
  }

  /// `1.5 GiB`, `32 KiB`.
  static func bytes(_ count: Int) -> String { ByteCount.text(count) }

  /// As the user would type it: relative to the working folder where it lies within.
  static func path(_ url: URL) -> String {
    let path = url.absoluteURL.standardizedFileURL.path
    let folder = FileManager.default.currentDirectoryPath + "/"
    return path.hasPrefix(folder) ? String(path.dropFirst(folder.count)) : path
  }
}

/// Shows the library's warnings in the tool's own form, and more where asked.
struct ErrorStreamLog: LogHandler {
  let isVerbose: Bool
  var metadata = Logger.Metadata()
  var logLevel: Logger.Level

  init(isVerbose: Bool) {
    self.isVerbose = isVerbose
    logLevel = isVerbose ? .debug : .warning
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    if event.level >= .warning {
      Output.warning("\(event.message)")
    } else {
      Output.note("langevin: \(event.message)")
    }
  }
}
