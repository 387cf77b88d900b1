import Foundation
import Langevin
import Synchronization
import Testing

/// A terminal that keeps what is written to it, and answers once to the query of its device attributes.
private final class PseudoTerminal: Sendable {
  private let screen: Int32
  private let written = Mutex<[UInt8]>([])
  let program: FileHandle

  init(answer: String, lines: UInt16 = 40) throws {
    screen = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    // Linux's TIOCSPTLCK and TIOCGPTN.
    var (lock, number): (Int32, UInt32) = (0, 0)
    try #require(ioctl(screen, 0x4004_5431, &lock) == 0 && ioctl(screen, 0x8004_5430, &number) == 0)
    let descriptor = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY)
    try #require(descriptor >= 0)
    program = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    var size = winsize(ws_row: lines, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0)
    _ = ioctl(descriptor, UInt(TIOCSWINSZ), &size)
    Thread.detachNewThread { [self] in
      var isAnswered = false
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      while case let count = read(screen, &buffer, buffer.count), count > 0 {
        written.withLock { $0 += buffer.prefix(count) }
        if !isAnswered, text.contains("\u{1B}[c") {
          isAnswered = true
          _ = write(screen, answer, answer.utf8.count)
        }
      }
    }
  }

  var text: String { String(decoding: written.withLock { $0 }, as: UTF8.self) }
}

