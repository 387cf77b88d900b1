import Foundation
import LangevinCPU
import LangevinJSON
import LangevinTensor
import Testing

@testable import Langevin

/// A run is one and the same, however often it was cut off.
@Suite struct TrainResumeTests {
  struct Subject: CustomTestStringConvertible, Sendable {
    let model: String
    let onPoCL: Bool
    let times: Int
    var more: [String] = []
    var testDescription: String { ([model, onPoCL ? "PoCL" : "cpu"] + more).joined(separator: " ") }
  }

  static let subjects = [
    Subject(model: "tiny-ddpm", onPoCL: false, times: 5),
    Subject(model: "tiny-sd", onPoCL: false, times: 2, more: ["--snr-gamma", "5", "--mirror"]),
    Subject(model: "tiny-sd", onPoCL: true, times: 2, more: ["--timesteps", "stratified"]),
    Subject(
      model: "tiny-ddpm", onPoCL: false, times: 1, more: ["--precision", "f16", "--accumulation", "2"]),
  ]

  /// In all ten times: 30 steps on end against 30 of which some process was killed at any moment, mostly while it wrote a
  /// state, as it does after each step.
  @Test(arguments: subjects) func aKilledRunComesToTheSameBits(subject: Subject) throws {
    let fixture = try TrainFixture()
    let device = subject.onPoCL ? try Tool.pocl() : "cpu"
    let often = ["--checkpoint-minutes", "0.00001"]
    func arguments(_ output: String, _ more: [String] = []) -> [String] {
      TrainFixture.arguments(subject.model, output: output, device: device, subject.more + more)
    }
    try fixture.train(arguments("whole"))
    #expect(try fixture.states("whole") == [30])

    for time in 0..<subject.times {
      let name = "run-\(time)"
      let running = try Tool.start(arguments(name, often), in: fixture.scratch.folder)
      // The first is killed before there is a state, if need be.
      try fixture.await(time == 0 ? 0 : Int.random(in: 1...28), of: running, name)
      usleep(UInt32.random(in: 0..<20_000))
      kill(running.process.processIdentifier, SIGKILL)
      running.process.waitUntilExit()
      let what = "\(name) of \(subject.testDescription), killed at \(try fixture.logged(name))"
      guard FileManager.default.fileExists(atPath: fixture.scratch.url("\(name)/train.json").path) else {
        // So early that it is not a run yet; a new one may begin there.
        try fixture.train(arguments(name, often))
        try fixture.expectSame(name, as: fixture, "whole", step: 30, what)
        continue
      }
      let outcome = try fixture.run(fixture.resume(of: name, device: device))
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(what): \(outcome.errors)")
      #expect(outcome.output == "\(name)/model\n", "\(what)")
      try fixture.expectSame(name, as: fixture, "whole", step: 30, what)
    }
  }

