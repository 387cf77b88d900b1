import Testing

@testable import Langevin
@testable import LangevinModels

/// A1111's syntax of prompts: its own examples (`parse_prompt_attention`) and the edges of its rules.
@Suite struct PromptSyntaxTests {
  @Test(arguments: [
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
  ])
  func weights(prompt: String, expected: [(String, Double)]) {
    let parts = WeightedText.parse(prompt)
    #expect(parts.count == 1 && parts[0].map(\.text) == expected.map(\.0), "\(parts)")
    for (run, (_, weight)) in zip(parts[0], expected) { #expect(abs(run.weight - weight) < 1e-12, "\(run)") }
  }

  @Test func breaksPart() {
    let parts = WeightedText.parse("one BREAK (two BREAK three) BREAKS _BREAK")
    #expect(
      parts.map { $0.map(\.text).joined().trimmingPrefix(" ").description } == [
        "one ", "two ", "three BREAKS _BREAK",
      ])
  }

  /// Of 6 tokens 4 are text: `a b , c` and so on.
  @Test func chunks() throws {
    let tokenizer = try CLIPTokenizer(merges: "a b</w>\n")
    let (start, end) = (tokenizer.startToken, tokenizer.endToken)
    func texts(_ prompt: String) -> [String] {
      let chunks = tokenizer.chunks(prompt, .a1111, length: 6)
      #expect(chunks.truncated == nil)
      for (ids, weights) in zip(chunks.ids, chunks.weights) {
        #expect(ids.count == 6 && weights.count == 6 && ids[0] == start && ids.contains(end))
      }
      return chunks.ids.map { tokenizer.decode($0.filter { $0 != start && $0 != end }) }
    }
    #expect(texts("") == [""])
    #expect(texts("a b c d") == ["a b c d"])
    #expect(texts("a b c d e") == ["a b c d", "e"])
    // What follows a comma stays together.
    #expect(texts("a , c d e") == ["a ,", "c d e"])
    #expect(texts("a b c d , e") == ["a b c d", ", e"])
    #expect(texts("a BREAK b") == ["a", "b"])
    let weighted = tokenizer.chunks("(a:2) b", .a1111, length: 6)
    #expect(weighted.weights == [[1, 2, 1, 1, 1, 1]] && weighted.isWeighted)
    // Plain text has no syntax, and is cut off.
    let plain = tokenizer.chunks("(a:2) b c", .plain, length: 6)
    #expect(plain.ids.count == 1 && plain.truncated != nil && !plain.isWeighted)
  }
}
