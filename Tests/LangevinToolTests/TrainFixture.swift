import Foundation
import LangevinTestSupport
import Testing

@testable import Langevin

/// Small pictures, and runs of `langevin train` on them with tiny models.
final class TrainFixture: Sendable {
  let scratch: Scratch
  static let models = Fixtures.url

  /// Pictures of waves in `data`, each with a caption in metadata.jsonl.
  init(pictures count: Int = 5) throws {
    scratch = try Scratch()
    try FileManager.default.createDirectory(at: data, withIntermediateDirectories: true)
    var lines = ""
    for index in 0..<count {
      let pixels = (0..<768).map { place in
        let (x, y, channel) = (Double(place / 3 % 16), Double(place / 48), Double(place % 3))
        return UInt8(127.5 + 127 * sin(x * Double(index + 1) / 7 + y * channel / 9))
      }
      let name = "picture-\(index).png"
      try Picture(width: 16, height: 16, pixels: pixels).writePNG(to: data.appending(path: name))
      lines += #"{"file_name": "\#(name)", "text": "wave number \#(index)"}"# + "\n"
    }
    try write(lines, to: "data/metadata.jsonl")
  }

  var data: URL { scratch.url("data") }

  func write(_ text: String, to name: String) throws {
    try Data(text.utf8).write(to: scratch.url(name))
  }

  /// `train diffusion` with the least that there is to say, and more.
  static func arguments(
    _ model: String, steps: Int = 30, output: String = "run", device: String = "cpu", _ more: [String] = []
  ) -> [String] {
    [
      "train", "diffusion", "-m", models.appending(path: model).path, "--data", "data", "--output", output,
      "--steps", "\(steps)", "--batch", "2", "--sample-every", "0", "--ema", "0.9", "--seed", "7", "--quiet",
      "--device", device,
    ] + (model == "tiny-sd" ? ["--train-text-encoder"] : []) + more
  }

  func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Tool.Outcome {
    try Tool.run(arguments, in: scratch.folder, environment: environment)
  }

  /// A run that must succeed.
  func train(_ arguments: [String], location: SourceLocation = #_sourceLocation) throws {
    let outcome = try run(arguments)
    #expect(outcome.status == 0, "\(outcome.errors)", sourceLocation: location)
    #expect(outcome.errors.isEmpty, "\(outcome.errors)", sourceLocation: location)
  }

  func resume(_ more: [String] = [], of run: String = "run", device: String = "cpu") -> [String] {
    ["train", "resume", run, "--device", device, "--quiet"] + more
  }

  // MARK: What a run leaves

  /// The numbers of the steps whose states are there.
  func states(_ run: String = "run") throws -> [Int] {
    let folder = scratch.url(run).appending(path: "checkpoints").path
    guard FileManager.default.fileExists(atPath: folder) else { return [] }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    return try names.map { name in
      let digits = try #require(name.wholeMatch(of: /step-(\d{8})\.safetensors/), "\(name) was left behind")
      return try #require(Int(digits.1))
    }
  }

  func state(_ step: Int, _ run: String = "run") -> URL {
    scratch.url(run).appending(path: "checkpoints/step-\(String(format: "%08d", step)).safetensors")
  }

  func log(_ run: String = "run") throws -> [LogEntry] {
    try TrainingLog.read(scratch.url(run).appending(path: "log.jsonl"))
  }

  /// Every file of the run's model with its bytes.
  func model(_ run: String = "run") throws -> [String: Data] {
    let folder = scratch.url(run).appending(path: "model")
    let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
    return try names.reduce(into: [:]) { files, name in
      var isFolder: ObjCBool = false
      let file = folder.appending(path: name)
      _ = FileManager.default.fileExists(atPath: file.path, isDirectory: &isFolder)
      if !isFolder.boolValue { files[name] = try Data(contentsOf: file) }
    }
  }

  /// Checks that two runs, perhaps of two fixtures, came to the same bits at a step and in their models, and noted the
  /// same course.
  func expectSame(
    _ run: String, as other: TrainFixture, _ otherRun: String, step: Int, _ what: String,
    location: SourceLocation = #_sourceLocation
  ) throws {
    #expect(try states(run).last == step, "\(what)", sourceLocation: location)
    #expect(
      try Data(contentsOf: state(step, run)) == Data(contentsOf: other.state(step, otherRun)),
      "\(what): states differ", sourceLocation: location)
    let (model, expected) = (try model(run), try other.model(otherRun))
    #expect(model.keys.sorted() == expected.keys.sorted(), "\(what)", sourceLocation: location)
    for (name, bytes) in expected where model[name] != bytes {
      Issue.record("\(what): model/\(name) differs", sourceLocation: location)
    }
    let (log, course) = (try log(run), try other.log(otherRun))
    #expect(log.map(\.step) == Array(1...step), "\(what)", sourceLocation: location)
    #expect(log.map(\.loss) == course.prefix(step).map(\.loss), "\(what)", sourceLocation: location)
    #expect(
      log.map(\.gradientNorm) == course.prefix(step).map(\.gradientNorm), "\(what)", sourceLocation: location)
  }

  /// Waits until a running command has logged so many steps.
  func await(_ steps: Int, of running: Tool.Running, _ run: String = "run") throws {
    let end = ContinuousClock.now + .seconds(120)
    let log = scratch.url(run).appending(path: "log.jsonl")
    while true {
      let bytes = (try? Data(contentsOf: log)) ?? Data()
      if bytes.count(where: { $0 == UInt8(ascii: "\n") }) >= steps { return }
      try #require(running.process.isRunning && ContinuousClock.now < end, "\(running.errors)")
      usleep(1000)
    }
  }
}
