import Foundation

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
