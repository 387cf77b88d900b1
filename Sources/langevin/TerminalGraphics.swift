import Foundation
import Langevin

/// How a terminal shows a picture between its lines of text.
struct TerminalGraphics {
  enum Format {
    /// https://sw.kovidgoyal.net/kitty/graphics-protocol: kitty, Ghostty, Konsole.
    case kitty
    /// https://iterm2.com/documentation-images.html: iTerm2, WezTerm, mintty.
    case iTerm2
    /// DEC's: xterm, foot, Windows Terminal, tmux, mlterm.
    case sixel
  }

  let format: Format
  /// Of the terminal, in cells.
  let columns, lines: Int
  /// Of a cell, in pixels.
  let cellWidth, cellHeight: Int

  /// How many lines a picture takes: at most sixteen, and no more than fit.
  func rows(for picture: Picture) -> Int {
    let widest = columns * cellWidth * picture.height / (picture.width * cellHeight)
    return max(1, min(16, lines - 3, widest))
  }

  /// What draws a picture so many lines high from the cursor on; where the cursor is then differs.
  func drawing(of picture: Picture, rows: Int, number: Int) throws -> String {
    switch format {
    case .kitty:
      // A picture of the same number takes the place of the one before; C=1 leaves the cursor, q=2 asks for no answer.
      return Self.kitty(try picture.png(), "a=T,f=100,q=2,C=1,i=\(number),p=1,r=\(rows)")
    case .iTerm2:
      let png = try picture.png()
      return "\u{1B}]1337;File=inline=1;size=\(png.count);height=\(rows);preserveAspectRatio=1:"
        + png.base64EncodedString() + "\u{07}"
    case .sixel:
      let height = rows * cellHeight
      let width = max(1, height * picture.width / picture.height)
      return Sixel.text(picture.resized(width: width, height: height, filter: .bilinear))
    }
  }

  /// In pieces of 4096 bytes, of which all but the last say that there is more.
  private static func kitty(_ png: Data, _ keys: String) -> String {
    var rest = Substring(png.base64EncodedString())
    var text = ""
    while text.isEmpty || !rest.isEmpty {
      let piece = rest.prefix(4096)
      rest = rest.dropFirst(4096)
      text += "\u{1B}_G\(text.isEmpty ? keys + "," : "")m=\(rest.isEmpty ? 0 : 1);\(piece)\u{1B}\\"
    }
    return text
  }
}

extension TerminalGraphics {
  /// What the terminal of standard error can show; nil for none, and where standard error is no terminal.
  ///
  /// iTerm2 and what is like it are told by the environment. Others are asked: kitty's answer to its own query comes
  /// before the one to the device attributes, which every terminal gives and where 4 stands for sixel.
  static func detect(_ environment: [String: String] = ProcessInfo.processInfo.environment)
    -> TerminalGraphics?
  {
    guard isatty(STDERR_FILENO) == 1, !["", "dumb", "linux"].contains(environment["TERM"] ?? "") else {
      return nil
    }
    let isMultiplexed = environment["TMUX"] != nil || environment["STY"] != nil
    let program = environment["TERM_PROGRAM"] ?? ""
    let isITerm2 =
      !isMultiplexed
      && (["iTerm.app", "WezTerm", "mintty"].contains(program) || environment["LC_TERMINAL"] == "iTerm2")
    let answer = isITerm2 ? Answer() : ask()
    guard let format = isITerm2 ? .iTerm2 : answer.format else { return nil }
    var size = winsize()
    _ = ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size)
    let (columns, lines) = (size.ws_col > 0 ? Int(size.ws_col) : 80, size.ws_row > 0 ? Int(size.ws_row) : 24)
    // Of terminals that tell nothing the VT340's.
    var cell = answer.cell ?? (10, 20)
    if size.ws_xpixel > 0, size.ws_ypixel > 0 {
      cell = (max(1, Int(size.ws_xpixel) / columns), max(1, Int(size.ws_ypixel) / lines))
    }
    return TerminalGraphics(
      format: format, columns: columns, lines: lines, cellWidth: cell.0, cellHeight: cell.1)
  }

  private struct Answer {
    var format: Format?
    var cell: (Int, Int)?

    init() {}

    init(_ text: String) {
      if text.contains("\u{1B}_Gi=31;OK") {
        format = .kitty
      } else if Self.numbers(in: text, from: "\u{1B}[?", to: "c").contains(4) {
        format = .sixel
      }
      let size = Self.numbers(in: text, from: "\u{1B}[6;", to: "t")
      if size.count == 2, size.allSatisfy({ (1...1000).contains($0) }) { cell = (size[1], size[0]) }
    }

    /// Numbers with semicolons between them.
    private static func numbers(in text: String, from start: String, to end: Character) -> [Int] {
      guard let range = text.range(of: start), let last = text[range.upperBound...].firstIndex(of: end) else {
        return []
      }
      return text[range.upperBound..<last].split(separator: ";").compactMap { Int($0) }
    }
  }

  /// A query of kitty's protocol, the size of a cell, and the device attributes.
  private static let question = "\u{1B}_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\u{1B}\\\u{1B}[16t\u{1B}[c"

  private static func ask() -> Answer {
    guard let name = ttyname(STDERR_FILENO) else { return Answer() }
    let terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)
    guard terminal >= 0 else { return Answer() }
    defer { close(terminal) }
    // In the background a process that changes its terminal is stopped.
    let group = tcgetpgrp(terminal)
    var before = termios()
    guard group < 0 || group == getpgrp(), tcgetattr(terminal, &before) == 0 else { return Answer() }
    var raw = before
    raw.c_lflag &= ~tcflag_t(ICANON | ECHO)
    guard tcsetattr(terminal, TCSANOW, &raw) == 0 else { return Answer() }
    defer { tcsetattr(terminal, TCSANOW, &before) }
    guard write(terminal, question, question.utf8.count) == question.utf8.count else { return Answer() }
    var bytes: [UInt8] = []
    let end = ContinuousClock.now + .seconds(1)
    while bytes.count < 4096 {
      var state = pollfd(fd: terminal, events: Int16(POLLIN), revents: 0)
      let left = (end - ContinuousClock.now) / .milliseconds(1)
      guard left > 0, poll(&state, 1, Int32(left)) > 0 else { break }
      var buffer = [UInt8](repeating: 0, count: 256)
      let count = read(terminal, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer.prefix(count)
      if let attributes = bytes.lastIndex(of: UInt8(ascii: "?")),
        bytes[attributes...].contains(UInt8(ascii: "c"))
      {
        break
      }
    }
    return Answer(String(decoding: bytes, as: UTF8.self))
  }
}
