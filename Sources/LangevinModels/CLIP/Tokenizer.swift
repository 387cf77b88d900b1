import Foundation

/// CLIP's tokenizer: lower-case byte-level byte-pair encoding (arXiv:2103.00020, section 2.4), giving the ids
/// that `transformers.CLIPTokenizer` gives.
public struct CLIPTokenizer: Sendable {
  /// Begins every sequence.
  public let startToken: Int32
  /// Ends every sequence.
  public let endToken: Int32
  /// Fills a sequence up: the end token in Stable Diffusion 1.x, `!` in 2.x.
  public let paddingToken: Int32
  /// Stands for what the vocabulary has no token for.
  public let unknownToken: Int32
  /// The sequence length that the tokenizer's configuration names, else 77.
  public let maximumLength: Int

  private let encoding: BytePairEncoding
  /// Recognised in the text as given, and in the cleaned text.
  private let raw: MarkedTokens
  private var normalized: MarkedTokens
  private var spellings: [Int32: String]
  /// What was added to the vocabulary: how many ids follow an added token's first.
  private var added: [String: AddedToken] = [:]
  private var lengths: [Int32: Int] = [:]

  /// A token that a vocabulary gets besides its own, of one id or of several in a row.
  public struct AddedToken: Sendable, Equatable {
    /// As users write it.
    public let content: String
    /// At least one.
    public let ids: [Int32]

    /// A token of these ids.
    public init(_ content: String, ids: [Int32]) { (self.content, self.ids) = (content, ids) }
  }

  /// A sequence of fixed length, and what did not fit.
  public struct Sequence: Sendable, Equatable {
    /// Start token, text, end token, padding.
    public let ids: [Int32]
    /// How many tokens stand for text.
    public let textCount: Int
    /// The text that was left out, cleaned; the first few words of it where it is long.
    public let truncated: String?
  }

  /// Reads `tokenizer.json`, or `vocab.json` and `merges.txt`, and the special tokens that
  /// `tokenizer_config.json` and `special_tokens_map.json` name.
  ///
  /// Throws `TokenizerError`.
  public init(folder: URL) throws {
    try self.init(TokenizerFiles.read(folder: folder))
  }

  /// Derives the vocabulary from the merges as OpenAI's code does: the bytes, the bytes as ends of words, the
  /// merges in their order, start and end.
  ///
  /// - Parameters:
  ///   - merges: one pair per line, after an optional `#version` line.
  ///   - padding: the token that fills a sequence up.
  ///
  /// Throws `TokenizerError`.
  public init(merges: String, padding: String = "<|endoftext|>") throws {
    try self.init(TokenizerFiles(merges: merges, padding: padding))
  }

  init(_ files: TokenizerFiles) throws {
    func id(_ token: String) throws -> Int32 {
      guard let id = files.vocabulary[token] else {
        throw TokenizerError.malformed(
          path: files.path, reason: "the token '\(token)' is not in the vocabulary")
      }
      return id
    }
    startToken = try id(files.start)
    endToken = try id(files.end)
    paddingToken = try id(files.padding)
    unknownToken = try id(files.unknown)
    maximumLength = files.maximumLength
    do {
      encoding = try BytePairEncoding(tokens: files.vocabulary, merges: files.merges, unknown: unknownToken)
    } catch {
      throw TokenizerError.malformed(path: files.path, reason: error.text)
    }
    func marked(_ isNormalized: Bool) throws -> MarkedTokens {
      MarkedTokens(
        try files.marked.filter { $0.value == isNormalized }.map {
          MarkedTokens.Token(content: Array($0.key.unicodeScalars), ids: [try id($0.key)])
        })
    }
    raw = try marked(false)
    normalized = try marked(true)
    spellings = Dictionary(files.vocabulary.map { ($0.value, $0.key) }) { first, _ in first }
  }

  /// The same with more tokens. As transformers does, they are found in the cleaned text wherever they stand, within
  /// words too and in upper or lower case, the longest first.
  ///
  /// Throws `TokenizerError.malformed` for a token that is empty, without ids or in the vocabulary already.
  public func adding(_ tokens: [AddedToken]) throws -> CLIPTokenizer {
    var result = self
    for token in tokens {
      guard let first = token.ids.first, !token.content.isEmpty, !result.contains(token.content) else {
        throw TokenizerError.malformed(
          path: "added tokens", reason: "'\(token.content)' is empty or in the vocabulary already")
      }
      result.added[token.content] = token
      if token.ids.count > 1 { result.lengths[first] = token.ids.count }
      for id in token.ids where result.spellings[id] == nil {
        result.spellings[id] = id == first ? BytePairEncoding.spelling(of: token.content) : ""
      }
    }
    let pieces = tokens.map {
      MarkedTokens.Token(content: TokenizerText.normalized($0.content.unicodeScalars), ids: $0.ids)
    }
    result.normalized = normalized.adding(pieces)
    return result
  }

  /// Whether the vocabulary has exactly this token.
  public func contains(_ token: String) -> Bool { encoding.tokens[token] != nil || added[token] != nil }

  /// How many ids belong together from this one on: more than one for the first of an added token of several.
  public func idCount(from id: Int32) -> Int { lengths[id] ?? 1 }

  /// The tokens of a text, without start and end.
  public func encode(_ text: String) -> [Int32] { encode(text, limit: .max) }

  /// Stops at a word's end when there are `limit` tokens.
  private func encode(_ text: String, limit: Int) -> [Int32] {
    var ids: [Int32] = []
    for piece in raw.split(Array(text.unicodeScalars)) {
      guard ids.count < limit else { break }
      switch piece {
      case .token(let token): ids += token
      case .text(let scalars):
        for piece in normalized.split(TokenizerText.normalized(scalars)) {
          guard ids.count < limit else { break }
          switch piece {
          case .token(let token): ids += token
          case .text(let scalars):
            TokenizerText.forEachWord(Array(scalars)) { word in
              encoding.encode(TokenizerText.utf8(word), into: &ids)
              return ids.count < limit
            }
          }
        }
      }
    }
    return ids
  }

  /// A text as a sequence of `length` tokens: start, text, end, padding; and what did not fit.
  ///
  /// - Parameter length: at least 2.
  public func callAsFunction(_ text: String, length: Int) -> Sequence {
    precondition(length >= 2)
    // Enough of the rest to show what was cut.
    let ids = encode(text, limit: length + 64)
    let kept = ids.prefix(length - 2)
    let padding = [Int32](repeating: paddingToken, count: length - 2 - kept.count)
    return Sequence(
      ids: [startToken] + kept + [endToken] + padding, textCount: kept.count,
      truncated: ids.count > kept.count ? decode(ids.dropFirst(kept.count)) : nil)
  }

  /// The cleaned text that tokens stand for, words apart by spaces.
  public func decode(_ ids: some Swift.Sequence<Int32>) -> String {
    var bytes: [UInt8] = []
    for id in ids {
      guard let spelling = spellings[id] else { continue }
      if spelling.hasSuffix(BytePairEncoding.wordEnd) {
        bytes += BytePairEncoding.bytes(of: spelling.dropLast(BytePairEncoding.wordEnd.count)) + [0x20]
      } else {
        bytes += BytePairEncoding.bytes(of: spelling[...])
      }
    }
    return String(decoding: bytes.last == 0x20 ? bytes.dropLast() : bytes[...], as: UTF8.self)
  }
}
