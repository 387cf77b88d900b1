import Foundation
import Langevin
import Testing

/// `langevin profile` as a process.
struct ProfileTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func profile(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(["profile", "grinning face", "--quiet"] + arguments, in: scratch.folder)
  }

  @Test func itPrintsTablesAndWritesItsFiles() throws {
    for device in ["cpu", try Tool.pocl()] {
      let outcome = try profile([
        "--device", device, "--steps", "2", "--seed", "1", "--json", "p.json", "--trace", "t.json",
        "--roofline", "r.svg", "--output", "p.png",
      ])
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.errors.isEmpty)
      for word in [
        "device \(device)", "text encoder", "steps (2)", "decoder", "conv2d 3x3", "unet.down_blocks.0",
        "queue gaps", "kernel launches", "uploaded", "downloaded", "fallbacks: none", "steps/s", "unrecorded",
        "memory peak", "bound by",
      ] { #expect(outcome.output.contains(word), "no '\(word)' in:\n\(outcome.output)") }
      #expect(try scratch.files() == ["p.json", "p.png", "r.svg", "t.json"])

      func object(_ name: String) throws -> [String: Any] {
        try #require(
          try JSONSerialization.jsonObject(with: Data(contentsOf: scratch.url(name))) as? [String: Any])
      }
      let report = try object("p.json")
      let tables = try #require(report["profile"] as? [String: Any])
      #expect(tables["steps"] as? Int == 2)
      #expect(tables["isPartial"] as? Bool == false)
      #expect((tables["unrecordedStepSeconds"] as? [Double])?.isEmpty == false)
      #expect((report["settings"] as? [String: Any])?["seed"] as? Int == 1)
      #expect(try #require(object("t.json")["traceEvents"] as? [Any]).count > 1000)
      #expect(try String(contentsOf: scratch.url("r.svg"), encoding: .utf8).hasPrefix("<svg"))
      for file in try scratch.files() { try FileManager.default.removeItem(at: scratch.url(file)) }
    }
  }

  /// Recording changes nothing of the picture.
  @Test func thePictureIsThatOfGenerate() throws {
    let settings = ["--device", try Tool.pocl(), "--steps", "2", "--seed", "5", "--output"]
    let outcome = try profile(settings + ["profiled.png", "--cold"])
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.output.contains("kernels fill"))
    #expect(try Tool.generate(settings + ["generated.png"], in: scratch.folder).status == 0)
    let pictures = try ["profiled.png", "generated.png"].map { try Data(contentsOf: scratch.url($0)) }
    #expect(pictures[0] == pictures[1])
  }

  @Test(arguments: [
    (["--depth", "0"], Int32(64), "--depth must be 1 to 64, got 0"),
    (["--depth", "-1"], 64, "--depth must be 1 to 64, got -1"),
    (["--device", "foo"], 64, "unknown device 'foo'"),
    (["--output", "picture.bmp"], 64, ".png"),
    (["--count", "0"], 64, "--count must be 1 to 10000"),
    (["--bogus"], 64, "--bogus"),
    (["--steps", "0"], 64, "steps must be 1 to 10000, got 0"),
    (["--trace", "/proc/nonexistent/t.json"], 1, "/proc/nonexistent/t.json: cannot be written"),
    (["--json", "/proc/nonexistent/p.json"], 1, "/proc/nonexistent/p.json: cannot be written"),
    (["--roofline", "/"], 1, "it is a folder"),
    (["--model", "/missing"], 1, "/missing"),
  ])
  func badInputIsOneLine(arguments: [String], status: Int32, words: String) throws {
    let outcome = try profile(arguments)
    #expect(outcome.status == status, "\(outcome.errors)")
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.hasPrefix("langevin: error: "))
    #expect(outcome.errors.contains(words), "no '\(words)' in: \(outcome.errors)")
    #expect(outcome.output.isEmpty)
    #expect(try scratch.files().isEmpty)
  }

  /// Ctrl-C shows what was recorded, and says that it is not all.
  @Test func anInterruptShowsAPartialProfile() throws {
    let running = try Tool.start(
      ["profile", "grinning face", "--device", "cpu", "--steps", "500", "--cold", "--json", "p.json"],
      in: scratch.folder)
    let deadline = ContinuousClock.now + .seconds(60)
    while !running.errors.contains("step 1/500"), ContinuousClock.now < deadline { usleep(20_000) }
    #expect(running.errors.contains("step 1/500"), "\(running.errors)")
    kill(running.process.processIdentifier, SIGINT)
    let outcome = try running.finish()
    #expect(outcome.status == 130, "\(outcome.errors)")
    #expect(outcome.output.contains("partial: the run was stopped before its end"))
    #expect(outcome.output.contains("steps"))
    #expect(outcome.errors.contains("stopped; kept p.json"))
    #expect(try scratch.files() == ["p.json"])
  }
}
