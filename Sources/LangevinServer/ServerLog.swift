import Foundation
import LangevinJSON
import LangevinTensor
import Logging

/// One line an event: for people, or a JSON object.
public struct ServerLog: LogHandler {
  /// How a line is written.
  public enum Format: String, Sendable, CaseIterable { case text, json }

  public var metadata = Logger.Metadata()
  public var logLevel = Logger.Level.info
  private let format: Format
  private let write: @Sendable (String) -> Void

  /// `write` gets lines without their end.
  public init(format: Format, write: @escaping @Sendable (String) -> Void) {
    (self.format, self.write) = (format, write)
  }

  /// What every line carries.
  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  /// Writes a line.
  public func log(event: LogEvent) {
    let all = metadata.merging(event.metadata ?? [:]) { $1 }
    let time = Date().formatted(.iso8601)
    switch format {
    case .text:
      let level = event.level >= .warning ? "\(event.level): " : ""
      var line = "\(time) \(level)\(event.message)"
      if let milliseconds = all["milliseconds"] { line += " \(milliseconds) ms" }
      if let client = all["client"] { line += " \(client)" }
      write(line.printable)
    case .json:
      var members: [StrictJSON.Member] = [
        .init("time", .string(time)), .init("level", .string(event.level.rawValue)),
        .init("message", .string("\(event.message)")),
      ]
      for (key, value) in all.sorted(by: { $0.key < $1.key }) {
        let text = "\(value)"
        let isNumber = ["status", "milliseconds"].contains(key)
        members.append(.init(key, isNumber ? .number(text) : .string(text)))
      }
      write(StrictJSON.object(members).text)
    }
  }
}
