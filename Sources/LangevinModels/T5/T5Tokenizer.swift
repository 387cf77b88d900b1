import Foundation
import LangevinJSON

/// The tokenizer of T5 and UMT5: a Unigram model (arXiv:1804.10959) with the normalization, the cuts and the added
/// tokens that its tokenizer.json describes, giving the ids that Hugging Face's tokenizers give.
public struct T5Tokenizer: Sendable {
  /// Fills a sequence up.
  public let paddingToken: Int32
  /// The sequence length that the tokenizer's configuration names, else 512.
  public let maximumLength: Int

  private let model: UnigramModel
  private let normalizer: TextNormalizer
  private let preTokenizer: PreTokenizer
  /// Recognised in the text as given, and in the normalized text.
  private let raw: AddedTokens
  private let normalized: AddedTokens
  /// Ids before and after a text.
  private let template: (before: [Int32], after: [Int32])
  /// By id, and those of added tokens.
  private let spellings: [String]
  private let addedSpellings: [Int32: String]

  /// A sequence of fixed length, and what did not fit.
  public struct Sequence: Sendable, Equatable {
    /// Text, end token, padding.
    public let ids: [Int32]
    /// How many of them are not padding, end token included.
    public let length: Int
    /// The text that was left out, normalized; the first few words of it where it is long.
    public let truncated: String?
  }

  /// Reads `tokenizer.json`, and what `tokenizer_config.json` says of padding and length where there is one.
  ///
  /// Throws `TokenizerError`.
  public init(folder: URL) throws {
    let file = try T5TokenizerFile(folder.appendingPathComponent("tokenizer.json"))
    let vocabulary = try file.vocabulary()
    model = try file.model(vocabulary)
    normalizer = try file.normalizer()
    preTokenizer = try file.preTokenizer()
    template = try file.template()
    let (normalizer, tokens) = (normalizer, try file.addedTokens())
    spellings = vocabulary.map(\.piece)
    addedSpellings = Dictionary(tokens.map { ($0.id, $0.content) }) { first, _ in first }
    raw = AddedTokens(tokens.filter { !$0.isNormalized })
    normalized = AddedTokens(
      tokens.filter(\.isNormalized).map { token in
        var content = PieceOfText(string: token.content, isBeginning: true)
        normalizer.apply(to: &content)
        var token = token
        token.content = content.string
        return token
      })

    let url = folder.appendingPathComponent("tokenizer_config.json")
    let configuration = FileManager.default.fileExists(atPath: url.path) ? try T5TokenizerFile(url) : nil
    for key in ["padding_side", "truncation_side"] {
      if let side = configuration?[key]?.string, side != "right" {
        throw TokenizerError.unsupported(path: url.path, found: "\(key) \(side)")
      }
    }
    let length = configuration?["model_max_length"]?.double ?? 512
    maximumLength = length >= 1 && length < 1e9 ? Int(length) : 512
    let padding = configuration?["pad_token"].flatMap { $0.string ?? $0["content"]?.string } ?? "<pad>"
    let known = tokens.first { $0.content.utf8.elementsEqual(padding.utf8) }?.id
    guard let id = known ?? model.id(of: padding) else {
      throw file.malformed("the padding token '\(padding)' is not in the vocabulary")
    }
    paddingToken = id
  }

  /// The tokens of a text, without those that begin and end a sequence.
  public func encode(_ text: String) -> [Int32] { encode(text, limit: .max) }

  /// Stops at a piece's end when there are `limit` tokens.
  private func encode(_ text: String, limit: Int) -> [Int32] {
    var ids: [Int32] = []
    for piece in raw.split(PieceOfText(string: text, isBeginning: true)) {
      guard case .text(var text) = piece else {
        if case .token(let id) = piece { ids.append(id) }
        continue
      }
      guard ids.count < limit else { break }
      normalizer.apply(to: &text)
      for piece in normalized.split(text) {
        switch piece {
        case .token(let id): ids.append(id)
        case .text(let text):
          for piece in preTokenizer.apply(to: [text]) {
            guard ids.count < limit else { break }
            model.encode(Array(piece.string.utf8), into: &ids)
          }
        }
      }
    }
    return ids
  }

  /// A text as a sequence of `length` tokens: text, end token, padding; and what did not fit.
  ///
  /// - Parameter length: room for the end token at least.
  public func callAsFunction(_ text: String, length: Int) -> Sequence {
    let room = length - template.before.count - template.after.count
    precondition(room >= 0)
    // Enough of the rest to show what was cut.
    let ids = encode(text, limit: length + 64)
    let whole = template.before + ids.prefix(room) + template.after
    return Sequence(
      ids: whole + Array(repeating: paddingToken, count: length - whole.count), length: whole.count,
      truncated: ids.count > room ? decode(ids[room...].prefix(length + 64)) : nil)
  }

  /// The normalized text that tokens stand for.
  public func decode(_ ids: some Swift.Sequence<Int32>) -> String {
    var bytes: [UInt8] = []
    for id in ids {
      let isPiece = spellings.indices.contains(Int(id))
      guard let spelling = addedSpellings[id] ?? (isPiece ? spellings[Int(id)] : nil) else { continue }
      if spelling.utf8.count == 6, spelling.hasPrefix("<0x"), spelling.hasSuffix(">"),
        let byte = UInt8(spelling.dropFirst(3).dropLast(), radix: 16)
      {
        bytes.append(byte)
      } else {
        bytes += spelling.utf8
      }
    }
    let text = String(decoding: bytes, as: UTF8.self).unicodeScalars.map { $0 == "▁" ? " " : $0 }
    return String(String.UnicodeScalarView(text)).trimmingCharacters(in: .whitespaces)
  }
}
