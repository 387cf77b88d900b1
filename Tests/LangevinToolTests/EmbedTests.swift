import Foundation
import Langevin
import LangevinCPU
import LangevinJSON
import LangevinTensor
import LangevinTestSupport
import Testing

/// `langevin embed` against transformers on Fixtures/tiny-clip: see Tests/Golden/make_clip.py.
struct EmbedTests {
  private static let fixtures = Fixtures.url

  private struct Run: Decodable {
    let texts, images, labels, direction: [String]
  }

  private struct Report: Decodable {
    struct Table: Decodable {
      let rows, columns: [String]
      let values: [[Float]]
    }
    struct Rank: Decodable {
      let image: String
      let score: Float
    }
    let device: String
    let logitScale: Float
    let cosines, classification: Table?
    let ranking: [Rank]?
  }

  private let scratch: Scratch
  private let run: Run
  private let golden: SafetensorsFile
  private let cpu = Device(CPUBackend())

  /// The fixture with tiny-sd's tokenizer as `model`, and its pictures.
  init() throws {
    scratch = try Scratch()
    let model = scratch.url("model")
    let source = Self.fixtures.appendingPathComponent("tiny-clip")
    try FileManager.default.copyItem(at: source, to: model)
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      try FileManager.default.copyItem(
        at: Self.fixtures.appendingPathComponent("tiny-sd/tokenizer/\(name)"),
        to: model.appendingPathComponent(name))
    }
    run = try JSONDecoder().decode(
      Run.self, from: Data(contentsOf: source.appendingPathComponent("run.json")))
    golden = try SafetensorsFile(url: source.appendingPathComponent("io.safetensors"))
    for name in run.images {
      try FileManager.default.copyItem(
        at: Self.fixtures.appendingPathComponent("pictures/\(name)"), to: scratch.url(name))
    }
  }

  private func embed(_ arguments: [String]) throws -> Tool.Outcome {
    try Tool.run(["embed", "--model", "model"] + arguments, in: scratch.folder)
  }

  private func arguments(_ option: String, _ values: [String]) -> [String] {
    values.flatMap { [option, $0] }
  }

  /// The greatest difference; embeddings and probabilities are of the order of 1.
  private func difference(_ a: [Float], _ name: String) throws -> Float {
    let b = try golden.load(name, on: cpu).floats()
    try #require(a.count == b.count)
    let result = zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) }
    if ProcessInfo.processInfo.environment["SHOW_ERRORS"] != nil { print("\(name): \(result)") }
    return result
  }

  @Test(arguments: ["cpu", "pocl"], ["f32", "f16"])
  func everythingAgreesWithTransformers(device: String, precision: String) throws {
    let outcome = try embed(
      arguments("--text", run.texts) + arguments("--image", run.images)
        + ["--classify", run.labels.joined(separator: ", "), "--direction"] + run.direction
        + [
          "--device", device == "pocl" ? Tool.pocl() : device, "--precision", precision, "--no-fallback",
          "--json",
          "--output", "e.safetensors",
        ])
    // PoCL's compiler may have something to say.
    #expect(outcome.status == 0 && !outcome.errors.contains("langevin:"), "\(outcome.errors)")
    let tolerance: Float = precision == "f32" ? 1e-4 : 2e-2
    let report = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
    #expect(abs(report.logitScale - 7.389) < 0.01)
    let cosines = try #require(report.cosines)
    #expect(cosines.rows == run.images && cosines.columns == run.texts)
    #expect(try difference(cosines.values.flatMap { $0 }, "cosines") < tolerance)
    let probabilities = try #require(report.classification)
    #expect(probabilities.columns == run.labels)
    #expect(try difference(probabilities.values.flatMap { $0 }, "probabilities") < tolerance)
    let ranking = try #require(report.ranking)
    #expect(ranking.map(\.score) == ranking.map(\.score).sorted(by: >))
    let scores = Dictionary(uniqueKeysWithValues: ranking.map { ($0.image, $0.score) })
    #expect(try difference(run.images.compactMap { scores[$0] }, "scores") < tolerance)

    let file = try SafetensorsFile(url: scratch.url("e.safetensors"))
    #expect(file.metadata["images"] == StrictJSON.strings(run.images).text)
    for name in ["text_embeds", "image_embeds"] {
      #expect(try difference(file.load(name, on: cpu).floats(), name) < tolerance)
    }
  }

  @Test func tablesForPeople() throws {
    let both = try embed(["--text", "a face", "--text", "a hat", "--image", "rgb.png", "--device", "cpu"])
    let lines = both.output.split(separator: "\n").map(String.init)
    #expect(both.status == 0 && lines.count == 5, "\(both.errors)")
    #expect(lines[0] == "cosine similarity" && lines[2].hasPrefix("rgb.png  "))
    #expect(lines[3] == "1: a face" && lines[4] == "2: a hat")
    let texts = try embed(["--text", "a face", "--text", "a hat", "--device", "cpu"])
    #expect(texts.output.contains("a face   1.0000"))
    // Asked for probabilities alone.
    let labels = try embed(["--image", "rgb.png", "--classify", "face,hat", "--device", "cpu"])
    #expect(labels.output.hasPrefix("probability\n"))
    let way = try embed(["--image", "rgb.png", "--direction", "a hat", "a face", "--device", "cpu"])
    #expect(way.output.hasPrefix("from 'a face' to 'a hat'\n"))
  }

  @Test func aLongTextIsCutAndSaidSo() throws {
    let text = [String](repeating: "face", count: 60).joined(separator: " ")
    let outcome = try embed(["--text", text, "--device", "cpu"])
    #expect(outcome.status == 0 && outcome.errors.contains("cut off: 'face face"), "\(outcome.errors)")
  }

  // MARK: Bad input

  private func fail(_ arguments: [String], status: Int32 = 1, words: [String]) throws {
    let before = try scratch.files()
    let outcome = try Tool.run(["embed"] + arguments, in: scratch.folder)
    #expect(outcome.status == status && outcome.output.isEmpty, "\(outcome.errors)")
    #expect(
      outcome.errorLines.count == 1 && outcome.errors.hasPrefix("langevin: error: "), "\(outcome.errors)")
    for word in words { #expect(outcome.errors.contains(word), "no '\(word)' in: \(outcome.errors)") }
    #expect(try scratch.files() == before)
  }

  @Test(arguments: [
    (["--model", "model"], ["--text", "--image"]), (["--text", "a"], ["--model"]),
    (["--model", "model", "--text", "a", "--classify", "a,b"], ["--classify needs an --image"]),
    (["--model", "model", "--image", "rgb.png", "--classify", "a,,b"], ["none empty"]),
    (["--model", "model", "--image", "rgb.png", "--classify", "a"], ["two labels"]),
    (["--model", "model", "--image", "rgb.png", "--direction", "a"], ["two texts, got 1"]),
    (["--model", "model", "--text", "b", "--direction", "a", "b"], ["--direction needs an --image"]),
  ])
  func badUsageExitsWith64(arguments: [String], words: [String]) throws {
    try fail(arguments, status: 64, words: words)
  }

  @Test func badInputIsNamed() throws {
    let some = ["--text", "face", "--device", "cpu"]
    try fail(["--model", "missing"] + some, words: ["missing: no such file"])
    try fail(["--model", try DefaultModel.url.path] + some, words: ["a diffusers pipeline is not supported"])
    let model = ["--model", "model", "--device", "cpu"]
    try fail(model + ["--text", " "], words: ["the text ' ' is empty"])
    try fail(model + ["--image", "none.png"], words: ["none.png: no such file"])
    try fail(model + ["--image", "model/config.json"], words: ["config.json: not a PNG, JPEG or WebP file"])
    try fail(
      model + ["--image", "rgb.png", "--direction", "a hat", "A  HAT"], words: ["the same embedding"])
    try fail(
      some + ["--model", "model", "--output", "/proc/nonexistent/e.safetensors"], words: ["cannot be written"]
    )
  }

  @Test(arguments: [
    (
      "config.json", "\"model_type\": \"clip\"", "\"model_type\": \"siglip\"",
      "model_type siglip is not supported"
    ),
    ("preprocessor_config.json", "\"resample\": 3", "\"resample\": 0", "0 (nearest)"),
    ("config.json", "\"patch_size\": 8", "\"patch_size\": 4", "patch_embedding.weight has shape"),
  ])
  func anotherModelIsNamed(file: String, from: String, to: String, words: String) throws {
    let url = scratch.url("model/" + file)
    let text = try String(contentsOf: url, encoding: .utf8)
    try #require(text.contains(from))
    try text.replacingOccurrences(of: from, with: to).write(to: url, atomically: true, encoding: .utf8)
    try fail(["--model", "model", "--text", "face", "--device", "cpu"], words: [words])
  }
}
