import Foundation
import Langevin
import Testing

/// How the command line is read: short options, other tools' names, words that were misspelt, exit codes.
struct UsageTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func run(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(arguments, in: scratch.folder)
  }

  private static let common = ["--device", "cpu", "--steps", "1", "--quiet"]

  /// The rule: 64 where the command line asks for what cannot be, 1 where a file or device is at fault.
  private static let failures: [(arguments: [String], status: Int32)] = [
    (["generate"], 64),
    (["generate", "a", "--steps", "0"], 64), (["generate", "a", "--steps", "x"], 64),
    (["generate", "a", "--steps", "1001"], 64), (["generate", "a", "--guidance", "-1"], 64),
    (["generate", "a", "--width", "60"], 64), (["generate", "a", "--eta", "2"], 64),
    (["generate", "a", "--frames", "5"], 64), (["generate", "a", "--noise-level", "5"], 64),
    (["generate", "a", "--spacing", "karras", "--sampler", "ddim"], 64),
    (["generate", "a", "--sampler", "euler", "--sigmas", "1,3,9"], 64),
    (["generate", "a", "--sampler", "nothing"], 64), (["generate", "a", "--device", "nothing"], 64),
    (["generate", "a", "--device", "opencl:99"], 64), (["generate", "a", "--count", "0"], 64),
    (["generate", "a", "--bogus"], 64), (["generate", "a", "--strength", "0.5"], 64),
    (["generate", "a", "--output", "a.txt"], 64), (["generate", "a", "--seed", "-1"], 64),
    (["profile", "a", "--steps", "0"], 64),
    (["tune", "--device", "cpu"], 64), (["bench", "--suite", "nothing"], 64), (["nothing"], 64),
    (["generate", "a", "--model", "missing"], 1), (["generate", "a", "--model", "some/missing"], 1),
    (["generate", "a", "--image", "missing.png"], 1), (["generate", "--prompt-file", "missing.txt"], 1),
    (["generate", "a", "--init-latents", "missing.safetensors"], 1),
    (["generate", "--from", "missing.png"], 1),
    (["embed", "--model", "missing", "--text", "a"], 1), (["bench", "--compare", "a.json", "b.json"], 1),
  ]

  @Test(arguments: failures)
  func theExitCodeSaysWhoIsAtFault(arguments: [String], status: Int32) throws {
    let isGenerate = ["generate", "profile"].contains(arguments[0]) && !arguments.contains("--device")
    let outcome = try run(arguments + (isGenerate ? ["--device", "cpu"] : []))
    #expect(outcome.status == status, "\(outcome.errors)")
    #expect(
      outcome.errorLines.count == 1 && outcome.errors.hasPrefix("langevin: error: "), "\(outcome.errors)")
    #expect(outcome.output.isEmpty)
    #expect(try scratch.files().isEmpty)
  }

  @Test(arguments: [
    (["genrate", "a cat"], "did you mean 'generate'?"), (["device"], "did you mean 'devices'?"),
    (["tun"], "did you mean 'tune'?"), (["a cat"], "langevin generate \"a cat\""),
    (["generate", "a", "--sampler", "euller"], "did you mean 'euler'?"),
    (["generate", "a", "--sampler", "DPM++ 2M Karas"], "did you mean 'dpmpp-2m-karras'?"),
    (["generate", "a", "--gidance", "3"], "--guidance"),
  ])
  func aWordThatWasMisspeltIsGuessed(arguments: [String], words: String) throws {
    let outcome = try run(arguments)
    #expect(outcome.status == 64 && outcome.errorLines.count == 1)
    #expect(outcome.errors.contains(words), "\(outcome.errors)")
  }

  @Test(arguments: ["xylophone", "generation-of-cats", ""])
  func whatIsNearNothingIsNotGuessed(word: String) throws {
    let outcome = try run([word])
    #expect(outcome.status == 64 && !outcome.errors.contains("did you mean"), "\(outcome.errors)")
  }

  @Test func everyCommandIsStillOne() throws {
    let help = try run(["--help"]).output
    // There is a section for each group of commands.
    let commands = help.components(separatedBy: "SUBCOMMANDS:").dropFirst().joined(separator: "\n")
      .split(separator: "\n").compactMap { line in
        line.hasPrefix("  ") && !line.hasPrefix("   ")
          ? line.split(separator: " ").first.map(String.init) : nil
      }
    #expect(commands.count >= 13)
    for command in commands where command != "See" {
      #expect(try run([command, "--help"]).status == 0, "\(command)")
      #expect(try run(["help", command]).status == 0, "\(command)")
    }
  }

  @Test func shortOptionsAreTheLongOnes() throws {
    for (names, file) in [
      (["-s", "-n", "-W", "-H", "-o"], "a"), (["--seed", "--count", "--width", "--height", "--output"], "b"),
    ] {
      let values = ["7", "2", "72", "80", "\(file).png"]
      let outcome = try run(["generate", "a face"] + Self.common + zip(names, values).flatMap { [$0, $1] })
      #expect(outcome.status == 0, "\(outcome.errors)")
    }
    let (short, long) = (try pictures("a"), try pictures("b"))
    #expect(short == long && short.count == 2 && short[0].width == 72 && short[0].height == 80)
  }

  private func pictures(_ stem: String) throws -> [Picture] {
    try scratch.files().filter { $0.hasPrefix(stem) }.map { try Picture.read(scratch.url($0)).picture }
  }

  /// One name of each kind; `SamplerNameTests` has them all.
  @Test func otherToolsNamesAreTheirSamplers() throws {
    let names: [(String, [String])] = [
      ("euler_a", ["euler-a"]), ("DPM++ 2M Karras", ["dpmpp-2m-karras"]), ("k_lms", ["lms"]),
      ("DPM++ 2M SDE Karras", ["dpmpp-2m-sde", "--spacing", "karras"]), ("EulerDiscreteScheduler", ["euler"]),
    ]
    for (index, (name, own)) in names.enumerated() {
      let common = ["generate", "a face", "--device", "cpu", "--steps", "3", "--seed", "1", "--quiet"]
      let runs = [
        ["--sampler", name, "-o", "a\(index).png"], ["--sampler"] + own + ["-o", "b\(index).png"],
      ]
      for run in runs {
        let outcome = try self.run(common + run)
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      #expect(try pictures("a\(index)") == pictures("b\(index)"), "\(name)")
    }
  }

  @Test func wordsWithoutQuotesAreAskedAbout() throws {
    let words = try run(["generate", "cat", "face", "-o", "a.png"] + Self.common)
    #expect(words.status == 0 && words.errorLines.count == 1)
    #expect(words.errors.contains("2 prompts") && words.errors.contains("\"cat face\""), "\(words.errors)")
    for (index, prompts) in [["cat face"], ["cat"], ["cat face", "dog face"], ["cat", "dog face"]]
      .enumerated()
    {
      let outcome = try run(["generate"] + prompts + ["-o", "\(index).png"] + Self.common)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
    }
  }

  @Test func theModelsPromptsAreListed() throws {
    let all = try run(["generate", "--list-prompts"])
    let names = all.output.split(separator: "\n").map(String.init)
    #expect(all.status == 0 && all.errors.isEmpty && names.count > 100)
    #expect(names.contains("grinning face") && Set(names).count == names.count)
    let some = try run(["generate", "--list-prompts", "FACE", "cat"]).output.split(separator: "\n").map(
      String.init)
    #expect(!some.isEmpty && some == names.filter { $0.contains("face") && $0.contains("cat") })
    let none = try run(["generate", "--list-prompts", "no such thing"])
    #expect(none.status == 0 && none.output.isEmpty && none.errors.contains("\(names.count) prompts"))

    let model = try scratch.model()
    try FileManager.default.removeItem(at: model.appendingPathComponent("prompts.txt"))
    let without = try run(["generate", "--list-prompts", "--model", model.path])
    #expect(without.status == 0 && without.output.isEmpty && without.errorLines.count == 1)
    #expect(without.errors.contains("no list of prompts"))
    #expect(try run(["generate", "--list-prompts", "--model", "missing"]).status == 1)
  }
}
