import Foundation
import LangevinTensor
import LangevinValidation
import Testing

/// `langevin validate` as a process.
struct ValidateTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func validate(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(["validate"] + arguments, in: scratch.folder)
  }

  private func report() throws -> ValidationReport {
    try JSONDecoder().decode(ValidationReport.self, from: Data(contentsOf: scratch.url("v.json")))
  }

  @Test func aLineAnOperationAndASummary() throws {
    let outcome = try validate(["--device", "cpu", "--op", "softmax", "--json", "v.json"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.count == 2 && lines[0].contains("softmax") && lines[1].contains("passes"), "\(lines)")
    let device = try #require(try report().device("cpu"))
    #expect(device.verdict("softmax")?.passes == true && device.verdict("matmul") == nil)
    #expect(device.cases.count == device.verdict("softmax")?.passed)
    #expect(try !report().isPartial)
  }

  @Test func bothFamiliesOfPocl() throws {
    for family in ["cpu", "gpu"] {
      let outcome = try validate(
        ["--device", Tool.pocl(), "--family", family, "--op", "layer_norm", "--json", "v.json"])
      #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
      #expect(try report().devices.first?.family == family)
    }
  }

  @Test func anUnknownOperationListsThem() throws {
    let outcome = try validate(["--device", "cpu", "--op", "dance"])
    #expect(outcome.status == 64 && outcome.output.isEmpty)
    for word in ["'dance'", "matmul", "conv2d", "attention", "silu", "reduce_sum"] {
      #expect(outcome.errors.contains(word), "\(outcome.errors)")
    }
  }

  @Test(arguments: [
    (["--shapes", "round"], 64, "edge"), (["--device", "opencl:99"], 64, "opencl:99"),
    (["--device", "cpu", "--family", "gpu"], 64, "--family"),
    (["--json", "/proc/nonexistent/v.json"], 1, "/proc/nonexistent/v.json"),
    (["--replay", "/nonexistent.json"], 1, "/nonexistent.json"),
    (["--replay", "{}"], 1, "no replay"),
    (["--replay", #"{"format": 99, "version": "9.9"}"#], 1, "langevin 9.9"),
  ])
  func badInputIsOneLine(arguments: [String], status: Int32, word: String) throws {
    let outcome = try validate(arguments)
    #expect(outcome.status == status && outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.contains(word), "\(outcome.errors)")
    #expect(outcome.output.isEmpty)
  }

  @Test func replaysFromTextAndFile() throws {
    let test = OperationCase("geglu again", .geglu, [[3, 10]], kinds: [.wide])
    let text = Replay(version: "0.1.0", test: test, dtype: .float16, seed: 7).text
    try Data(text.utf8).write(to: scratch.url("replay.json"))
    for argument in [text, "replay.json"] {
      let outcome = try validate(["--device", "cpu", "--replay", argument, "--json", "v.json"])
      #expect(outcome.status == 0, "\(outcome.errors)")
      let report = try report()
      #expect(report.seed == 7)
      #expect(report.devices[0].cases.map(\.dtype) == [.float16])
      #expect(report.devices[0].cases[0].inputs == [TensorSpec([3, 10], .float16)])
    }
  }

  /// A change to a model that dispatches other shapes needs `make shapes`.
  @Test func theRecordedShapesAreTheModels() throws {
    let outcome = try Tool.run(["harvest", "Shapes.swift"], in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
    let recorded = root.appendingPathComponent("Sources/LangevinValidation/Cases/RecordedShapes.swift")
    #expect(try Data(contentsOf: scratch.url("Shapes.swift")) == Data(contentsOf: recorded))
  }

  @Test func anInterruptKeepsWhatThereIs() throws {
    let running = try Tool.start(
      ["validate", "--device", "cpu", "--shapes", "model", "--verbose", "--json", "v.json"],
      in: scratch.folder)
    // Verbose lines show that cases are running.
    let deadline = ContinuousClock.now + .seconds(60)
    while !running.errors.contains("passed"), ContinuousClock.now < deadline { usleep(50_000) }
    running.process.interrupt()
    let outcome = try running.finish()
    #expect(outcome.status == 130, "\(outcome.errors)")
    #expect(outcome.errors.contains("partial"))
    #expect(outcome.output.contains("stopped after "), "\(outcome.output)")
    #expect(!outcome.output.contains("passes"), "\(outcome.output)")
    let report = try report()
    #expect(report.isPartial && !report.devices[0].cases.isEmpty)
  }
}
