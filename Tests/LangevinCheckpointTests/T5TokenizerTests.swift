import Foundation
import LangevinJSON
import Testing

@testable import LangevinModels

private let folder = fixtures.appendingPathComponent("unigram")

/// What make_unigram.py wrote, unpacked by gzip.
private func unpacked(_ name: String) throws -> [UInt8] {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/bin/gzip")
  process.arguments = ["-dc", folder.appendingPathComponent(name + ".gz").path]
  let output = Pipe()
  process.standardOutput = output
  try process.run()
  let data = output.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  #expect(process.terminationStatus == 0)
  return [UInt8](data)
}

private struct Golden: Sendable {
  let document: StrictJSON
  let variants: [StrictJSON.Member]
  let lines: [String]
  /// Per variant and line: how many ids and their hash.
  let hashes: [UInt8]

  static let shared = Result { try Golden() }

  private init() throws {
    document = try StrictJSON(parsing: unpacked("tokenizer.json"))
    guard case .object(let variants) = try StrictJSON(parsing: unpacked("variants.json")),
      case .array(let lines) = try StrictJSON(parsing: unpacked("lines.json"))
    else { preconditionFailure("the fixture is of another form") }
    self.variants = variants
    self.lines = lines.map { $0.string ?? "" }
    hashes = try unpacked("hashes.bin")
  }

  /// The same composition as in make_unigram.py, whose variants do not repeat the map of characters.
  func tokenizer(_ changes: StrictJSON) throws -> StrictJSON {
    guard case .object(var members) = document, case .object(let changes) = changes else { return .null }
    let map = document["normalizer"] ?? .null
    func filled(_ step: StrictJSON) -> StrictJSON {
      guard case .object(let members) = step else { return step }
      if step["type"] == .string("Precompiled") { return map }
      return .object(
        members.map {
          guard $0.key == "normalizers", case .array(let steps) = $0.value else { return $0 }
          return .init($0.key, .array(steps.map(filled)))
        })
    }
    func set(_ key: String, _ value: StrictJSON) {
      for index in members.indices where members[index].key == key { members[index].value = value }
    }
    for change in changes {
      switch change.key {
      case "byte_fallback":
        guard case .object(let model)? = document["model"] else { continue }
        set("model", .object(model.map { $0.key == change.key ? .init($0.key, change.value) : $0 }))
      case "more_tokens":
        guard case .array(let tokens)? = document["added_tokens"], case .array(let more) = change.value else {
          continue
        }
        set("added_tokens", .array(tokens + more))
      default: set(change.key, filled(change.value))
      }
    }
    return .object(members)
  }
}

/// 32-bit FNV-1a over little-endian int32.
private func hash(_ ids: [Int32]) -> UInt32 {
  ids.reduce(0x811C_9DC5) { value, id in
    (0..<4).reduce(value) { ($0 ^ UInt32(truncatingIfNeeded: id >> (8 * $1)) & 0xFF) &* 0x0100_0193 }
  }
}

@Suite struct T5TokenizerTests {
  private func tokenizer(_ document: StrictJSON, _ configuration: String? = nil) throws -> T5Tokenizer {
    let temporary = try TemporaryFolder()
    try temporary.write([UInt8](document.data), "tokenizer.json")
    if let configuration { try temporary.write(configuration, "tokenizer_config.json") }
    return try T5Tokenizer(folder: temporary.url)
  }

  /// Every line of every variant has exactly the ids that Hugging Face's tokenizers give it.
  @Test(arguments: ["umt5", "umt5-bytes", "t5", "generic", "added", "first", "prepend", "never", "bare"])
  func golden(_ name: String) throws {
    let golden = try Golden.shared.get()
    let place = try #require(golden.variants.firstIndex { $0.key == name })
    let tokenizer = try tokenizer(golden.tokenizer(golden.variants[place].value))
    #expect(golden.lines.count > 3000)
    #expect(golden.hashes.count == 6 * golden.variants.count * golden.lines.count)
    let hasEnd = name != "never"
    var wrong: [String] = []
    for (index, line) in golden.lines.enumerated() {
      let record = golden.hashes[(6 * (place * golden.lines.count + index))...].prefix(6).map(UInt32.init)
      let ids = tokenizer.encode(line) + (hasEnd ? [1] : [])
      let count = record[0] | record[1] << 8
      let expected = record[2] | record[3] << 8 | record[4] << 16 | record[5] << 24
      if ids.count != count || hash(ids) != expected {
        wrong.append("line \(index), \(line.debugDescription): \(ids), not \(count) ids")
      }
    }
    #expect(wrong.isEmpty, "\(wrong.count) lines differ: \(wrong.prefix(12).joined(separator: "\n"))")
  }

