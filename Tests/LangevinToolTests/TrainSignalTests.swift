import Foundation
import LangevinJSON
import Testing

@testable import Langevin

/// However a run is stopped, it leaves what it has learnt, and says how to go on.
@Suite struct TrainSignalTests {
  /// Long enough that no test sees its end.
  private static let many = 1_000_000

  @Test(arguments: [SIGINT, SIGTERM]) func aSignalFinishesTheStepAndKeepsIt(signal: Int32) throws {
    let fixture = try TrainFixture()
    let running = try Tool.start(
      TrainFixture.arguments("tiny-ddpm", steps: Self.many), in: fixture.scratch.folder)
    try fixture.await(2, of: running)
    kill(running.process.processIdentifier, signal)
    let outcome = try running.finish()
    #expect(outcome.status == 130 && outcome.output.isEmpty, "\(outcome)")
    let step = try #require(try fixture.log().last?.step)
    #expect(
      outcome.errorLines == [
        "langevin: stopping after this step; once more stops at once",
        "langevin: stopped; step \(step) of \(Self.many) is kept; go on with: langevin train resume run",
      ], "\(outcome.errors)")
    #expect(try fixture.states() == [step])
    #expect(try fixture.model().keys.contains("unet/config.json"))

    // The line is a command that works, and the run is the one that was never stopped.
    try fixture.train(fixture.resume(["--steps", "\(step + 2)"]))
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: step + 2, output: "whole"))
    try fixture.expectSame("run", as: fixture, "whole", step: step + 2, "after a signal")
  }

  @Test(arguments: [SIGINT, SIGTERM]) func aSecondSignalEndsAtOnce(second: Int32) throws {
    let fixture = try TrainFixture()
    // A step of many seconds, after one that is kept.
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 1, output: "first"))
    let running = try Tool.start(
      TrainFixture.arguments("tiny-ddpm", ["--batch", "600", "--accumulation", "300"]),
      in: fixture.scratch.folder)
    try wait(for: fixture.scratch.url("run/train.json"), of: running)
    kill(running.process.processIdentifier, SIGINT)
    while !running.errors.contains("once more stops at once") { usleep(1000) }
    usleep(200_000)
    #expect(running.process.isRunning, "the step was shorter than it should be")
    let start = ContinuousClock.now
    kill(running.process.processIdentifier, second)
    running.process.waitUntilExit()
    #expect((ContinuousClock.now - start) / .seconds(1) < 1)
    #expect(running.process.terminationReason == .uncaughtSignal)
    #expect(try fixture.states() == [] && fixture.states("first") == [1])
  }

  @Test func whatWasLearntIsKeptBeforeItIsDrawn() throws {
    let fixture = try TrainFixture()
    let running = try Tool.start(
      TrainFixture.arguments("tiny-ddpm", ["--sample-every", "2", "--sample-steps", "1000"]),
      in: fixture.scratch.folder)
    try wait(for: fixture.state(2), of: running)
    usleep(300_000)
    #expect(running.process.isRunning, "\(running.errors)")
    #expect(try fixture.log().count == 2, "pictures were drawn faster than they should be")
    kill(running.process.processIdentifier, SIGKILL)
    running.process.waitUntilExit()
    #expect(try fixture.states() == [2])
    try fixture.write(fixture.settings(), with: .init("sample_steps", .integer(1)))
    try fixture.train(fixture.resume(["--steps", "3"]))
    #expect(try fixture.log().map(\.step) == [1, 2, 3])
    #expect(FileManager.default.fileExists(atPath: fixture.scratch.url("run/samples/step-000003.png").path))
  }

  @Test(arguments: [SIGINT, SIGTERM]) func aSignalEndsTheDrawing(signal: Int32) throws {
    let fixture = try TrainFixture()
    let running = try Tool.start(
      TrainFixture.arguments("tiny-ddpm", steps: 4, ["--sample-every", "2", "--sample-steps", "1000"]),
      in: fixture.scratch.folder)
    try wait(for: fixture.state(2), of: running)
    usleep(300_000)
    #expect(running.process.isRunning, "\(running.errors)")
    let start = ContinuousClock.now
    kill(running.process.processIdentifier, signal)
    let outcome = try running.finish()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    #expect(
      outcome.errorLines == [
        "langevin: stopping after this step; once more stops at once",
        "langevin: stopped; step 2 of 4 is kept; go on with: langevin train resume run",
      ], "\(outcome.errors)")
    #expect(outcome.status == 130 && outcome.output.isEmpty && seconds < 5, "\(seconds) \(outcome)")
    #expect(try fixture.states() == [2] && fixture.model().keys.contains("unet/config.json"))
    let samples = fixture.scratch.url("run/samples").path
    #expect(!FileManager.default.fileExists(atPath: samples + "/step-000002.png"))
    // Nothing of the drawing is in what is learnt from then on.
    try fixture.write(fixture.settings(), with: .init("sample_every", .integer(0)))
    try fixture.train(fixture.resume())
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 4, output: "whole"))
    try fixture.expectSame("run", as: fixture, "whole", step: 4, "after a stopped drawing")
  }

  @Test func minutesAreKeptTo() throws {
    let fixture = try TrainFixture()
    let arguments = TrainFixture.arguments("tiny-ddpm", steps: Self.many, ["--max-minutes", "0.01"])
    let outcome = try fixture.run(arguments.filter { $0 != "--quiet" })
    let step = try #require(try fixture.log().last?.step)
    #expect(outcome.status == 0 && outcome.output.isEmpty, "\(outcome)")
    #expect(
      outcome.errorLines.last
        == "step \(step) of \(Self.many) is kept; go on with: langevin train resume run",
      "\(outcome.errors)")
    #expect(try fixture.states() == [step] && fixture.model().keys.contains("model_index.json"))

    let again = try fixture.run(fixture.resume(["--max-minutes", "0.0001"]))
    #expect(again.status == 0 && again.errors.isEmpty && again.output.isEmpty, "\(again)")
    #expect(try fixture.states().last ?? 0 > step)
  }

  private func wait(for file: URL, of running: Tool.Running) throws {
    while !FileManager.default.fileExists(atPath: file.path) {
      try #require(running.process.isRunning, "\(running.errors)")
      usleep(1000)
    }
  }

  // MARK: Streams and disks

  /// Messages that nobody sees are no failure; a result that nobody gets is one, of a run that is whole.
  @Test(arguments: [
    ("2>&-", Int32(0)), ("2>/dev/full", 0), ("2>&0", 0), (">&-", 1), (">/dev/full", 1), (">&0", 1),
    ("0<&- >&- 2>&-", 1),
  ])
  func lostMessagesStopNoRun(redirection: String, status: Int32) throws {
    let fixture = try TrainFixture()
    let arguments = TrainFixture.arguments("tiny-ddpm", steps: 3).filter { $0 != "--quiet" }
    let outcome = try Tool.run(arguments, redirected: redirection, in: fixture.scratch.folder)
    #expect(outcome.status == status, "\(outcome)")
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 3, output: "whole"))
    try fixture.expectSame("run", as: fixture, "whole", step: 3, redirection)
  }

  /// A state needs 800 KB and the model 200; a file may have 400.
  @Test func aFullDiskIsToldAndTheOlderStateStays() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 8, output: "whole"))
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 4))
    let (state, model) = (try Data(contentsOf: fixture.state(4)), try fixture.model())
    let outcome = try Tool.run(
      fixture.resume(["--steps", "8"]), redirected: "", after: "ulimit -f \(400 * 1024 / 512)",
      in: fixture.scratch.folder)
    #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome)")
    #expect(
      outcome.errors.contains("step-00000008.safetensors: cannot be written: File too large"),
      "\(outcome.errors)")
    #expect(try fixture.states() == [4] && Data(contentsOf: fixture.state(4)) == state)
    #expect(try fixture.model() == model)
    try fixture.train(fixture.resume())
    try fixture.expectSame("run", as: fixture, "whole", step: 8, "after a full disk")
  }

  /// A disk that is really full; only the superuser mounts one.
  @Test(.enabled(if: geteuid() == 0 && TrainSignalTests.canMount)) func aSmallDiskFillsUp() throws {
    let fixture = try TrainFixture()
    let disk = fixture.scratch.url("disk")
    try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: false)
    try #require(Self.mount(disk, size: "2300k"))
    defer { umount2(disk.path, Int32(MNT_DETACH)) }
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 2, output: "disk/run"))
    #expect(try fixture.states("disk/run") == [2])
    // Two states and the model fit; a third state beside them does not.
    try fixture.train(fixture.resume(["--steps", "6"], of: "disk/run"))
    let full = try fixture.run(fixture.resume(["--steps", "9"], of: "disk/run"))
    #expect(full.status == 1 && full.errorLines.count == 1, "\(full)")
    #expect(full.errors.contains("cannot be written: No space left on device"), "\(full.errors)")
    #expect(try fixture.states("disk/run") == [2, 6])
    let log = try fixture.log("disk/run")
    #expect(log.map(\.step) == Array(1...log.count) && log.count >= 6)
  }

  private static func mount(_ folder: URL, size: String) -> Bool {
    Glibc.mount("tmpfs", folder.path, "tmpfs", 0, "size=\(size)") == 0
  }

  private static let canMount: Bool = {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "langevin-\(UUID().uuidString)")
    guard mkdir(folder.path, 0o700) == 0 else { return false }
    defer { rmdir(folder.path) }
    guard mount(folder, size: "64k") else { return false }
    umount2(folder.path, 0)
    return true
  }()
}
