import Foundation

/// What a tokenizer's files say, whichever of the layouts in use they have.
struct TokenizerFiles {
  /// The file's path, for messages.
  let path: String
  private(set) var vocabulary: [String: Int32]
  let merges: [(left: Substring, right: Substring)]
  var start = "<|startoftext|>"
  var end = "<|endoftext|>"
  var unknown = "<|endoftext|>"
  var padding = "<|endoftext|>"
  var maximumLength = 77
  /// Tokens recognised as a whole; true where they are looked for in the cleaned text.
  var marked: [String: Bool] = [:]

  // MARK: From merges alone

  /// OpenAI's derivation of the vocabulary.
  init(merges text: String, padding: String) throws {
    path = "merges"
    self.merges = try Self.merges(text, path: path)
    let alphabet = BytePairEncoding.vocabularyOrder.map { String(BytePairEncoding.alphabet[Int($0)]) }
    let tokens =
      alphabet + alphabet.map { $0 + BytePairEncoding.wordEnd }
      + self.merges.map { String($0.left) + $0.right }
      + [start, end]
    vocabulary = Dictionary(zip(tokens, 0...)) { _, last in last }
    self.padding = padding
    for token in [start, end, padding] { marked[token] = false }
  }

  /// One pair per line.
  static func merges(_ text: String, path: String) throws -> [(left: Substring, right: Substring)] {
    try text.split(whereSeparator: \.isNewline).filter { !$0.hasPrefix("#version") }.map { line in
      try pair(line, path: path)
    }
  }

  private static func pair(_ line: Substring, path: String) throws -> (left: Substring, right: Substring) {
    let parts = line.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
      throw TokenizerError.malformed(path: path, reason: "'\(line)' is not a pair of tokens")
    }
    return (parts[0], parts[1])
  }

  // MARK: From a folder

  static func read(folder: URL) throws -> TokenizerFiles {
    func file(_ name: String) -> URL { folder.appendingPathComponent(name) }
    var files: TokenizerFiles
    if FileManager.default.fileExists(atPath: file("tokenizer.json").path) {
      files = try TokenizerFiles(tokenizer: file("tokenizer.json"))
    } else {
      files = try TokenizerFiles(vocabulary: file("vocab.json"), merges: file("merges.txt"))
    }
    let configuration = try decode(TokenizerConfiguration.self, file("tokenizer_config.json"), optional: true)
    if let length = configuration?.maximumLength, length >= 3, length < 1e9 {
      files.maximumLength = Int(length)
    }
    if let tokens = configuration?.addedTokens {
      for (id, token) in tokens {
        files.marked[token.content] = token.normalized
        if files.vocabulary[token.content] == nil { files.vocabulary[token.content] = id }
      }
    }
    var special = configuration?.special ?? SpecialTokens()
    // Once `added_tokens_decoder` exists, the older file no longer counts.
    if configuration?.addedTokens == nil,
      let map = try decode(SpecialTokens.self, file("special_tokens_map.json"), optional: true)
    {
      special = map.over(special)
    }
    files.apply(special)
    return files
  }

  private init(vocabulary: URL, merges: URL) throws {
    path = vocabulary.path
    self.vocabulary = try Self.decode([String: Int32].self, vocabulary) ?? [:]
    let bytes = try TokenizerError.contents(merges)
    self.merges = try Self.merges(String(decoding: bytes, as: UTF8.self), path: merges.path)
  }

  private init(tokenizer: URL) throws {
    path = tokenizer.path
    guard let document = try Self.decode(TokenizerDocument.self, tokenizer) else {
      throw TokenizerError.missingFile(path: path)
    }
    let model = document.model
    guard model.type ?? "BPE" == "BPE", model.wordEnd == BytePairEncoding.wordEnd,
      model.prefix ?? "" == ""
    else {
      throw TokenizerError.unsupported(
        path: path,
        found:
          "a \(model.type ?? "BPE") tokenizer with word ends '\(model.wordEnd ?? "")', where CLIP's byte-level BPE is expected,"
      )
    }
    let path = self.path
    merges = try model.merges.map { merge in
      switch merge {
      case .line(let line): try Self.pair(line[...], path: path)
      case .pair(let left, let right): (left[...], right[...])
      }
    }
    var vocabulary = model.vocab
    for token in document.addedTokens ?? [] {
      vocabulary[token.content] = token.id
      marked[token.content] = token.normalized
    }
    self.vocabulary = vocabulary
  }

  /// Named special tokens are recognised as a whole too. Where one is named twice, the last of start, end,
  /// unknown and padding decides whether it is looked for in the cleaned text.
  private mutating func apply(_ special: SpecialTokens) {
    start = special.start?.content ?? start
    end = special.end?.content ?? end
    unknown = special.unknown?.content ?? unknown
    padding = special.padding?.content ?? padding
    let known = Set(marked.keys)
    let named = [
      special.start ?? SpecialToken(content: start), special.end ?? SpecialToken(content: end),
      special.unknown ?? SpecialToken(content: unknown),
      special.padding ?? SpecialToken(content: padding),
    ]
    for token in named where !known.contains(token.content) { marked[token.content] = token.normalized }
  }

  // MARK: Files

  /// Nil where the file is optional and absent.
  private static func decode<T: Decodable>(_ type: T.Type, _ url: URL, optional: Bool = false) throws -> T? {
    if optional && !FileManager.default.fileExists(atPath: url.path) { return nil }
    let data = Data(try TokenizerError.contents(url))
    do {
      return try JSONDecoder().decode(type, from: data)
    } catch DecodingError.keyNotFound(let key, _) {
      throw TokenizerError.malformed(path: url.path, reason: "'\(key.stringValue)' is missing")
    } catch DecodingError.typeMismatch(_, let context) {
      let place = context.codingPath.map(\.stringValue).joined(separator: ".")
      throw TokenizerError.malformed(path: url.path, reason: "'\(place)' is of the wrong type")
    } catch {
      throw TokenizerError.malformed(path: url.path, reason: "it is not valid JSON")
    }
  }
}
