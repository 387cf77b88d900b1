import Foundation
import LangevinMeasurement

/// What standard output is.
enum Terminal {
  /// How many columns a terminal has; nil where standard output is none.
  static var columns: Int? {
    guard isatty(STDOUT_FILENO) == 1 else { return nil }
    if let text = ProcessInfo.processInfo.environment["COLUMNS"], let columns = Int(text), columns > 0 {
      return columns
    }
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  /// Columns for tables: what the terminal has, between 60 and 100; 100 where there is none.
  static var tableWidth: Int { min(max(columns ?? 100, 60), 100) }

  /// Words in columns that are read downwards, as many as fit; one a line without a width.
  static func lines(_ words: [String], width: Int?) -> [String] {
    guard let width, let longest = words.map(\.count).max() else { return words }
    let columns = max(1, (width + 2) / (longest + 2))
    let rows = (words.count + columns - 1) / columns
    return (0..<rows).map { row in
      let line = stride(from: row, to: words.count, by: rows).map { words[$0] }
      return line.dropLast().map { $0 + String(repeating: " ", count: longest + 2 - $0.count) }.joined()
        + (line.last ?? "")
    }
  }
}

extension Output {
  /// A result of one line; on a terminal it breaks between words, and goes on two columns further in.
  static func wrapped(_ line: String) {
    guard let columns = Terminal.columns, line.count > columns else { return result(line) }
    let inset = line.prefix { $0 == " " }.count + 2
    let first = TextTable.wrapped(line, width: max(columns, 20))[0]
    result(first)
    let rest = line.dropFirst(first.count).drop { $0 == " " }
    guard !rest.isEmpty else { return }
    for part in TextTable.wrapped(String(rest), width: max(columns - inset, 20)) {
      result(String(repeating: " ", count: inset) + part)
    }
  }
}
