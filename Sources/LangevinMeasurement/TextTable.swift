/// Columns of text, as wide as their widest cell; where they are to fit a width, text wraps within its column.
package struct TextTable {
  /// Text begins at the left and may wrap; numbers end at the right and stay in one piece.
  package enum Column {
    case left(String)
    case right(String)
    var title: String {
      switch self {
      case .left(let title), .right(let title): title
      }
    }
    var wraps: Bool { if case .left = self { true } else { false } }
  }

  let columns: [Column]
  private var rows: [[String]] = []
  /// Columns of text are made no narrower.
  private static let narrowest = 10

  /// A table without rows.
  package init(_ columns: [Column]) { self.columns = columns }

  /// As many cells as there are columns.
  package mutating func add(_ cells: [String]) {
    precondition(cells.count == columns.count)
    rows.append(cells)
  }

  /// The titles, then the rows, without spaces at the end.
  package var lines: [String] { lines(width: .max) }

  /// The same, no wider than `width` where the columns of text can give way.
  package func lines(width: Int) -> [String] {
    let all = [columns.map(\.title)] + rows
    var widths = columns.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    let gaps = 2 * (columns.count - 1)
    while widths.reduce(gaps, +) > width {
      let able = columns.indices.filter { columns[$0].wraps && widths[$0] > Self.narrowest }
      guard let widest = able.max(by: { widths[$0] < widths[$1] }) else { break }
      widths[widest] -= 1
    }
    return all.flatMap { row -> [String] in
      let cells = columns.indices.map { Self.wrapped(row[$0], width: widths[$0]) }
      return (0..<(cells.map(\.count).max() ?? 0)).map { line in
        let parts = columns.indices.map { index -> String in
          let text = line < cells[index].count ? cells[index][line] : ""
          let space = String(repeating: " ", count: max(0, widths[index] - text.count))
          return columns[index].wraps ? text + space : space + text
        }
        return String(parts.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
      }
    }
  }

  /// Lines of at most `width` characters, broken at spaces where there are any, else behind the points and underscores
  /// of names.
  package static func wrapped(_ text: String, width: Int) -> [String] {
    var lines: [String] = []
    var rest = Substring(text)
    while rest.count > width {
      let head = rest.prefix(width + 1)
      if let space = head.lastIndex(of: " "), space > head.startIndex {
        lines.append(String(rest[..<space]))
        rest = rest[rest.index(after: space)...]
      } else {
        let whole = rest.prefix(width)
        let end = whole.lastIndex { "._".contains($0) }.map { whole.index(after: $0) } ?? whole.endIndex
        lines.append(String(rest[..<end]))
        rest = rest[end...]
      }
    }
    return lines + [String(rest)]
  }
}
