import Testing

@testable import Langevin
@testable import LangevinModels

/// A1111's syntax of prompts: its own examples (`parse_prompt_attention`) and the edges of its rules.
@Suite struct PromptSyntaxTests {
  private static let cases: [(String, [(String, Double)])] = [
    ("normal text", [("normal text", 1.0)]),
    ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    (#"\(literal\]"#, [("(literal]", 1)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    (
      "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
      [
        ("a ", 1), ("house", 1.5730000000000004), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55),
        (", sun, ", 1.1), ("sky", 1.4641000000000006), (".", 1.1),
      ]
    ),
    ("12:30 (a:b) :", [("12:30 ", 1), ("a:b", 1.1), (" :", 1)]),
    ("a) b]", [("a) b]", 1)]),
    ("(x : +1.5 )", [("x ", 1.5)]),
    (#"a\b"#, [("ab", 1)]),
    ("", []),
  ]

  @Test(arguments: cases)
  func weights(prompt: String, expected: [(String, Double)]) throws {
    let parts = try WeightedText.parse(prompt)
    #expect(parts.count == 1 && parts[0].map(\.text) == expected.map(\.0), "\(parts)")
    for (run, (_, weight)) in zip(parts[0], expected) { #expect(abs(run.weight - weight) < 1e-12, "\(run)") }
  }

  @Test func breaksPart() throws {
    let parts = try WeightedText.parse("one BREAK (two BREAK three) BREAKS _BREAK")
    #expect(
      parts.map { $0.map(\.text).joined().trimmingPrefix(" ").description } == [
        "one ", "two ", "three BREAKS _BREAK",
      ])
  }

  /// Of 6 tokens 4 are text: `a b , c` and so on.
  @Test func chunks() throws {
    let tokenizer = try CLIPTokenizer(merges: "a b</w>\n")
    let (start, end) = (tokenizer.startToken, tokenizer.endToken)
    func texts(_ prompt: String) throws -> [String] {
      let chunks = try tokenizer.chunks(prompt, .a1111, length: 6)
      #expect(chunks.truncated == nil)
      for (ids, weights) in zip(chunks.ids, chunks.weights) {
        #expect(ids.count == 6 && weights.count == 6 && ids[0] == start && ids.contains(end))
      }
      return chunks.ids.map { tokenizer.decode($0.filter { $0 != start && $0 != end }) }
    }
    #expect(try texts("") == [""])
    #expect(try texts("a b c d") == ["a b c d"])
    #expect(try texts("a b c d e") == ["a b c d", "e"])
    // What follows a comma stays together.
    #expect(try texts("a , c d e") == ["a ,", "c d e"])
    #expect(try texts("a b c d , e") == ["a b c d", ", e"])
    #expect(try texts("a BREAK b") == ["a", "b"])
    let weighted = try tokenizer.chunks("(a:2) b", .a1111, length: 6)
    #expect(weighted.weights == [[1, 2, 1, 1, 1, 1]] && weighted.isWeighted)
    // Plain text has no syntax, and is cut off.
    let plain = try tokenizer.chunks("(a:2) b c", .plain, length: 6)
    #expect(plain.ids.count == 1 && plain.truncated != nil && !plain.isWeighted)
  }

  /// 64 KiB is what a request takes; each of these was, at a megabyte, a matter of hours.
  @Test(arguments: [
    "(", "[", "(a", "((a", "(a:1.5", "a)", "BREAK ", "a,", "(a),", "\\(", ":", "(:", "e\u{301}", "a b ", "'s",
    "笑",
  ])
  func longPromptsAreQuickOrRefused(part: String) throws {
    let tokenizer = try CLIPTokenizer(merges: "a b</w>\n")
    let prompt = String(repeating: part, count: GenerationRequest.maximumPromptSize / part.utf8.count)
    let start = ContinuousClock.now
    do {
      let chunks = try tokenizer.chunks(prompt, .a1111, length: 77)
      #expect(chunks.ids.count <= CLIPTokenizer.maximumChunks)
    } catch {
      #expect("\(error)".contains("more than") && "\(error)".count < 100, "\(error)")
    }
    // Unoptimised builds are some twenty times slower.
    #expect(ContinuousClock.now - start < .seconds(isOptimised ? 1 : 20))
  }

  @Test func asMuchAsIsAllowedIsTaken() throws {
    let deep = String(repeating: "(", count: 100) + "a" + String(repeating: ")", count: 100)
    #expect(try WeightedText.parse(deep)[0].count == 1)
    #expect(throws: GenerationError.self) { try WeightedText.parse("(" + deep) }
    let tokenizer = try CLIPTokenizer(merges: "a b</w>\n")
    let words = String(repeating: "a ", count: 4 * CLIPTokenizer.maximumChunks)
    #expect(try tokenizer.chunks(words, .a1111, length: 6).ids.count == CLIPTokenizer.maximumChunks)
    #expect(throws: GenerationError.self) { try tokenizer.chunks(words + "a", .a1111, length: 6) }
    var request = GenerationRequest(prompt: String(repeating: "a", count: 1 << 16))
    try request.checkRanges()
    request.prompt += "a"
    #expect(throws: GenerationError.self) { try request.checkRanges() }
    (request.prompt, request.negativePrompt) = ("a", String(repeating: "笑", count: 1 << 16))
    #expect(throws: GenerationError.self) { try request.checkRanges() }
  }

  private var isOptimised: Bool {
    var result = true
    // Evaluated in debug builds only.
    assert(
      {
        result = false
        return true
      }())
    return result
  }
}
