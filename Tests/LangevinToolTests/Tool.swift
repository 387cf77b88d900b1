import Foundation
import Langevin
import LangevinOpenCL
import LangevinTestSupport
import Testing

typealias Scratch = TemporaryFolder

extension TemporaryFolder {
  var folder: URL { url }

  /// A copy of the shipped model.
  func model() throws -> URL {
    let copy = url("model")
    try FileManager.default.copyItem(at: DefaultModel.url, to: copy)
    return copy
  }
}

/// The built tool, run as a process.
struct Tool {
  static var executable: URL {
    let other = ProcessInfo.processInfo.environment["LANGEVIN_TOOL"].map { URL(fileURLWithPath: $0) }
    return other ?? Bundle.main.bundleURL.appendingPathComponent("langevin")
  }

  struct Outcome {
    let status: Int32
    let output: String
    let errors: String
    var errorLines: [String] { errors.split(separator: "\n").map(String.init) }
  }

  /// A process whose two streams go to files.
  struct Running {
    let process: Process
    let logs: Scratch

    var errors: String { (try? String(contentsOf: logs.url("err"), encoding: .utf8)) ?? "" }

    func finish() throws -> Outcome {
      process.waitUntilExit()
      #expect(process.terminationReason == .exit, "the tool died of a signal: \(errors)")
      return Outcome(
        status: process.terminationStatus, output: try String(contentsOf: logs.url("out"), encoding: .utf8),
        errors: errors)
    }
  }

  static func start(_ arguments: [String], in folder: URL, environment: [String: String] = [:]) throws
    -> Running
  {
    try start(executable, arguments, in: folder, environment: environment, input: .nullDevice)
  }

  /// Takes the place of a shell that redirects its streams, after another of the shell's commands. Descriptor 0 is a
  /// pipe whose reader is gone.
  static func run(_ arguments: [String], redirected: String, after first: String = ":", in folder: URL) throws
    -> Outcome
  {
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    close(ends[0])
    let brokenPipe = FileHandle(fileDescriptor: ends[1], closeOnDealloc: true)
    return try start(
      URL(fileURLWithPath: "/bin/sh"),
      ["-c", "\(first); exec \"$0\" \"$@\" \(redirected)", executable.path] + arguments, in: folder,
      input: brokenPipe
    ).finish()
  }

  static func start(
    _ program: URL, _ arguments: [String], in folder: URL, environment: [String: String] = [:],
    input: FileHandle
  ) throws -> Running {
    let logs = try Scratch()
    let process = Process()
    process.executableURL = program
    process.arguments = arguments
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    for (name, stream) in [("out", \Process.standardOutput), ("err", \Process.standardError)] {
      try #require(FileManager.default.createFile(atPath: logs.url(name).path, contents: nil))
      process[keyPath: stream] = try FileHandle(forWritingTo: logs.url(name))
    }
    process.standardInput = input
    try process.run()
    return Running(process: process, logs: logs)
  }

  static func run(_ arguments: [String], in folder: URL, environment: [String: String] = [:]) throws
    -> Outcome
  {
    try start(arguments, in: folder, environment: environment).finish()
  }

  /// `generate "grinning face" --quiet` with these arguments.
  static func generate(_ arguments: [String], in folder: URL, environment: [String: String] = [:]) throws
    -> Outcome
  {
    try run(["generate", "grinning face", "--quiet"] + arguments, in: folder, environment: environment)
  }

  /// Checks that a run failed with one line on standard error that has these words, and wrote nothing.
  static func expectFailure(
    _ arguments: [String], status: Int32 = 1, words: [String], environment: [String: String] = [:],
    in scratch: Scratch, location: SourceLocation = #_sourceLocation
  ) throws {
    let before = try scratch.files()
    let outcome = try generate(arguments, in: scratch.folder, environment: environment)
    #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: location)
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)", sourceLocation: location)
    #expect(outcome.errors.hasPrefix("langevin: error: "), "\(outcome.errors)", sourceLocation: location)
    for word in words {
      #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)", sourceLocation: location)
    }
    #expect(outcome.output.isEmpty, sourceLocation: location)
    #expect(try scratch.files() == before, sourceLocation: location)
  }

  /// The name of PoCL's device. A machine without PoCL fails the tests rather than skipping them.
  static func pocl() throws -> String {
    let device = OpenCLDevices.all().first { $0.platform == "Portable Computing Language" }
    let found = try #require(device, "PoCL is missing: apt install pocl-opencl-icd")
    return "opencl:\(found.index)"
  }
}

/// Edits safetensors files byte by byte, past every check of the library's own writer.
struct SafetensorsEdit {
  var header: [String: Any]
  var data: Data
  let url: URL

  init(_ url: URL) throws {
    self.url = url
    let file = try Data(contentsOf: url)
    let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    header = try #require(try JSONSerialization.jsonObject(with: file[8..<8 + length]) as? [String: Any])
    data = Data(file[(8 + length)...])
  }

  /// The same contents, to be saved as another file.
  init(_ other: SafetensorsEdit, at url: URL) { (header, data, self.url) = (other.header, other.data, url) }

  func entry(_ name: String) throws -> [String: Any] { try #require(header[name] as? [String: Any]) }

  func save() throws {
    let json = try JSONSerialization.data(withJSONObject: header)
    let length = (0..<8).map { UInt8(truncatingIfNeeded: json.count >> (8 * $0)) }
    try (Data(length) + json + data).write(to: url)
  }
}
