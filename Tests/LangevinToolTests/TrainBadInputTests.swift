import Foundation
import LangevinJSON
import Testing

@testable import Langevin

/// Whatever is wrong with a run is said in one clear line, and no file is made or changed.
@Suite struct TrainBadInputTests {
  private let fixture: TrainFixture

  init() throws { fixture = try TrainFixture() }

  private func arguments(_ more: [String] = [], model: String = "tiny-ddpm") -> [String] {
    TrainFixture.arguments(model, steps: 2, more)
  }

  /// Without an option and its value.
  private func arguments(without option: String) throws -> [String] {
    var result = arguments()
    let place = try #require(result.firstIndex(of: option))
    result.removeSubrange(place...place + 1)
    return result
  }

  // MARK: The command line

  @Test(arguments: [
    ("-m", "--model is missing"), ("--data", "--data is missing"), ("--output", "--output"),
  ])
  func whatIsMissingIsNamed(option: String, words: String) throws {
    try fixture.expectFailure(arguments(without: option), status: 64, words: [words])
  }

  @Test(arguments: [
    (["--batch", "10", "--accumulation", "4"], ["a batch of 10", "4 accumulation steps"]),
    (["--batch", "0"], ["--batch must be 1 to 1000000"]), (["--batch", "-3"], ["--batch"]),
    (["--batch", "x"], ["--batch", "'x'"]), (["--accumulation", "0"], ["--accumulation"]),
    (["--steps", "0"], ["--steps must be 1 to 1000000000"]),
    (["--learning-rate", "0"], ["--learning-rate must be above 0"]),
    (["--learning-rate", "nan"], ["--learning-rate must be a finite number"]),
    (["--learning-rate", "11"], ["at most 10"]),
    (["--warm-up", "-1"], ["--warm-up"]), (["--cooldown", "2"], ["--cooldown must be 0 to 1"]),
    (["--beta1", "1"], ["--beta1"]), (["--beta2", "-0.1"], ["--beta2"]), (["--epsilon", "0"], ["--epsilon"]),
    (["--weight-decay", "-1"], ["--weight-decay"]), (["--max-grad-norm", "-1"], ["--max-grad-norm"]),
    (["--ema", "1"], ["--ema must be 0 to below 1"]), (["--precision", "f8"], ["--precision", "bf16"]),
    (["--schedule", "cosin"], ["--schedule", "cosine"]),
    (["--timesteps", "sometimes"], ["--timesteps", "stratified"]),
    (["--prediction", "noise"], ["prediction", "epsilon"]),
    (["--snr-gamma", "0"], ["--snr-gamma must be above 0"]),
    (["--timesteps", "logit-normal", "--logit-deviation", "0"], ["--logit-deviation"]),
    (["--sample-every", "-1"], ["--sample-every"]),
    (["--checkpoint-minutes", "0"], ["--checkpoint-minutes"]),
    (["--max-minutes", "0"], ["--max-minutes must be above 0"]), (["--seed", "-1"], ["--seed"]),
    (["--width", "17"], ["--width must be a multiple of 2, got 17"]),
    (["--height", "0"], ["1 to 16384 pixels"]),
    (["--width", "-16"], ["1 to 16384 pixels"]), (["--width", "20000"], ["16384"]),
    (["--padding", "-1"], ["padding must be 0 to 4096"]), (["--places", "0"], ["1 to 1024 places"]),
    (["--batch", "9223372036854775807"], ["--batch must be 1 to 1000000"]),
    (["--steps", "9223372036854775807"], ["--steps must be 1 to 1000000000"]),
    (["--text-rate", "-1"], ["--text-rate must be 0 to 1000"]),
    (["--sample-every", "1", "--sample-steps", "0"], ["steps must be 1 to 10000, got 0"]),
    (["--device", "nothing"], ["unknown device 'nothing'"]),
  ])
  func aValueThatCannotBeIsNamed(more: [String], words: [String]) throws {
    try fixture.expectFailure(arguments(more), status: 64, words: words)
  }

  @Test func aSizeOffTheGridOfLatentsIsNamed() throws {
    try fixture.expectFailure(
      arguments(["--height", "18"], model: "tiny-sd"), status: 64,
      words: ["--height must be a multiple of 4, got 18"])
  }

  @Test(arguments: [
    (["train", "difusion"], "did you mean 'diffusion'?"),
    (["train", "resum", "run"], "did you mean 'resume'?"),
    (["trian", "diffusion"], "did you mean 'train'?"),
    (["train", "diffusion", "--output", "run", "--bath", "4"], "--batch"),
    (["train", "diffusion", "--output", "run", "--lerning-rate", "4"], "--learning-rate"),
    (["train", "resume", "run", "--max-minuts", "4"], "--max-minutes"),
  ])
  func aWordThatWasMisspeltIsGuessed(arguments: [String], words: String) throws {
    try fixture.expectFailure(arguments, status: 64, words: [words])
  }

