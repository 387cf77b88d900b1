import Foundation
import LangevinJSON

/// log.jsonl of a run: a JSON object a line, each of which is in the file when `append` returns.
public final class TrainingLog: Sendable {
  private let file: AppendedFile
  /// Of the step that the log goes on after; nil where it begins.
  public let last: LogEntry?

  /// Opens the log to go on after a step, or from the beginning where nil: what was logged beyond is cut off, so that
  /// the log is that of one run.
  ///
  /// Throws `RunError.unwritable`, `.unreadable`.
  public init(_ url: URL, after step: Int?) throws {
    file = try AppendedFile(url)
    let bytes = try Self.contents(url)
    let length = step.map { Self.length(of: bytes, through: $0) } ?? 0
    if length < bytes.count { try file.cut(to: length) }
    last = bytes[..<length].split(separator: Self.newline).last.flatMap(Self.entry)
  }

  /// Throws `RunError.unwritable`; the log is as it was before then.
  public func append(_ entry: LogEntry) throws { try file.append(Array((entry.json.text + "\n").utf8)) }

  /// The figures of every step in a log.
  ///
  /// Throws `RunError`: `.unreadable`, and `.malformed` with the line's number.
  public static func read(_ url: URL) throws -> [LogEntry] {
    let bytes = try contents(url)
    return try bytes.split(separator: newline).enumerated().map { number, line in
      guard let entry = entry(line) else {
        throw RunError.malformed(path: url.path, reason: "line \(number + 1) holds no step's figures")
      }
      return entry
    }
  }

  private static func contents(_ url: URL) throws -> [UInt8] {
    try RunError.reading(url) { try CheckpointError.reading($0, RegularFile.contents(path:)) }
  }

  private static let newline = UInt8(ascii: "\n")

  private static func entry(_ line: some Sequence<UInt8>) -> LogEntry? {
    (try? StrictJSON(parsing: Array(line))).flatMap(LogEntry.init)
  }

  /// How much of the log belongs to steps up to this one. Looks from its end: a process that was killed or a machine
  /// that went down may have left half a line there, or worse, but not in what a state was saved after.
  private static func length(of bytes: [UInt8], through step: Int) -> Int {
    var end = (bytes.lastIndex(of: newline) ?? -1) + 1
    while end > 0 {
      let start = (bytes[..<(end - 1)].lastIndex(of: newline) ?? -1) + 1
      if let entry = entry(bytes[start..<(end - 1)]), entry.step <= step { break }
      end = start
    }
    return end
  }
}
