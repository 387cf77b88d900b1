import Foundation
import Langevin
import LangevinJSON
import Testing

/// `langevin profile --train` and `langevin bisect --train` as processes.
struct TrainedStepTests {
  let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    let data = scratch.url("data")
    try FileManager.default.createDirectory(at: data, withIntermediateDirectories: false)
    let pixels = (0..<768).map { UInt8(truncatingIfNeeded: $0 * 3) }
    try Picture(width: 16, height: 16, pixels: pixels).writePNG(to: data.appendingPathComponent("a.png"))
    try Data("wave\n".utf8).write(to: data.appendingPathComponent("a.txt"))
    try write(.init("task", .string("diffusion")))
  }

  private func write(_ first: StrictJSON.Member) throws {
    let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let model = tests.appending(path: "Golden/Fixtures/tiny-ddpm")
    let settings = StrictJSON.object([
      first, .init("model", .string(model.path)), .init("data", .strings([scratch.url("data").path])),
      .init("batch", .integer(2)),
    ])
    try settings.data.write(to: scratch.url("train.json"))
  }

  @Test func aStepIsProfiled() throws {
    let outcome = try Tool.run(
      ["profile", "--train", "train.json", "--device", "cpu", "--quiet", "--json", "p.json"],
      in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    for word in [
      "a step of training, diffusion", "batch 2", "forward", "backward unet.down_blocks.0", "update",
      "adam_w",
      "steps: 1", "unrecorded",
    ] { #expect(outcome.output.contains(word), "no '\(word)' in:\n\(outcome.output)") }
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: scratch.url("p.json")))
    let report = try #require(json as? [String: Any])
    #expect((report["settings"] as? [String: Any])?["task"] as? String == "diffusion")
    // The folder of a run will do, and nothing is left in it.
    let again = try Tool.run(
      ["profile", "--train", ".", "--device", "cpu", "--quiet", "--cold"], in: scratch.folder)
    #expect(again.status == 0, "\(again.errors)")
    #expect(try scratch.files() == ["data", "p.json", "train.json"])
  }

  @Test func aStepIsBisected() throws {
    let outcome = try Tool.run(
      ["bisect", "--train", "train.json", "--device", try Tool.pocl(), "--quiet"], in: scratch.folder)
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.output.contains("operations agree in"))
  }

  @Test(arguments: ["profile", "bisect"])
  func whatDoesNotGoTogetherIsRefused(command: String) throws {
    for (arguments, words) in [
      (["red apple"], "--train takes no prompts"), (["--steps", "3"], "--train does not go with --steps"),
      (["--sampler=ddim"], "--train does not go with --sampler"),
    ] {
      let outcome = try Tool.run([command, "--train", "train.json"] + arguments, in: scratch.folder)
      #expect(outcome.status == 64 && outcome.errorLines.count <= 2, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
    for (first, words) in [
      (StrictJSON.Member("task", .string("cooking")), "train.json: 'task' must be "),
      (StrictJSON.Member("tusk", .string("diffusion")), "it names no task"),
    ] {
      try write(first)
      let outcome = try Tool.run([command, "--train", "train.json", "--device", "cpu"], in: scratch.folder)
      #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(outcome.errors.contains(words), "\(outcome.errors)")
    }
    let missing = try Tool.run([command, "--train", "missing.json", "--device", "cpu"], in: scratch.folder)
    #expect(missing.status == 1 && missing.errors.contains("missing.json"), "\(missing.errors)")
  }
}