  @Test func aCommandOfTrainThatIsNearNothingIsToldWhatThereIs() throws {
    try fixture.expectFailure(
      ["train", "xylophone"], status: 64, words: ["xylophone", "diffusion", "resume"])
  }

  // MARK: Files of settings

  @Test(arguments: [
    (#"{"bacth": 4}"#, ["'bacth'", "did you mean 'batch'?"]),
    (#"{"colour": "red"}"#, ["'colour'", "there are", "learning_rate"]),
    (#"{"batch": "four"}"#, ["'batch' must be a whole number"]),
    (#"{"batch": 2.5}"#, ["'batch' must be a whole number"]),
    (#"{"learning_rate": [1]}"#, ["'learning_rate' must be a number"]),
    (#"{"mirror": 1}"#, ["'mirror' must be true or false"]),
    (#"{"prompts": "a"}"#, ["'prompts' must be a list"]), (#"{"prompts": [1]}"#, ["'prompts' must be"]),
    (#"{"batch": null}"#, ["'batch' must be a whole number"]),
    (#"{"warm_up": -3}"#, ["'warm_up' must be 0 to 1000000000"]),
    (#"{"schedule": "linear"}"#, ["'schedule' must be", "linear-cooldown"]),
    (#"{"width": 17}"#, ["'width' must be a multiple of 2, got 17"]),
    (#"[1]"#, ["it is no object"]), (#"{"batch": 1"#, ["config.json"]), (#"{"ema": 0, "ema": 0}"#, ["'ema'"]),
    ("", ["config.json"]),
  ])
  func aFileOfSettingsIsReadStrictly(text: String, words: [String]) throws {
    try fixture.write(text, to: "config.json")
    // What is not given as an option.
    let bare = [
      "train", "diffusion", "-m", TrainFixture.models.appending(path: "tiny-ddpm").path, "--data", "data",
      "--output", "run", "--device", "cpu", "--quiet", "--config", "config.json",
    ]
    try fixture.expectFailure(bare, words: ["config.json"] + words)
  }

  @Test func aMissingFileOfSettingsIsNamed() throws {
    try fixture.expectFailure(arguments(["--config", "none.json"]), words: ["none.json"])
  }

  @Test func aRunsSettingsAreAFileOfSettingsAndOptionsGoBefore() throws {
    try fixture.train(arguments())
    try fixture.train(
      ["train", "diffusion", "--config", "run/train.json", "--output", "again", "--quiet", "--device", "cpu"])
    try fixture.expectSame("again", as: fixture, "run", step: 2, "by its train.json")
    try fixture.train([
      "train", "diffusion", "--config", "run/train.json", "--output", "longer", "--quiet", "--device", "cpu",
      "--steps", "3",
    ])
    #expect(try fixture.states("longer") == [3])
  }

  // MARK: The model and the data

  @Test func aModelThatIsNotThereIsNamed() throws {
    try fixture.expectFailure(
      arguments(["-m", "nowhere/at/all"]), words: ["nowhere/at/all"])
    try fixture.expectFailure(
      arguments(["-m", TrainFixture.models.appending(path: "tiny-wan").path]),
      words: ["WanPipeline", "DDPMPipeline"])
  }

  @Test func dataThatAreNotThereAreNamed() throws {
    try fixture.expectFailure(
      arguments(["--data", "nowhere"]), words: ["nowhere", "no such file or folder"])
    try FileManager.default.createDirectory(
      at: fixture.scratch.url("empty"), withIntermediateDirectories: true)
    try fixture.expectFailure(arguments(["--data", "empty"]), words: ["empty", "holds no picture"])
  }

  @Test func picturesWithoutCaptionsAreCounted() throws {
    let lines = try String(contentsOf: fixture.data.appending(path: "metadata.jsonl"), encoding: .utf8)
      .split(separator: "\n")
    try fixture.write(lines.dropLast(2).joined(separator: "\n"), to: "data/metadata.jsonl")
    try fixture.expectFailure(
      arguments(model: "tiny-sd"), words: ["2 of 5 pictures have no caption", "picture-3.png"])
    try fixture.write(
      lines.joined(separator: "\n") + "\n" + #"{"file_name": "gone.png", "text": "x"}"#,
      to: "data/metadata.jsonl")
    try fixture.expectFailure(
      arguments(model: "tiny-sd"), words: ["metadata.jsonl, line 6", "gone.png is not there"])
    try fixture.write(
      lines.joined(separator: "\n").replacing("\"text\"", with: "\"label\""), to: "data/metadata.jsonl")
    try fixture.expectFailure(arguments(model: "tiny-sd"), words: ["metadata.jsonl, line 1", "'label'"])
  }

  @Test func aModelWithoutTextNeedsNoCaptions() throws {
    try FileManager.default.removeItem(at: fixture.data.appending(path: "metadata.jsonl"))
    try fixture.train(arguments())
    try fixture.expectFailure(
      arguments(["--output", "other"], model: "tiny-sd"), words: ["5 of 5 pictures have no caption"])
  }

  /// The parts of steps are made one by one, and their numbers fit.
  @Test func aRunMayHaveABillionSteps() throws {
    let outcome = try fixture.run(
      arguments(["--steps", "1000000000", "--max-minutes", "0.0001", "--warm-up", "1000000000"]))
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
  }

  @Test func brokenPicturesAreCountedAndLeftOutWhereThatIsAskedFor() throws {
    let file = fixture.data.appending(path: "picture-2.png")
    try Data(contentsOf: file).prefix(60).write(to: file)
    try fixture.expectFailure(arguments(), words: ["1 of 5 pictures is broken", "picture-2.png"])
    let outcome = try fixture.run(arguments(["--skip-broken"]))
    #expect(outcome.status == 0 && outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(outcome.errors.hasPrefix("langevin: warning: ") && outcome.errors.contains("picture-2.png"))
  }

  @Test func captionsThatAreCutAreCountedOnce() throws {
    let long = Array(repeating: "a very long caption", count: 40).joined(separator: " ")
    let metadata = try String(contentsOf: fixture.data.appending(path: "metadata.jsonl"), encoding: .utf8)
    try fixture.write(metadata.replacing("wave number 1", with: long), to: "data/metadata.jsonl")
    let outcome = try fixture.run(arguments(model: "tiny-sd"))
    #expect(outcome.status == 0 && outcome.errorLines.count == 1, "\(outcome.errors)")
    #expect(
      outcome.errors.contains("1 of 5 captions are longer than the text encoder's 77 tokens"),
      "\(outcome.errors)")
  }

  // MARK: The run's folder

  @Test func aFolderThatHoldsSomethingIsLeftAlone() throws {
    try FileManager.default.createDirectory(at: fixture.scratch.url("run"), withIntermediateDirectories: true)
    try fixture.write("mine", to: "run/notes.txt")
    try fixture.expectFailure(arguments(), words: ["run: is not empty", "langevin train resume", "--output"])
    try fixture.expectFailure(
      ["train", "resume", "run", "--device", "cpu"],
      words: ["run: holds no training run: it has no train.json"])
    try fixture.expectFailure(
      ["train", "resume", "nowhere", "--device", "cpu"], words: ["nowhere: holds no training run"])
    try fixture.write("a file", to: "file")
    try fixture.expectFailure(arguments(["--output", "file/run"]), words: ["file/run", "Not a directory"])
  }

  @Test(arguments: [
    ("{}", ["no task"]), ("[]", ["no object"]), ("", ["train.json"]),
    (#"{"task": "juggling"}"#, ["train.json: 'task' must be diffusion"]),
    (#"{"task": "diffusion"}"#, ["model"]),
    (#"{"task": "diffusion", "batch": "x"}"#, ["'batch'", "train.json"]),
  ])
  func aBrokenTrainJSONIsNamed(text: String, words: [String]) throws {
    try FileManager.default.createDirectory(at: fixture.scratch.url("run"), withIntermediateDirectories: true)
    try fixture.write(text, to: "run/train.json")
    let before = try fixture.contents()
    let outcome = try fixture.run(["train", "resume", "run", "--device", "cpu"])
    #expect([1, 64].contains(outcome.status) && outcome.errorLines.count == 1, "\(outcome.errors)")
    for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors)") }
    #expect(try fixture.contents() == before)
  }

  // MARK: What is not finite

  @Test func aLossThatIsNotFiniteIsToldWithItsLayer() throws {
    try fixture.train(arguments())
    let (state, model) = (try Data(contentsOf: fixture.state(2)), try fixture.model())
    // No rate that is allowed does it by itself, but this decay sends every weight beyond what float32 holds.
    let outcome = try fixture.run(
      TrainFixture.arguments(
        "tiny-ddpm", steps: 50, output: "wild", ["--weight-decay", "1e30", "--learning-rate", "10"]))
    #expect(outcome.status == 1 && outcome.errorLines.count == 1 && outcome.output.isEmpty, "\(outcome)")
    let pattern =
      /langevin: error: step \d+: the (loss is NaN|loss is infinite|gradient is not finite); first in the (forward|backward) pass, at unet\.[a-z0-9_.]+: .+/
    #expect(
      try pattern.wholeMatch(in: outcome.errors.trimmingCharacters(in: .newlines)) != nil, "\(outcome.errors)"
    )
    // The other run is untouched, and what was logged of the wild one is whole.
    #expect(try Data(contentsOf: fixture.state(2)) == state && fixture.model() == model)
    #expect(try fixture.log("wild").allSatisfy { $0.loss.isFinite } && fixture.states("wild") == [])
  }
}
