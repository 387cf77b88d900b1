import Foundation
import LangevinCPU
import LangevinTensor
import LangevinTestSupport
import Testing

@testable import Langevin

/// One training run on several ranks: processes of `mpirun`, and threads.
@Suite(.serialized) struct TrainRanksTests {
  private static let mpirun = URL(fileURLWithPath: "/usr/bin/mpirun.openmpi")
  private static let hasMPI = FileManager.default.isExecutableFile(atPath: mpirun.path)
  private static let missing: Comment = "mpirun is missing: apt install openmpi-bin"
  private static let model = Fixtures.url.appending(path: "tiny-sd")

  /// Five pictures with captions.
  private func data(in scratch: Scratch) throws {
    let folder = scratch.url("data")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    for index in 0..<5 {
      let pixels = (0..<16 * 16 * 3).map { place in
        let (x, y) = (Double(place % 48), Double(place / 48))
        let wave: Double = sin(x * Double(index + 1) / 40 + y)
        return UInt8(127.5 + 127 * wave)
      }
      try Picture(width: 16, height: 16, pixels: pixels).writePNG(
        to: folder.appendingPathComponent("\(index).png"))
      try Data("wave number \(index)".utf8).write(to: folder.appendingPathComponent("\(index).txt"))
    }
  }

  private func arguments(_ run: String, steps: Int, _ more: [String]) -> [String] {
    // Where float32 rounds otherwise, AdamW's first steps turn a gradient of nearly nothing into a step of any size; so
    // its smallest divisor is a share of these gradients.
    [
      "train", "diffusion", "-m", Self.model.path, "--data", "data", "--output", run, "--steps", "\(steps)",
      "--batch", "4", "--epsilon", "1e-3", "--learning-rate", "1e-3", "--ema", "0.9", "--sample-every", "0",
      "--quiet", "--dump-state", run + ".safetensors",
    ] + more
  }

  private func start(_ ranks: Int, _ arguments: [String], in scratch: Scratch) throws -> Tool.Running {
    try Tool.start(
      Self.mpirun,
      ["--allow-run-as-root", "--oversubscribe", "-n", "\(ranks)", Tool.executable.path] + arguments,
      in: scratch.folder, input: .nullDevice)
  }

  private func losses(_ run: String, in scratch: Scratch) throws -> [Double] {
    let log = try String(contentsOf: scratch.url(run).appendingPathComponent("log.jsonl"), encoding: .utf8)
    return try log.split(separator: "\n").map { line in
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      return try #require(object?["loss"] as? Double)
    }
  }

  private func expectEqual(_ a: [Double], _ b: [Double], _ what: Comment) {
    #expect(a.count == b.count, what)
    for (step, pair) in zip(a, b).enumerated() {
      #expect(abs(pair.0 - pair.1) <= 1e-5 * abs(pair.0), "\(what): step \(step): \(pair)")
    }
  }

  @Test func ranksOnThreadsHaveTheLossesOfOne() throws {
    let scratch = try Scratch()
    try data(in: scratch)
    for (run, devices) in [("one", "cpu"), ("two", "cpu,cpu"), ("four", "cpu,cpu,cpu,cpu")] {
      let outcome = try Tool.run(arguments(run, steps: 20, ["--devices", devices]), in: scratch.folder)
      try #require(outcome.status == 0, "\(outcome.errors)")
    }
    let one = try losses("one", in: scratch)
    #expect(one.count == 20)
    expectEqual(one, try losses("two", in: scratch), "two")
    expectEqual(one, try losses("four", in: scratch), "four")
  }

  @Test(.enabled(if: hasMPI, missing)) func processesHaveTheLossesOfOneAndTheSameBitsEachTime() throws {
    let scratch = try Scratch()
    try data(in: scratch)
    let alone = try Tool.run(arguments("one", steps: 20, ["--device", "cpu"]), in: scratch.folder)
    try #require(alone.status == 0, "\(alone.errors)")
    for (run, steps) in [("a", 20), ("b", 11)] {
      let outcome = try start(2, arguments(run, steps: steps, ["--device", "cpu"]), in: scratch).finish()
      try #require(outcome.status == 0, "\(outcome.errors)")
      // Only the first rank writes.
      #expect(outcome.output.split(separator: "\n").count == 1, "\(outcome.output)")
    }
    expectEqual(try losses("one", in: scratch), try losses("a", in: scratch), "mpirun")
    // The rest of the second run, from its state, which the first rank gives to the other.
    let rest = try start(
      2,
      [
        "train", "resume", "b", "--steps", "20", "--device", "cpu", "--quiet", "--dump-state",
        "b.safetensors",
      ], in: scratch
    ).finish()
    try #require(rest.status == 0, "\(rest.errors)")
    #expect(try losses("a", in: scratch) == losses("b", in: scratch))
    #expect(
      try Data(contentsOf: scratch.url("a.safetensors")) == Data(contentsOf: scratch.url("b.safetensors")))
  }

  @Test(.enabled(if: hasMPI, missing)) func aKilledRankEndsAllAndTheStateIsIntact() throws {
    let scratch = try Scratch()
    try data(in: scratch)
    let running = try start(
      2, arguments("run", steps: 100_000, ["--device", "cpu", "--checkpoint-minutes", "0.005"]), in: scratch)
    let states = scratch.url("run").appendingPathComponent("checkpoints")
    func kept() -> [String] {
      ((try? FileManager.default.contentsOfDirectory(atPath: states.path)) ?? []).filter {
        $0.hasSuffix(".safetensors") && !$0.hasPrefix(".")
      }.sorted()
    }
    for _ in 0..<600 where kept().count < 2 && running.process.isRunning {
      Thread.sleep(forTimeInterval: 0.1)
    }
    try #require(kept().count >= 2, "\(running.errors)")
    let ranks = children(of: running.process.processIdentifier)
    try #require(ranks.count == 2)
    let start = ContinuousClock.now
    kill(ranks[1], SIGKILL)
    let outcome = try running.finish()
    #expect(ContinuousClock.now - start < .seconds(10))
    #expect(outcome.status != 0)
    let last = try #require(kept().last?.firstMatch(of: #/step-0*(\d+)/#).flatMap { Int($0.1) })
    // One process goes on where two were.
    let rest = try Tool.run(
      ["train", "resume", "run", "--steps", "\(last + 2)", "--device", "cpu", "--quiet"],
      in: scratch.folder)
    #expect(rest.status == 0, "\(rest.errors)")
    #expect(try losses("run", in: scratch).count == last + 2)
  }

  /// In the order in which they were started.
  private func children(of parent: pid_t) -> [pid_t] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return all.compactMap { pid_t($0) }.filter { process in
      let stat = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
      let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
      return fields.count > 1 && pid_t(fields[1]) == parent
    }.sorted()
  }

  @Test func faultsAreToldOnce() throws {
    let scratch = try Scratch()
    try data(in: scratch)
    let uneven = try Tool.run(arguments("run", steps: 1, ["--devices", "cpu,cpu,cpu"]), in: scratch.folder)
    #expect(
      uneven.errorLines == [
        "langevin: error: a batch of 4 cannot be divided by 1 accumulation steps on 3 ranks"
      ], "\(uneven.errors)")
    let both = try Tool.run(
      arguments("run", steps: 1, ["--devices", "cpu,cpu", "--device", "cpu"]), in: scratch.folder)
    #expect(both.status == 64 && both.errorLines.count == 1, "\(both.errors)")
    #expect(!FileManager.default.fileExists(atPath: scratch.url("run").path))
  }
}
