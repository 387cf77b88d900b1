import Foundation
import LangevinCPU
import LangevinNN
import LangevinTensor
import Testing

@testable import Langevin
@testable import LangevinModels

private let folder = fixtures.appendingPathComponent("adapters")
private let cpu = Device(CPUBackend())

/// Tokens and vectors of textual inversion files; what they draw is in AdapterTests.
@Suite struct TextualInversionTests {
  let temporary: TemporaryFolder

  init() throws { temporary = try TemporaryFolder() }

  private func model(_ name: String = "tiny-sd") throws -> Checkpoint {
    try Checkpoint.open(fixtures.appendingPathComponent(name))
  }

  private func inversion(_ name: String, _ token: String? = nil) throws -> TextualInversion {
    try TextualInversion(url: folder.appendingPathComponent("\(name).safetensors"), token: token)
  }

  private func write(_ shapes: [(String, Shape)], _ name: String = "learned") throws -> URL {
    let url = temporary.url.appendingPathComponent("\(name).safetensors")
    try SafetensorsWriter.write(try shapes.map { ($0, try Tensor.fill(0.5, $1, on: cpu)) }, to: url)
    return url
  }

  @Test func tokensAreTheFilesOrTheUsers() throws {
    #expect(try inversion("cat").token == "<cat-toy>")
    #expect(try inversion("my-style").token == "my-style")
    #expect(try inversion("my-style", "<s>").token == "<s>")
    #expect(try inversion("ink").token == "ink")
  }

  @Test func theTokenizerAndTheTableGrowTogether() throws {
    let before = try model()
    let after = try before.adding([inversion("cat"), inversion("my-style", "<s>")])
    let tokenizer = try after.tokenizer.load()
    #expect(tokenizer.encode("<cat-toy>") == [2388])
    #expect(tokenizer.encode("<S>") == [2389, 2390, 2391])
    #expect(tokenizer.encode("<s>_2 <s>_1") == [2391, 2390])
    #expect(tokenizer.encode("a face") == (try before.tokenizer.load().encode("a face")))
    #expect(tokenizer.decode(tokenizer.encode("a <s> face")) == "a <s> face")

    let text = try after.textEncoder
    #expect(try CLIPTextConfig(text.configuration).vocabularySize == 2392)
    let name = try #require(ExtendedTable.tableName(in: text.weights))
    #expect(text.weights.spec(of: name) == TensorSpec([2392, 64], .float32))
    let table = try text.weights.load(name, on: cpu)
    let own = try before.textEncoder.weights.load(name, on: cpu).cast(to: .float32)
    #expect(try table.rows(0..<2388).floats() == own.floats())
    let style = try SafetensorsFile(url: folder.appendingPathComponent("my-style.safetensors"))
    #expect(try table.rows(2389..<2392).floats() == style.load("emb_params", on: cpu).floats())
  }

  @Test func filesOfEachEncoderAreTakenTogether() throws {
    let files = try ["a", "b"].map { try TextualInversion(url: write([("<x>", [2, 12])], $0)) }
    let model = try model("tiny-xl").adding(files)
    for name in ["tokenizer", "tokenizer_2"] {
      #expect(try model.tokenizer(named: name).load().encode("<x>") == [2388, 2389])
    }
  }

  /// A chunk is closed before a token of several vectors that does not fit, in plain prompts it is cut.
  @Test func chunksDoNotDivideAToken() throws {
    let tokenizer = try model().adding([inversion("my-style", "<s>")]).tokenizer.load()
    let prompt = "a a a a a <s> a"
    let chunks = try tokenizer.chunks(prompt, .a1111, length: 9)
    let word = try #require(tokenizer.encode("a").first)
    #expect(
      chunks.ids.map { $0[1...7].filter { $0 == word || $0 >= 2388 } } == [
        [word, word, word, word, word], [2388, 2389, 2390, word],
      ])
    let strong = try tokenizer.chunks("(<s>:1.5) a", .a1111, length: 9)
    #expect(strong.weights[0].prefix(5) == [1, 1.5, 1.5, 1.5, 1])
    // One that is longer than a chunk is divided all the same.
    #expect(try tokenizer.chunks("<s>", .a1111, length: 4).ids.count == 2)
    #expect(try tokenizer.chunks(prompt, .plain, length: 8).ids[0][6] == 2388)
  }

  // MARK: Faults

  @Test func vectorsOfAnotherWidthAreRefused() throws {
    let url = try write([("<x>", [2, 768])])
    let expected = AdapterError.wrongWidth(path: url.path, name: "<x>", got: 768, needed: [64])
    #expect(throws: expected) { try model().adding([TextualInversion(url: url)]) }
    #expect("\(expected)".contains("768 wide") && "\(expected)".contains("64"))
  }

  @Test func aTokenOfTheVocabularyIsRefused() throws {
    for token in ["face</w>", "<|endoftext|>"] {
      let cat = try inversion("cat", token)
      #expect(throws: AdapterError.knownToken(path: cat.url.path, token: token)) { try model().adding([cat]) }
    }
    // The second vector of one is the name of another.
    let (style, other) = (try inversion("my-style", "<s>"), try inversion("cat", "<s>_1"))
    #expect(throws: AdapterError.self) { try model().adding([other, style]) }
    #expect(throws: AdapterError.self) { try model().adding([style]).adding([inversion("cat", "<s>")]) }
  }

  @Test func eachEncoderOfTheModelNeedsVectors() throws {
    let url = try write([("clip_l", [2, 12])])
    let file = try TextualInversion(url: url)
    #expect(throws: AdapterError.noVectors(path: url.path, token: "learned", encoder: "text_encoder_2")) {
      try model("tiny-xl").adding([file])
    }
    let uneven = try TextualInversion(url: write([("clip_l", [2, 12]), ("clip_g", [1, 12])], "uneven"))
    #expect(throws: AdapterError.differentCounts(path: uneven.url.path, token: "uneven")) {
      try model("tiny-xl").adding([uneven])
    }
    let cat = try inversion("cat")
    #expect(throws: AdapterError.noTextEncoder(path: cat.url.path, pipeline: "DDPMPipeline")) {
      try model("tiny-ddpm").adding([cat])
    }
  }

  @Test func filesOfOtherTensorsAreRefused() throws {
    for shapes: [(String, Shape)] in [
      [("<x>", [2, 64]), ("<y>", [2, 64])], [("clip_l", [2, 64]), ("t5xxl", [2, 64])], [("<x>", [1, 2, 64])],
      [(" ", [64])],
    ] {
      let url = try write(shapes, UUID().uuidString)
      #expect(throws: CheckpointError.self, "\(shapes)") { try TextualInversion(url: url) }
    }
  }

  @Test func whatIsWrittenIsWhatWasRead() throws {
    let url = temporary.url.appendingPathComponent("learned_embeds.safetensors")
    try TextualInversion.write(Tensor([1, 2, 3, 4] as [Float], [2, 2], on: cpu), of: "<x>", to: url)
    let again = try TextualInversion(url: temporary.url)
    #expect(again.token == "<x>" && again.size("<x>") == (2, 2))
  }
}
