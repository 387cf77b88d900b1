import Foundation
import Langevin
import LangevinTestSupport
import Testing

/// Runs that are cut into parts, and prompt files whose lines have settings of their own.
@Suite struct ShardTests {
  private static let common = [
    "--device", "cpu", "--steps", "2", "--sampler", "euler-a", "--seed", "18446744073709551613",
  ]

  private let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    try Data("a red heart\n# not a prompt\na face\n\nan apple\n".utf8).write(to: scratch.url("prompts.txt"))
  }

  private struct Line: Decodable {
    let file, prompt: String
    let seed: UInt64
    let drawn: Bool
    let seconds: Double?
  }

  @discardableResult
  private func generate(_ arguments: [String]) throws -> Tool.Outcome {
    let outcome = try Tool.run(["generate", "--quiet"] + Self.common + arguments, in: scratch.folder)
    #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(arguments): \(outcome.errors)")
    return outcome
  }

  private func lines(_ outcome: Tool.Outcome) throws -> [Line] {
    try outcome.output.split(separator: "\n").map {
      try JSONDecoder().decode(Line.self, from: Data($0.utf8))
    }
  }

  private func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: scratch.url(folder).path).sorted()
  }

  private func bytes(_ name: String) throws -> Data { try Data(contentsOf: scratch.url(name)) }

  private func expectSame(_ folder: String, _ other: String, count: Int) throws {
    let names = try names(folder)
    #expect(try names.count == count && names == self.names(other))
    for name in names {
      #expect(try bytes("\(folder)/\(name)") == bytes("\(other)/\(name)"), "\(name)")
    }
  }

  /// Also where batches go over the border between two prompts, and parts are not of one size.
  @Test(arguments: [[], ["--batch", "2"], ["--batch", "2", "--prompt-syntax", "a1111"]])
  func fourPartsDrawThePicturesOfOneProcess(extra: [String]) throws {
    let run = ["--prompt-file", "prompts.txt", "--count", "3"] + extra
    try generate(run + ["--output", "whole/p.png"])
    var listed: [Line] = []
    for part in [2, 0, 3, 1] {
      listed += try lines(
        generate(run + ["--output", "parts/p.png", "--jsonl", "--shard", "\(part)/4"]))
    }
    try expectSame("parts", "whole", count: 9)
    // Each picture once, with what it is of.
    #expect(listed.map(\.file).sorted() == (0..<9).map { "parts/p-\($0).png" })
    for line in listed {
      let text = try #require(try Picture.read(scratch.url(line.file)).texts["parameters"])
      #expect(text.hasPrefix(line.prompt + "\n") && text.contains("Seed: \(line.seed),"), "\(text)")
      #expect(line.drawn && (line.seconds ?? 0) > 0)
    }
    #expect(Set(listed.map(\.seed)).count == 9 && listed.contains { $0.seed == 0 })
  }

  @Test func whatIsWholeIsNotDrawnAgain() throws {
    let run = ["--prompt-file", "prompts.txt", "--count", "2", "--jsonl", "--shard", "0/1"]
    try generate(run + ["--output", "whole/p.png"])
    let first = try lines(generate(run + ["--output", "again/p.png"]))
    #expect(first.count == 6 && first.allSatisfy(\.drawn))
    // Missing, cut off, of other settings, no picture, and one that another device has drawn.
    try FileManager.default.removeItem(at: scratch.url("again/p-0.png"))
    let half = try bytes("again/p-1.png")
    try half.prefix(half.count / 2).write(to: scratch.url("again/p-1.png"))
    try generate(["a face", "--steps", "3", "--output", "again/p-2.png"])
    try Data().write(to: scratch.url("again/p-3.png"))
    let other = try Picture.read(scratch.url("whole/p-4.png"))
    let text = try #require(other.texts["parameters"])
    var parameters = PictureParameters(parsing: text)
    let device = try #require(parameters.fields.firstIndex { $0.name == "Device" })
    parameters.fields[device].value = "another"
    try other.picture.writePNG(
      to: scratch.url("again/p-4.png"), texts: [("parameters", parameters.description)])
    let kept = try [4, 5].map { try bytes("again/p-\($0).png") }

    let second = try lines(generate(run + ["--output", "again/p.png"]))
    #expect(second.count == 6)
    for line in second {
      let number = line.file.dropLast(4).last
      #expect(line.drawn == "0123".contains(try #require(number)), "\(line.file)")
      #expect((line.seconds != nil) == line.drawn)
    }
    #expect(try [4, 5].map { try bytes("again/p-\($0).png") } == kept)
    for number in 0..<4 {
      #expect(try bytes("again/p-\(number).png") == bytes("whole/p-\(number).png"), "\(number)")
    }
    let third = try lines(generate(run + ["--output", "again/p.png"]))
    #expect(third.count == 6 && !third.contains(where: \.drawn))
  }

  /// As a scheduler ends a task without a word.
  @Test func aTaskThatWasKilledLosesAndRepeatsNothing() throws {
    let run = Self.common + ["--prompt-file", "prompts.txt", "--count", "2", "--jsonl", "--shard", "0/1"]
    try generate(Array(run.dropFirst(Self.common.count)) + ["--output", "whole/p.png"])
    let killed = try Tool.start(
      ["generate", "--quiet", "--output", "parts/p.png"] + run, in: scratch.folder)
    while (try? names("parts").contains("p-1.png")) != true {
      try #require(killed.process.isRunning)
      usleep(2000)
    }
    kill(killed.process.processIdentifier, SIGKILL)
    killed.process.waitUntilExit()
    let before = try Set(names("parts").filter { $0.hasPrefix("p-") })
    #expect(before.count < 6)
    let after = try lines(generate(Array(run.dropFirst(Self.common.count)) + ["--output", "parts/p.png"]))
    #expect(after.count == 6)
    for line in after { #expect(line.drawn != before.contains(String(line.file.dropFirst(6)))) }
    try expectSame("parts", "whole", count: 6)
  }

  @Test func aPartWithoutPicturesIsNoFault() throws {
    let outcome = try Tool.run(
      ["generate", "a face", "--output", "p.png", "--shard", "1/2"] + Self.common, in: scratch.folder)
    #expect(outcome.status == 0 && outcome.output.isEmpty && outcome.errors.contains("no pictures"))
    #expect(try !scratch.files().contains("p.png"))
  }

  @Test func partsThatCannotBeAreRefused() throws {
    let named = ["--seed", "1", "--output", "p.png"]
    for (arguments, words) in [
      (["--shard", "4/4"] + named, ["0 to 3", "no part 4", "--array=0-3"]),
      (["--shard", "0/0"] + named, ["K/M"]), (["--shard", "-1/4"] + named, ["no part -1"]),
      (["--shard", "1"] + named, ["K/M"]), (["--shard", "/"] + named, ["SLURM_ARRAY_TASK_ID"]),
      (["--shard", "1/2/3"] + named, ["K/M"]), (["--shard", "a/b"] + named, ["K/M"]),
      (["--shard", "0/2", "--output", "p.png"], ["--seed"]),
      (["--shard", "0/2", "--seed", "1"], ["--output"]),
      (["--shard", "0/2", "--seed", "1", "--output", "-"], ["--output"]),
      (["--shard", "0/2", "--save-latents", "l.safetensors"] + named, ["--save-latents"]),
      (["--shard", "0/2", "--image", "a.png", "--image", "b.png"] + named, ["--shard"]),
      (["--json", "--jsonl"], ["--jsonl"]), (["--jsonl", "--output", "-"], ["--jsonl"]),
    ] {
      try Tool.expectFailure(arguments, status: 64, words: words, in: scratch)
    }
  }

  /// Lines have the pictures of runs with these settings, whichever part draws them.
  @Test func linesHaveSettingsOfTheirOwn() throws {
    let requests = """
      {"prompt": "a face"}
      {"prompt": "an \\"apple\\"", "negative_prompt": "green", "steps": 3, "guidance": 2.5}
      {"prompt": "a heart", "seed": 7, "width": 72, "height": 80, "sampler": "DPM++ 2M Karras"}

      {"prompt": "a star", "seed": null}
      """
    try Data(requests.utf8).write(to: scratch.url("requests.jsonl"))
    let run = ["--prompt-file", "requests.jsonl", "--count", "2", "--jsonl"]
    let listed = try lines(generate(run + ["--output", "whole/p.png"]))
    #expect(listed.map(\.prompt) == ["a face", "an \"apple\"", "a heart", "a star"].flatMap { [$0, $0] })
    let base: UInt64 = 18_446_744_073_709_551_613
    #expect(listed.map(\.seed) == [0, 1, 2, 3].map { base &+ $0 } + [7, 8] + [6, 7].map { base &+ $0 })
    for part in 0..<3 { try generate(run + ["--output", "parts/p.png", "--shard", "\(part)/3"]) }
    try expectSame("parts", "whole", count: 8)

    let alone: [[String]] = [
      ["a face"], ["an \"apple\"", "--negative", "green", "--steps", "3", "--guidance", "2.5"],
      ["a heart", "--width", "72", "--height", "80", "--sampler", "DPM++ 2M Karras"], ["a star"],
    ]
    for (number, arguments) in alone.enumerated() {
      try generate(arguments + ["--seed", "\(listed[2 * number].seed)", "--output", "alone.png"])
      #expect(try bytes("alone.png") == bytes("whole/p-\(2 * number).png"), "\(arguments)")
    }
  }

  @Test func linesThatAreWrongAreNamed() throws {
    for (line, words) in [
      ("{\"prompt\": \"a\", \"stepz\": 3}", ["'stepz'", "did you mean 'steps'?"]),
      ("{\"prompt\": \"a\", \"steps\": \"3\"}", ["'steps' must be a whole number"]),
      ("{\"prompt\": \"a\", \"seed\": -1}", ["'seed'"]), ("{\"steps\": 3}", ["'prompt'"]),
      ("{\"prompt\": \"a\", \"sampler\": \"eulr\"}", ["'eulr'", "did you mean 'euler'?"]),
      ("{\"prompt\": \"a\", \"prompt\": \"b\"}", ["twice"]), ("a face", ["no JSON object"]),
      ("[1]", ["no JSON object"]), ("{", ["no JSON object"]),
    ] {
      try Data("{\"prompt\": \"fine\"}\n\(line)\n".utf8).write(to: scratch.url("bad.jsonl"))
      let outcome = try Tool.run(["generate", "--prompt-file", "bad.jsonl"], in: scratch.folder)
      #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.errors)")
      for word in ["bad.jsonl", "line 2"] + words {
        #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)")
      }
    }
    // A setting that the model refuses is the line's fault too, and other commands take none.
    try Data("{\"prompt\": \"a\", \"width\": 65}\n".utf8).write(to: scratch.url("bad.jsonl"))
    let refused = try Tool.run(["generate", "--prompt-file", "bad.jsonl"], in: scratch.folder)
    #expect(refused.status == 64 && refused.errors.contains("width"), "\(refused.errors)")
    let other = try Tool.run(["profile", "--prompt-file", "bad.jsonl"], in: scratch.folder)
    #expect(other.status == 64 && other.errors.contains("only generate"), "\(other.errors)")
    try Data("{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"steps\": 1}\n".utf8).write(
      to: scratch.url("two.jsonl"))
    for option in [["--json"], ["--save-latents", "l.safetensors"]] {
      let both = try Tool.run(["generate", "--prompt-file", "two.jsonl"] + option, in: scratch.folder)
      #expect(both.status == 64 && both.errors.contains(option[0]), "\(both.errors)")
    }
  }
}