  /// It may have ended between its state and its model.
  @Test func aFinishedRunGetsItsModelAgain() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 3, ["--checkpoint-minutes", "0.00001"]))
    let (model, log) = (try fixture.model(), try fixture.log())
    #expect(model.keys.contains("model_index.json"))
    try FileManager.default.removeItem(at: fixture.scratch.url("run/model"))
    try fixture.train(fixture.resume())
    #expect(try fixture.model() == model && fixture.log() == log && fixture.states() == [2, 3])
  }

  @Test func moreStepsGoOnFromTheEnd() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 9, output: "whole"))
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 4))
    try fixture.train(fixture.resume(["--steps", "9"]))
    try fixture.expectSame("run", as: fixture, "whole", step: 9, "resumed with more steps")
    #expect(try fixture.states() == [4, 9])
  }

  @Test func theTimeOfTrainingGoesOn() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 3))
    let seconds = try fixture.log().map(\.seconds)
    try fixture.train(fixture.resume(["--steps", "5"]))
    let all = try fixture.log().map(\.seconds)
    #expect(Array(all[..<3]) == seconds && all == all.sorted() && Set(all).count == 5, "\(all)")
  }

  @Test func onlyFloat16KeepsAScale() throws {
    let fixture = try TrainFixture()
    for precision in ["f32", "f16", "bf16"] {
      try fixture.train(
        TrainFixture.arguments("tiny-ddpm", steps: 2, output: precision, ["--precision", precision]))
      let scale = try RunState(fixture.state(2, precision), on: Device(CPUBackend())).lossScale
      #expect(scale == (precision == "f16" ? 0x1p15 : nil))
      #expect(try fixture.log(precision).allSatisfy { ($0.lossScale == nil) == (precision != "f16") })
    }
  }

  // MARK: States that are damaged or of another run

  @Test func aTruncatedStateIsPassedOverWithANotice() throws {
    let fixture = try TrainFixture()
    let often = ["--checkpoint-minutes", "0.00001"]
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 6, output: "whole", often))
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 6, often))
    let size = try Data(contentsOf: fixture.state(6)).count
    try #require(truncate(fixture.state(6).path, size - 1000) == 0)
    let outcome = try fixture.run(fixture.resume())
    #expect(outcome.status == 0 && outcome.errorLines.count == 1, "\(outcome.errors)")
    for word in [
      "langevin: warning: ", "step-00000006.safetensors", "\(size - 1000) bytes of \(size)", "step 5",
    ] {
      #expect(outcome.errors.contains(word), "\(outcome.errors)")
    }
    try fixture.expectSame("run", as: fixture, "whole", step: 6, "after a truncated state")

    for step in [5, 6] { try #require(truncate(fixture.state(step).path, 100) == 0) }
    try fixture.expectFailure(fixture.resume(), words: ["no state of this run can be used"])
  }

  @Test func aStateOfOtherDataIsRefused() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 2))
    let metadata = try String(contentsOf: fixture.scratch.url("data/metadata.jsonl"), encoding: .utf8)
    try fixture.write(metadata.replacing("number 3", with: "number three"), to: "data/metadata.jsonl")
    try fixture.expectFailure(fixture.resume(["--steps", "4"]), words: ["other data (hash "])
    // As it was, it goes on.
    try fixture.write(metadata, to: "data/metadata.jsonl")
    try fixture.train(fixture.resume(["--steps", "4"]))
    #expect(try fixture.states() == [2, 4])
  }

  @Test func aStateOfOtherSettingsIsRefused() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 2))
    let settings = try fixture.settings()
    let values: [StrictJSON.Member] = [
      .init("batch", .integer(4)), .init("learning_rate", .real(3e-4)), .init("seed", .integer(8)),
      .init("prediction", .string("sample")),
    ]
    for value in values {
      try fixture.write(settings, with: value)
      try fixture.expectFailure(fixture.resume(["--steps", "4"]), words: ["other settings (hash "])
    }
    try fixture.write(settings, with: .init("sample_every", .integer(1000)))
    try fixture.train(fixture.resume(["--steps", "4"]))
  }

  @Test func aSettingSpelledInAnotherWayIsTheSame() throws {
    let fixture = try TrainFixture()
    try fixture.train(
      TrainFixture.arguments("tiny-ddpm", steps: 1, ["--learning-rate", "2e-4", "--epsilon", "1e-7"]))
    let spellings: [[StrictJSON.Member]] = [
      [.init("learning_rate", .number("0.0002")), .init("epsilon", .number("1E-07"))],
      [.init("learning_rate", .number("0.20e-3")), .init("epsilon", .number("0.0000001"))],
      // A default, which the state says nothing of.
      [.init("learning_rate", .number("2e-4")), .init("weight_decay", .number("1.0e-2"))],
    ]
    for (steps, spelling) in zip(2..., spellings) {
      for value in spelling { try fixture.write(fixture.settings(), with: value) }
      try fixture.train(fixture.resume(["--steps", "\(steps)"]))
      #expect(try fixture.states().last == steps)
    }
    // Not a neighbour of it.
    try fixture.write(fixture.settings(), with: .init("learning_rate", .number("2.0000001e-4")))
    try fixture.expectFailure(fixture.resume(["--steps", "9"]), words: ["other settings (hash "])
  }

  @Test func aStateOfOtherNetworksIsRefused() throws {
    let fixture = try TrainFixture()
    try fixture.train(TrainFixture.arguments("tiny-ddpm", steps: 2))
    let model = TrainFixture.models.appending(path: "tiny-sd").path
    try fixture.write(fixture.settings(), with: .init("model", .string(model)))
    try fixture.expectFailure(fixture.resume(["--steps", "4"]), words: ["other networks (hash "])
    #expect(try fixture.states() == [2])
  }

  @Test func aFolderIsTrainedInByOneProcess() throws {
    let fixture = try TrainFixture()
    let running = try Tool.start(
      TrainFixture.arguments("tiny-ddpm", steps: 100_000), in: fixture.scratch.folder)
    try fixture.await(1, of: running)
    try fixture.expectFailure(
      fixture.resume(), words: ["process \(running.process.processIdentifier) is training in it"],
      isChanging: true)
    kill(running.process.processIdentifier, SIGKILL)
    running.process.waitUntilExit()
    // A killed process's lock is nobody's.
    try fixture.train(fixture.resume(["--steps", "3"]))
  }
}

extension TrainFixture {
  /// How many lines the log has, whole or not.
  func logged(_ run: String) throws -> Int {
    let text = try? String(contentsOf: scratch.url(run).appending(path: "log.jsonl"), encoding: .utf8)
    return (text ?? "").split(separator: "\n").count
  }

  /// What train.json says.
  func settings(_ run: String = "run") throws -> [StrictJSON.Member] {
    guard case .object(let members) = try RunFolder.settings(of: scratch.url(run)) else { return [] }
    return members
  }

  /// Writes train.json anew, with another value.
  func write(_ settings: [StrictJSON.Member], with value: StrictJSON.Member, run: String = "run") throws {
    try #require(settings.contains { $0.key == value.key })
    let members = settings.map { $0.key == value.key ? value : $0 }
    try write(StrictJSON.object(members).text, to: "\(run)/train.json")
  }

  /// Every file of the folder with its bytes.
  func contents() throws -> [String: Data] {
    try FileManager.default.subpathsOfDirectory(atPath: scratch.folder.path).reduce(into: [:]) {
      files, name in
      // Names the last process.
      if name.hasSuffix("/.lock") { return }
      files[name] = (try? Data(contentsOf: scratch.url(name))) ?? Data()
    }
  }

  /// Checks that a command fails with one line on standard error that has these words, and changes no file, unless another
  /// process does.
  func expectFailure(
    _ arguments: [String], status: Int32 = 1, words: [String], isChanging: Bool = false,
    location: SourceLocation = #_sourceLocation
  ) throws {
    let before = isChanging ? [:] : try contents()
    let outcome = try run(arguments)
    #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: location)
    #expect(outcome.errorLines.count == 1, "\(outcome.errors)", sourceLocation: location)
    #expect(outcome.errors.hasPrefix("langevin: error: "), "\(outcome.errors)", sourceLocation: location)
    for word in words {
      #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)", sourceLocation: location)
    }
    #expect(outcome.output.isEmpty, sourceLocation: location)
    guard !isChanging else { return }
    let after = try contents()
    let differing = Set(before.keys).union(after.keys).filter { before[$0] != after[$0] }
    #expect(differing.isEmpty, "changed: \(differing)", sourceLocation: location)
  }
}
