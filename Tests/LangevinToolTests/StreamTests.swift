import Foundation
import Testing

/// Standard output and standard error may lead anywhere: no run dies of a signal, lost messages are no failure, and
/// lost results are.
struct StreamTests {
  /// Where a stream leads, as a shell's redirection.
  enum Sink: String, CaseIterable {
    case full = ">/dev/full"
    case closed = ">&-"
    /// Descriptor 0 is a pipe whose reader is gone.
    case brokenPipe = ">&0"
    /// A file that is larger already than the process may make one; drivers' own files are not.
    case limited = ">>limited"
  }

  struct Command: CustomStringConvertible, Sendable {
    let arguments: [String]
    /// Where all is well.
    let status: Int32
    let hasResults: Bool
    var description: String { arguments.joined(separator: " ") }
  }

  static let commands = [
    Command(arguments: ["--version"], status: 0, hasResults: true),
    Command(arguments: ["generate", "--help"], status: 0, hasResults: true),
    Command(arguments: ["samplers"], status: 0, hasResults: true),
    Command(arguments: ["samplers", "--json"], status: 0, hasResults: true),
    Command(arguments: ["devices"], status: 0, hasResults: true),
    Command(
      arguments: ["generate", "dog", "--device", "cpu", "--steps", "1", "--output", "p.png"], status: 0,
      hasResults: true),
    Command(
      arguments: ["generate", "dog", "--device", "cpu", "--steps", "1", "--output", "p.png", "--json"],
      status: 0, hasResults: true),
    Command(
      arguments: ["validate", "--device", "cpu", "--shapes", "tiny", "--op", "add"], status: 0,
      hasResults: true),
    Command(arguments: ["generate", "dog", "--bogus"], status: 64, hasResults: false),
    Command(arguments: ["generate", "dog", "--model", "/missing"], status: 1, hasResults: false),
  ]

  @Test(arguments: commands) func lostMessagesAreNoFailure(command: Command) throws {
    let scratch = try Scratch()
    let healthy = try run(command, in: scratch)
    #expect(healthy.status == command.status && healthy.output.isEmpty != command.hasResults, "\(healthy)")
    for sink in Sink.allCases {
      let outcome = try run(command, errors: sink, in: scratch)
      #expect(outcome.status == command.status, "\(sink): \(outcome)")
      // A report has times in it.
      if !command.arguments.contains("--json"), command.arguments[0] != "validate" {
        #expect(outcome.output == healthy.output, "\(sink)")
      }
    }
  }

  @Test(arguments: commands) func lostResultsAreAFailureOfOneLine(command: Command) throws {
    let scratch = try Scratch()
    let words = [
      Sink.full: "No space left on device", .closed: "standard output is closed", .limited: "File too large",
    ]
    for sink in Sink.allCases {
      let outcome = try run(command, output: sink, in: scratch)
      let both = try run(command, output: sink, errors: sink, in: scratch)
      #expect(both.status == (command.hasResults ? 1 : command.status), "\(sink): \(both)")
      #expect(both.errors.isEmpty && both.output.isEmpty)
      guard command.hasResults else {
        #expect(outcome.status == command.status, "\(sink): \(outcome)")
        continue
      }
      let errors = outcome.errorLines.filter { $0.hasPrefix("langevin: error: standard output") }
      #expect(outcome.status == 1, "\(sink): \(outcome)")
      // Who reads a pipe with `head` wants no line about it.
      #expect(errors.count == (words[sink] == nil ? 0 : 1), "\(sink): \(outcome)")
      if let word = words[sink] { #expect(errors.first?.contains(word) == true, "\(outcome.errors)") }
    }
  }

  /// A file that is opened while descriptor 1 or 2 is closed would get its number, and the log.
  @Test(arguments: ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
  func nothingIsWrittenIntoAFileThatTookTheNumberOfAClosedStream(redirection: String) throws {
    let scratch = try Scratch()
    let arguments = [
      "generate", "dog", "--device", "cpu", "--steps", "2", "--seed", "1", "--verbose", "--output", "p.png",
      "--save-latents", "l.safetensors",
    ]
    let healthy = try Tool.run(arguments, in: scratch.folder)
    #expect(healthy.status == 0)
    let files = try ["p.png", "l.safetensors"].map { try Data(contentsOf: scratch.url($0)) }
    let outcome = try Tool.run(arguments, redirected: redirection, in: scratch.folder)
    #expect(outcome.status == (redirection == "2>&-" ? 0 : 1))
    #expect(try ["p.png", "l.safetensors"].map { try Data(contentsOf: scratch.url($0)) } == files)
  }

  /// A file's limit is told in one line as well, and leaves nothing behind.
  @Test func aFileThatMayNotGrowIsAnErrorOfOneLine() throws {
    let scratch = try Scratch()
    let arguments = [
      "generate", "dog", "--device", "cpu", "--steps", "1", "--quiet", "--output", "p.png",
    ]
    let outcome = try Tool.run(arguments, redirected: "", after: "ulimit -f 1", in: scratch.folder)
    #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome)")
    #expect(outcome.errors.contains("p.png: cannot be written: File too large"), "\(outcome.errors)")
    #expect(try scratch.files() == [])
  }

  // MARK: Running

  /// What is not redirected goes to files.
  private func run(
    _ command: Command, output: Sink? = nil, errors: Sink? = nil, in scratch: Scratch
  ) throws -> Tool.Outcome {
    let limited = scratch.url("limited")
    if output == .limited || errors == .limited {
      try Data().write(to: limited)
      try #require(truncate(limited.path, 256 << 20) == 0)
    }
    defer { try? FileManager.default.removeItem(at: limited) }
    let redirections = [output.map { "1" + $0.rawValue }, errors.map { "2" + $0.rawValue }].compactMap { $0 }
    return try Tool.run(
      command.arguments, redirected: redirections.joined(separator: " "), after: "ulimit -f 131072",
      in: scratch.folder)
  }
}
