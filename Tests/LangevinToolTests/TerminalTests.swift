import Foundation
import Langevin
import LangevinTensor
import Testing

/// Whatever a model's files, a picture or the command line say, no control character reaches the terminal, and no
/// line is forged.
struct TerminalTests {
  /// Colours, a forged line, erasing by C0 and C1, a turned direction, and line separators.
  static let evil =
    "x\u{1B}[31m\nlangevin: error: forged\r\u{9B}2J\u{85}\u{8}\u{7F}\u{202E}\u{2066}\u{2028}\u{2029}y"

  let scratch: Scratch
  private var evil: String { Self.evil }

  init() throws { scratch = try Scratch() }

  private func expectHarmless(
    _ outcome: Tool.Outcome, status: Int32?, location: SourceLocation = #_sourceLocation
  ) {
    let all = outcome.output + outcome.errors
    // The place was reached, and shows what it got.
    #expect(all.contains("\\u001b["), "\(outcome)", sourceLocation: location)
    let raw = all.unicodeScalars.filter { scalar in
      scalar != "\n" && evil.unicodeScalars.contains(scalar) && !scalar.isASCII || scalar.value < 10
        || 10 < scalar.value && scalar.value < 32 || scalar.value == 127
    }
    #expect(raw.isEmpty, "\(raw.map { String($0.value, radix: 16) })", sourceLocation: location)
    let forged = all.split(separator: "\n").filter { $0.hasPrefix("langevin: error: forged") }
    #expect(forged.isEmpty, sourceLocation: location)
    if let status { #expect(outcome.status == status, "\(outcome)", sourceLocation: location) }
  }

  private func generate(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(
      ["generate", "dog", "--device", "cpu", "--steps", "1", "--output", "p.png"] + arguments,
      in: scratch.folder)
  }

  /// Replaces text in a file of a copy of the shipped model.
  private func model(_ file: String, _ from: String, _ to: String) throws -> URL {
    let model = try scratch.model()
    let url = model.appendingPathComponent(file)
    let text = try String(contentsOf: url, encoding: .utf8)
    try #require(text.contains(from), "\(text.prefix(500))")
    let json = String(decoding: try JSONEncoder().encode(to), as: UTF8.self).dropFirst().dropLast()
    try Data(text.replacingOccurrences(of: from, with: json).utf8).write(to: url)
    return model
  }

  @Test(arguments: [
    (["--model", "./\(evil)"], 1), (["--image", "\(evil).png"], 1), (["--device", evil], 64),
    (["--\(evil)"], 64), (["--sampler", evil], 64), (["--output", "\(evil).bmp"], 64),
    (["--output", "/proc/\(evil)/p.png"], 1), (["--prompt-file", evil], 1), (["--init-latents", evil], 1),
  ])
  func ofTheCommandLine(arguments: [String], status: Int) throws {
    expectHarmless(try generate(arguments), status: Int32(status))
  }

  @Test func ofAPromptThatIsCutOff() throws {
    let words = [String](repeating: "face", count: 30).joined(separator: " ") + " " + evil
    expectHarmless(
      try Tool.run(
        ["generate", words, "--device", "cpu", "--steps", "1", "--output", "p.png"], in: scratch.folder),
      status: 0)
  }

  @Test(arguments: [
    ("model_index.json", "StableDiffusionPipeline"), ("model_index.json", "UNet2DConditionModel"),
    ("scheduler/scheduler_config.json", "DDIMScheduler"), ("scheduler/scheduler_config.json", "v_prediction"),
    ("unet/config.json", "CrossAttnDownBlock2D"), ("text_encoder/config.json", "quick_gelu"),
    ("tokenizer/tokenizer.json", "BPE"), ("langevin.json", "guidance"),
  ])
  func ofAModelsDocuments(file: String, word: String) throws {
    expectHarmless(try generate(["--model", model(file, word, evil).path]), status: 1)
  }

  @Test(arguments: ["name", "dtype"]) func ofACheckpoint(place: String) throws {
    let model = try scratch.model()
    var edit = try SafetensorsEdit(
      model.appendingPathComponent("unet/diffusion_pytorch_model.safetensors"))
    if place == "dtype" {
      var entry = try edit.entry("conv_in.bias")
      entry["dtype"] = evil
      edit.header["conv_in.bias"] = entry
    } else {
      edit.header[evil] = [
        "dtype": "F32", "shape": [1], "data_offsets": [edit.data.count, edit.data.count + 4],
      ]
      edit.data += Data(count: 4)
    }
    try edit.save()
    expectHarmless(try generate(["--model", model.path]), status: 1)
  }

  @Test func ofNamesWhereAllIsWell() throws {
    let model = try scratch.model()
    let named = scratch.url(evil)
    try FileManager.default.moveItem(at: model, to: named)
    let outcome = try generate(["--model", named.path, "--output", "\(evil).png", "--verbose"])
    expectHarmless(outcome, status: 0)
    #expect(FileManager.default.fileExists(atPath: scratch.url("\(evil).png").path))
    let json = try generate(["--model", named.path, "--output", "\(evil).png", "--json", "--quiet"])
    #expect(json.status == 0 && json.errors.isEmpty)
    let report = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
    let outputs = try #require(report?["outputs"] as? [[String: Any]])
    #expect(outputs.map { $0["path"] as? String } == ["\(evil).png"])
    let scalars = json.output.unicodeScalars.filter {
      $0.value == 0x9B || $0.value == 0x202E || $0 == "\u{7F}"
    }
    #expect(scalars.isEmpty)
  }

  @Test func ofDriversReplaysAndPictures() throws {
    let drivers = scratch.url("drivers")
    try FileManager.default.createDirectory(at: drivers, withIntermediateDirectories: false)
    try Data("lib\(evil.replacing("\n", with: "")).so\n".utf8).write(
      to: drivers.appendingPathComponent("\(evil).icd"))
    let environment = ["OCL_ICD_VENDORS": drivers.path + "/"]
    for arguments in [["devices"], ["doctor"], ["devices", "--json"]] {
      expectHarmless(try Tool.run(arguments, in: scratch.folder, environment: environment), status: nil)
    }
    let key = String(decoding: try JSONEncoder().encode(evil), as: UTF8.self)
    try Data("{\"format\": 1, \"version\": \(key), \"operation\": {\(key): 1}}".utf8).write(
      to: scratch.url("replay.json"))
    for replay in ["replay.json", "\(evil).json"] {
      expectHarmless(try Tool.run(["validate", "--replay", replay], in: scratch.folder), status: 1)
    }
  }

  // MARK: The line that converts a pickle

  @Test(arguments: ["plain", "with space", "it's \"quoted\" $HOME `x` \\n", "two\nlines\tand 'one'\u{85}"])
  func thePicklesConversionIsALineForAShell(name: String) throws {
    let folder = scratch.url("\(name) folder")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    let pickle = folder.appendingPathComponent("\(name).ckpt")
    try Data([0x80, 0x02, 0x7D, 0x71, 0x00, 0x2E]).write(to: pickle)
    let outcome = try generate(["--model", pickle.path])
    #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.errors)")
    let command = try #require(outcome.errors.components(separatedBy: "convert it with: ").last)
    // bash knows $'…', as every shell will that follows POSIX of 2024.
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/bash")
    shell.arguments = ["-c", "python() { printf '%s\\0' \"$@\"; }; " + command]
    let pipe = Pipe()
    shell.standardOutput = pipe
    try shell.run()
    let words = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      .split(separator: "\0").map(String.init)
    shell.waitUntilExit()
    try #require(words.count == 4, "\(words)")
    #expect(words[0] == "-c" && words[1].hasPrefix("import sys, torch;"))
    #expect(words[2] == pickle.path)
    #expect(words[3] == folder.appendingPathComponent("\(name).safetensors").path)
  }

  // MARK: Text

  @Test func printableTextIsLeftAlone() {
    let plain = ["", "a – b", "café 悲 👩‍👩‍👧 עברית", "\\n \\u001b", "tag \u{200D}\u{FE0F}"]
    for text in plain { #expect(text.printable == text) }
    #expect(
      "a\tb\u{1B}\u{7F}\u{80}\u{200F}\u{202A}\u{2069}\0".printable
        == "a\\u0009b\\u001b\\u007f\\u0080\\u200f\\u202a\\u2069\\u0000")
    for value in (0..<0x3000 as Range<UInt32>) {
      guard let scalar = Unicode.Scalar(value) else { continue }
      let isSafe =
        scalar.properties.generalCategory != .control && !scalar.properties.isBidiControl
        && scalar.properties.generalCategory != .lineSeparator
        && scalar.properties.generalCategory != .paragraphSeparator
      #expect((String(scalar).printable == String(scalar)) == isSafe, "\(value)")
    }
  }

  @Test func longErrorsLoseTheirMiddle() throws {
    #expect(String(repeating: "x", count: 600).shortened().count == 600)
    let cut = ("begin" + String(repeating: "x", count: 10_000) + "end").shortened()
    #expect(cut.count == 600 && cut.hasPrefix("begin") && cut.hasSuffix("end") && cut.contains(" … "))
    let long = String(repeating: "9", count: 100_000)
    for (arguments, status) in [
      (["--model", long], 1), (["--device", long], 64), (["--steps", long], 64), (["--\(long)"], 64),
    ] {
      let outcome = try generate(arguments)
      #expect(outcome.status == Int32(status) && outcome.errorLines.count == 1)
      #expect(outcome.errors.count < 640, "\(outcome.errors.count)")
    }
    // A shape of many extents, and a tensor with a long name.
    let model = try scratch.model()
    var edit = try SafetensorsEdit(
      model.appendingPathComponent("unet/diffusion_pytorch_model.safetensors"))
    var entry = try edit.entry("conv_in.bias")
    let shape = try #require(entry["shape"] as? [Int])
    entry["shape"] = shape + [Int](repeating: 1, count: 5000)
    edit.header["conv_in.bias"] = entry
    try edit.save()
    let outcome = try generate(["--model", model.path, "--quiet"])
    #expect(outcome.status == 1 && outcome.errorLines.count == 1 && outcome.errors.count < 640)
    #expect(outcome.errors.contains("conv_in.bias"), "\(outcome.errors)")
  }
}