/// What pictures will be is seen on the way.
struct PreviewTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private static let arguments = [
    "generate", "red apple", "--seed", "1", "--device", "cpu", "--steps", "6", "--preview", "every:2",
  ]

  /// What a run writes to a terminal that answers so.
  private func seen(answering answer: String, environment: [String: String] = [:]) throws -> String {
    let terminal = try PseudoTerminal(answer: answer)
    let process = Process()
    process.executableURL = Tool.executable
    process.arguments = Self.arguments + ["--output", "p.png"]
    process.currentDirectoryURL = scratch.folder
    let named = ["TERM": "xterm-256color", "TERM_PROGRAM": "", "LC_TERMINAL": ""]
    var variables = ProcessInfo.processInfo.environment.merging(named) { $1 }.merging(environment) { $1 }
    for name in ["TMUX", "STY"] { variables[name] = nil }
    process.environment = variables
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = terminal.program
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(terminal.text)")
    // The last bytes may still be on their way.
    for _ in 0..<100 where !terminal.text.contains("total") { Thread.sleep(forTimeInterval: 0.02) }
    #expect(try scratch.files() == ["p.png"])
    return terminal.text
  }

  /// The previews of the same run, kept in a folder: after steps 2, 4 and 6.
  private func expected() throws -> [Picture] {
    let other = try Scratch()
    let outcome = try Tool.run(
      Self.arguments + ["--output", "p.png", "--preview-folder", "seen"], in: other.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    return try [2, 4, 6].map { try Picture.read(other.url("seen/p-step-000\($0).png")).picture }
  }

  private func picture(base64: String) throws -> Picture {
    let url = scratch.url("decoded.png")
    try #require(Data(base64Encoded: base64)).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    return try Picture.read(url).picture
  }

  /// The places where a drawing begins: each time the cursor goes up by the same lines, and only once is room made.
  private func expectOnePlace(_ text: String, rows: Int) {
    #expect(text.components(separatedBy: "\u{1B}[\(rows)A\u{1B}7").count == 4, "\(text)")
    #expect(text.components(separatedBy: "\u{1B}8\u{1B}[\(rows)B").count == 4)
    #expect(text.components(separatedBy: String(repeating: "\r\n", count: rows)).count == 2)
  }

  @Test func onTerminalsWithKittysProtocol() throws {
    let text = try seen(answering: "\u{1B}_Gi=31;OK\u{1B}\\\u{1B}[6;20;10t\u{1B}[?62;c")
    let drawings = text.components(separatedBy: "\u{1B}_G").dropFirst().filter { $0.hasPrefix("a=T") }
    #expect(drawings.count == 3)
    expectOnePlace(text, rows: 16)
    for (drawing, expected) in zip(drawings, try expected()) {
      #expect(drawing.contains(",r=16,m=0;") && drawing.contains(",C=1,"), "\(drawing.prefix(80))")
      let payload = try #require(drawing.components(separatedBy: "\u{1B}\\")[0].split(separator: ";").last)
      let small = try picture(base64: String(payload))
      #expect(small.width == 16)
      #expect(small.resized(width: 64, height: 64, filter: .bilinear) == expected)
    }
  }

  @Test func onTerminalsLikeITerm2() throws {
    let text = try seen(answering: "", environment: ["TERM_PROGRAM": "iTerm.app"])
    #expect(!text.contains("\u{1B}[c"), "nobody need be asked")
    let drawings = text.components(separatedBy: "\u{1B}]1337;File=").dropFirst()
    #expect(drawings.count == 3)
    expectOnePlace(text, rows: 16)
    for (drawing, expected) in zip(drawings, try expected()) {
      #expect(drawing.hasPrefix("inline=1;size=") && drawing.contains(";height=16;"))
      let payload = try #require(drawing.components(separatedBy: "\u{07}")[0].split(separator: ":").last)
      #expect(
        try picture(base64: String(payload)).resized(width: 64, height: 64, filter: .bilinear) == expected)
    }
  }

  @Test func onTerminalsWithSixels() throws {
    let text = try seen(answering: "\u{1B}[6;12;6t\u{1B}[?62;4;22c")
    let drawings = text.components(separatedBy: "\u{1B}P0;1;0q").dropFirst()
    #expect(drawings.count == 3)
    expectOnePlace(text, rows: 16)
    for (drawing, expected) in zip(drawings, try expected()) {
      let picture = try decodeSixels(drawing.components(separatedBy: "\u{1B}\\")[0])
      #expect(picture.width == 16 * 12 && picture.height == 16 * 12)
      // What is dithered is right in the mean.
      let (a, b) = (
        picture.resized(width: 16, height: 16, filter: .bilinear),
        expected.resized(width: 16, height: 16, filter: .bilinear)
      )
      let errors = zip(a.pixels, b.pixels).map { abs(Int($0) - Int($1)) }
      #expect(errors.reduce(0, +) < 8 * errors.count, "\(errors.reduce(0, +) / errors.count)")
    }
  }

  /// As a terminal draws them.
  private func decodeSixels(_ text: String) throws -> Picture {
    var (colors, color, x, top, count): ([Int: [UInt8]], Int, Int, Int, Int) = ([:], 0, 0, 0, 1)
    var rest = Substring(text)
    func numbers() -> [Int] {
      let digits = rest.prefix { $0.isNumber || $0 == ";" }
      rest = rest.dropFirst(digits.count)
      return digits.split(separator: ";").compactMap { Int($0) }
    }
    try #require(rest.removeFirst() == "\"")
    let size = numbers()
    try #require(size.count == 4 && size[0] == size[1])
    let (width, height) = (size[2], size[3])
    var pixels = [UInt8](repeating: 0, count: width * height * 3)
    while let character = rest.popFirst() {
      switch character {
      case "#":
        let parts = numbers()
        color = parts[0]
        if parts.count == 5 { colors[color] = parts[2...].map { UInt8($0 * 255 / 100) } }
      case "!": count = numbers()[0]
      case "$": x = 0
      case "-": (x, top) = (0, top + 6)
      default:
        let mask = Int(try #require(character.asciiValue)) - 63
        for column in x..<x + count {
          for row in 0..<6 where mask & 1 << row != 0 {
            let place = ((top + row) * width + column) * 3
            pixels.replaceSubrange(place..<place + 3, with: try #require(colors[color]))
          }
        }
        (x, count) = (x + count, 1)
      }
    }
    return try Picture(width: width, height: height, pixels: pixels)
  }

  @Test func elsewhereInAFileThatIsReplacedAndGoesAway() throws {
    // A file of the user's is none of it.
    try Data("mine".utf8).write(to: scratch.url("p-preview.png"))
    let running = try Tool.start(Self.arguments + ["--output", "p.png"], in: scratch.folder)
    let url = scratch.url("p-preview-1.png")
    var seen: [Picture] = []
    while running.process.isRunning {
      if let file = try? Picture.read(url), file.picture != seen.last { seen.append(file.picture) }
      Thread.sleep(forTimeInterval: 0.003)
    }
    let outcome = try running.finish()
    #expect(outcome.status == 0 && !seen.isEmpty, "\(outcome.errors)")
    #expect(outcome.errorLines.contains("previews are in p-preview-1.png until the picture is there"))
    let expected = try expected()
    #expect(seen.allSatisfy(expected.contains))
    #expect(try scratch.files() == ["p-preview.png", "p.png"])
    #expect(try Data(contentsOf: scratch.url("p-preview.png")) == Data("mine".utf8))
  }

  /// On terminals without pictures, too.
  @Test func aTerminalThatShowsNoPicturesGetsNone() throws {
    let text = try seen(answering: "\u{1B}[?62;22c")
    #expect(!text.contains("\u{1B}7") && text.contains("previews are in p-preview.png"), "\(text)")
  }

  @Test func anInterruptedRunLeavesNoPreview() throws {
    var arguments = Self.arguments
    arguments[arguments.firstIndex(of: "6") ?? 0] = "400"
    let running = try Tool.start(arguments + ["--output", "p.png"], in: scratch.folder)
    while running.process.isRunning, try scratch.files().isEmpty { Thread.sleep(forTimeInterval: 0.01) }
    running.process.interrupt()
    #expect(try running.finish().status == 130)
    #expect(try scratch.files() == [])
  }

  @Test(arguments: ["5", "every", "every:0", "every:x", "each:5", "every:5:1", "every:10001"])
  func otherWordsAreRefused(value: String) throws {
    try Tool.expectFailure(
      ["--preview", value], status: 64, words: ["--preview", "every:N", value], in: scratch)
  }
}
