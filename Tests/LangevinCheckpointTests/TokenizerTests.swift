import Foundation
import Testing

@testable import Langevin
@testable import LangevinModels

/// What `make_tokenizer.py` recorded of `transformers.CLIPTokenizer`.
private struct Golden: Decodable {
  struct Layout: Decodable {
    let name: String
    let files: [String: String]
    let length: Int
    let maximum: Int
    let start: Int32
    let end: Int32
    let pad: Int32
    let ids: [[Int32]]
    let padded: [[Int32]]
  }
  let texts: [String]
  let sets: [Layout]
}

private let folder = fixtures.appendingPathComponent("tokenizer")
private let small = fixtures.appendingPathComponent("tiny-sd/tokenizer")

@Suite struct TokenizerTests {
  let merges: String

  init() throws { merges = try ClipMerges.text }

  /// A folder as `transformers` would find it, with the full vocabulary.
  private func write(_ files: [String: String], to temporary: TemporaryFolder) throws {
    let vocabulary = try TokenizerFiles(merges: merges, padding: "!").vocabulary
    try temporary.write([UInt8](try JSONEncoder().encode(vocabulary)), "vocab.json")
    try temporary.write(merges, "merges.txt")
    for (name, text) in files { try temporary.write(text, name) }
  }

  @Test(arguments: ["emoji", "plain", "sd1", "sd2", "sd2-new"]) func golden(_ name: String) throws {
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: folder.appendingPathComponent("golden.json")))
    let layout = try #require(golden.sets.first { $0.name == name })
    #expect(golden.texts.count > 300 && layout.ids.count == golden.texts.count)
    let temporary = try TemporaryFolder()
    if name != "emoji" { try write(layout.files, to: temporary) }
    let tokenizer = try CLIPTokenizer(folder: name == "emoji" ? small : temporary.url)
    #expect(tokenizer.startToken == layout.start)
    #expect(tokenizer.endToken == layout.end)
    #expect(tokenizer.paddingToken == layout.pad)
    #expect(tokenizer.maximumLength == layout.maximum)
    for (text, ids) in zip(golden.texts, layout.ids) {
      #expect(tokenizer.encode(text) == ids, "\(text.debugDescription)")
    }
    for (text, ids) in zip(golden.texts, layout.padded) {
      #expect(tokenizer(text, length: layout.length).ids == ids, "\(text.debugDescription)")
    }
    if name == "plain" {
      let derived = try CLIPTokenizer(merges: merges)
      for (text, ids) in zip(golden.texts, layout.ids) { #expect(derived.encode(text) == ids) }
    }
    if name == "sd2-new" {
      let derived = try CLIPTokenizer(merges: merges, padding: "!")
      #expect(derived.paddingToken == 0)
      #expect(derived("a cat!", length: 8).ids == [49406, 320, 2368, 0, 49407, 0, 0, 0])
    }
  }

  @Test func truncation() throws {
    let tokenizer = try CLIPTokenizer(merges: merges)
    let whole = tokenizer("A cat", length: 4)
    #expect(whole.ids == [49406, 320, 2368, 49407])
    #expect(whole.truncated == nil && whole.textCount == 2)
    let cut = tokenizer("A cat on  a Café", length: 4)
    #expect(cut.ids == [49406, 320, 2368, 49407])
    #expect(cut.truncated == "on a café" && cut.textCount == 2)
    let none = tokenizer("cat", length: 2)
    #expect(none.ids == [49406, 49407] && none.truncated == "cat")
    #expect(tokenizer.decode(tokenizer.encode("Two 猫 and 😀")) == "two 猫 and 😀")
  }

  /// Merges are applied in n log n, and no more of a text is encoded than a sequence can show.
  @Test func absurdlyLongPrompts() throws {
    let tokenizer = try CLIPTokenizer(merges: merges)
    let letters = String(repeating: "abracadabra", count: 20_000)
    #expect(tokenizer(letters, length: 77).ids.count == 77)
    let words = String(repeating: "a cat, ", count: 300_000)
    let sequence = tokenizer(words, length: 77)
    #expect(sequence.textCount == 75)
    #expect((sequence.truncated ?? "").utf8.count < 400)
  }

  @Test func mergesAsLinesAndAsPairs() throws {
    let temporary = try TemporaryFolder()
    let vocabulary = #"{"a":0,"b":1,"a</w>":2,"b</w>":3,"ab</w>":4,"<|startoftext|>":5,"<|endoftext|>":6}"#
    for merges in [#"["a b</w>"]"#, #"[["a","b</w>"]]"#] {
      try temporary.write(
        #"{"model":{"type":"BPE","vocab":\#(vocabulary),"merges":\#(merges),"end_of_word_suffix":"</w>"}}"#,
        "tokenizer.json")
      let tokenizer = try CLIPTokenizer(folder: temporary.url)
      // A byte without a token is the unknown token, which is the end token.
      #expect(tokenizer.encode("ab aab abc") == [4, 0, 4, 0, 1, 6])
      #expect(tokenizer.maximumLength == 77)
    }
  }

  @Test func badFiles() throws {
    let temporary = try TemporaryFolder()
    func refusal(_ files: [String: String]) throws -> TokenizerError? {
      let temporary = try TemporaryFolder()
      for (name, text) in files { try temporary.write(text, name) }
      return #expect(throws: TokenizerError.self) { try CLIPTokenizer(folder: temporary.url) }
    }
    let missing = temporary.url.appendingPathComponent("vocab.json").path
    #expect(throws: TokenizerError.missingFile(path: missing)) { try CLIPTokenizer(folder: temporary.url) }
    let vocabulary = #"{"a":0,"b":1,"<|startoftext|>":5,"<|endoftext|>":6}"#
    for (files, reason) in [
      (["vocab.json": vocabulary], "no such file"),
      (["vocab.json": "{", "merges.txt": ""], "not valid JSON"),
      (["vocab.json": "[]", "merges.txt": ""], "wrong type"),
      (["vocab.json": "{}", "merges.txt": ""], "'<|startoftext|>' is not in the vocabulary"),
      (["vocab.json": vocabulary, "merges.txt": "#version: 0.2\na b\n"], "'a b'"),
      (["vocab.json": vocabulary, "merges.txt": "ab\n"], "not a pair"),
      (["vocab.json": vocabulary, "merges.txt": "", "tokenizer_config.json": #"{"pad_token":"q"}"#], "'q'"),
      (["tokenizer.json": #"{"model":{"type":"Unigram","vocab":{},"merges":[]}}"#], "not supported"),
      (["tokenizer.json": #"{"model":{"type":"BPE","merges":[]}}"#], "'vocab' is missing"),
    ] {
      let error = try refusal(files)
      #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
      #expect(error?.description.contains("\n") == false)
    }
  }
}