  @Test func sequences() throws {
    let golden = try Golden.shared.get()
    let document = try golden.tokenizer(golden.variants[0].value)
    let tokenizer = try tokenizer(document)
    #expect(tokenizer.maximumLength == 512 && tokenizer.paddingToken == 0)
    let text = "Deutsch (Österreich), русский"
    let ids = tokenizer.encode(text)
    let whole = tokenizer(text, length: ids.count + 3)
    #expect(whole.ids == ids + [1, 0, 0] && whole.length == ids.count + 1 && whole.truncated == nil)
    let exact = tokenizer(text, length: ids.count + 1)
    #expect(exact.ids == ids + [1] && exact.truncated == nil)
    let cut = tokenizer(text, length: 4)
    #expect(cut.ids == ids.prefix(3) + [1] && cut.length == 4)
    #expect(cut.truncated.map { text.hasSuffix($0) && !$0.isEmpty } == true)
    #expect(tokenizer("", length: 3) == T5Tokenizer.Sequence(ids: [1, 0, 0], length: 1, truncated: nil))
    #expect(tokenizer.decode(ids) == text)

    let configured = try self.tokenizer(
      document, #"{"pad_token": {"content": "<unk>"}, "model_max_length": 77, "padding_side": "right"}"#)
    #expect(configured.maximumLength == 77 && configured.paddingToken == 2)
  }

  /// Time grows with the text, and no more of it is encoded than a sequence can show.
  @Test func absurdlyLongPrompts() throws {
    let golden = try Golden.shared.get()
    let tokenizer = try tokenizer(golden.tokenizer(golden.variants[0].value))
    #expect(tokenizer(String(repeating: "abracadabra", count: 4000), length: 512).length == 512)
    let words = tokenizer(String(repeating: "a cat, ", count: 20_000), length: 512)
    #expect(words.length == 512 && (words.truncated ?? "").utf8.count < 4000)
  }

  @Test func badFiles() throws {
    let temporary = try TemporaryFolder()
    let missing = temporary.url.appendingPathComponent("tokenizer.json").path
    #expect(throws: TokenizerError.missingFile(path: missing)) { try T5Tokenizer(folder: temporary.url) }
    let model = #""model": {"type": "Unigram", "unk_id": 0, "vocab": [["<pad>", 0], ["a", -1.5]]}"#
    func step(_ key: String, _ value: String) -> String { "{\(model), \"\(key)\": \(value)}" }
    let cases: [(String, String)] = [
      ("{", "not valid JSON"), ("{}", "'model' is missing"),
      (#"{"model": {"type": "BPE", "vocab": {}}}"#, "BPE"),
      (#"{"model": {"type": "Unigram", "vocab": [["a", 0]]}}"#, "unk_id"),
      (#"{"model": {"type": "Unigram", "unk_id": 1, "vocab": [["a", 0]]}}"#, "unk_id 1"),
      (#"{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", "b"]]}}"#, "its score"),
      (
        #"{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0]]}}"#,
        "'<pad>' is not in the vocabulary"
      ),
      (step("normalizer", #"{"type": "BertNormalizer"}"#), "BertNormalizer"),
      (step("normalizer", #"{"type": "Precompiled", "precompiled_charsmap": "!"}"#), "precompiled_charsmap"),
      (step("normalizer", #"{"type": "Replace", "pattern": {"Regex": "\\d+"}, "content": ""}"#), #"'\d+'"#),
      (step("normalizer", #"{"type": "Sequence"}"#), "'normalizers' is not a list"),
      (step("pre_tokenizer", #"{"type": "ByteLevel"}"#), "ByteLevel"),
      (step("pre_tokenizer", #"{"type": "Metaspace", "replacement": "▁▁"}"#), "not one character"),
      (
        step("pre_tokenizer", #"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"}"#), "last"
      ),
      (step("post_processor", #"{"type": "BertProcessing"}"#), "BertProcessing"),
      (step("post_processor", #"{"type": "TemplateProcessing", "single": []}"#), "no place for the text"),
      (step("added_tokens", #"[{"content": "x"}]"#), "no id"),
    ]
    for (text, reason) in cases {
      let temporary = try TemporaryFolder()
      try temporary.write(text, "tokenizer.json")
      let error = #expect(throws: TokenizerError.self, "\(text)") { try T5Tokenizer(folder: temporary.url) }
      #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
      #expect(error?.description.contains("\n") == false)
    }
    try temporary.write("{\(model)}", "tokenizer.json")
    try temporary.write(#"{"padding_side": "left"}"#, "tokenizer_config.json")
    let error = #expect(throws: TokenizerError.self) { try T5Tokenizer(folder: temporary.url) }
    #expect(error?.description.contains("padding_side left") == true)
  }
}
