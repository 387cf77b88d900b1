import Foundation
import LangevinJSON

/// Reads Hugging Face's tokenizer.json where it describes a Unigram model. What it asks for and this
/// implementation does not have is refused by name.
struct T5TokenizerFile {
  let path: String
  private let json: StrictJSON

  init(_ url: URL) throws {
    path = url.path
    let bytes = try TokenizerError.contents(url)
    do {
      json = try StrictJSON(parsing: bytes, nonFinite: true)
    } catch {
      throw TokenizerError.malformed(path: path, reason: "it is not valid JSON")
    }
  }

  subscript(key: String) -> StrictJSON? { json[key] == .null ? nil : json[key] }

  func malformed(_ reason: String) -> TokenizerError { .malformed(path: path, reason: reason) }

  private func unsupported(_ found: String) -> TokenizerError { .unsupported(path: path, found: found) }

  private func type(_ step: StrictJSON, of what: String) throws -> String {
    guard let type = step["type"]?.string else { throw malformed("a step of '\(what)' has no type") }
    return type
  }

  private func steps(_ step: StrictJSON, _ key: String) throws -> [StrictJSON] {
    guard case .array(let steps)? = step[key] else { throw malformed("'\(key)' is not a list") }
    return steps
  }

  private func text(_ step: StrictJSON, _ key: String) throws -> String {
    guard let text = step[key]?.string else { throw malformed("'\(key)' is not a string") }
    return text
  }

  private func flag(_ step: StrictJSON, _ key: String, default fallback: Bool) throws -> Bool {
    switch step[key] {
    case nil, .null?: return fallback
    case .bool(let value)?: return value
    default: throw malformed("'\(key)' is neither true nor false")
    }
  }

  // MARK: The model

  typealias Vocabulary = [(piece: String, score: Double)]

  func vocabulary() throws -> Vocabulary {
    guard let model = self["model"] else { throw malformed("'model' is missing") }
    guard case .array(let entries)? = model["vocab"], model["type"]?.string ?? "Unigram" == "Unigram" else {
      throw unsupported("a \(model["type"]?.string ?? "nameless") model where a Unigram model is expected")
    }
    return try entries.map { entry in
      guard case .array(let pair) = entry, pair.count == 2, let piece = pair[0].string,
        let score = pair[1].double, score.isFinite
      else {
        throw malformed("an entry of the vocabulary is not a piece and its score")
      }
      return (piece, score)
    }
  }

  func model(_ vocabulary: Vocabulary) throws -> UnigramModel {
    guard let model = self["model"], let unknown = model["unk_id"]?.count else {
      throw unsupported("a Unigram model without unk_id")
    }
    guard unknown < vocabulary.count else { throw malformed("unk_id \(unknown) is not in the vocabulary") }
    return UnigramModel(
      vocabulary, unknown: Int32(unknown), byteFallback: try flag(model, "byte_fallback", default: false))
  }

  func addedTokens() throws -> [AddedTokens.Token] {
    guard self["added_tokens"] != nil else { return [] }
    return try steps(json, "added_tokens").map { entry in
      guard let id = entry["id"]?.count, let id = Int32(exactly: id), let content = entry["content"]?.string
      else {
        throw malformed("an added token has no id or content")
      }
      let isSpecial = try flag(entry, "special", default: false)
      return AddedTokens.Token(
        id: id, content: content, stripsLeft: try flag(entry, "lstrip", default: false),
        stripsRight: try flag(entry, "rstrip", default: false),
        isSingleWord: try flag(entry, "single_word", default: false),
        isNormalized: try flag(entry, "normalized", default: !isSpecial))
    }
  }

  // MARK: Steps

  func normalizer() throws -> TextNormalizer {
    guard let step = self["normalizer"] else { return .sequence([]) }
    return try normalizer(step)
  }

  private func normalizer(_ step: StrictJSON) throws -> TextNormalizer {
    let type = try type(step, of: "normalizer")
    switch type {
    case "Sequence": return .sequence(try steps(step, "normalizers").map(normalizer))
    case "Precompiled":
      guard let map = CharacterMap(base64: try text(step, "precompiled_charsmap")) else {
        throw malformed("'precompiled_charsmap' is not a map of characters")
      }
      return .characterMap(map)
    case "Replace":
      let content = try text(step, "content")
      if let literal = step["pattern"]?["String"]?.string {
        guard !literal.isEmpty else { throw unsupported("the normalizer Replace of an empty string") }
        return .replace(.string(literal), with: content)
      }
      guard let regex = step["pattern"]?["Regex"]?.string else { throw malformed("'pattern' is missing") }
      guard let pattern = TextNormalizer.Pattern(regex: regex) else {
        throw unsupported("the normalizer Replace of the pattern '\(regex)'")
      }
      return .replace(pattern, with: content)
    case "Strip":
      return .strip(
        left: try flag(step, "strip_left", default: true), right: try flag(step, "strip_right", default: true)
      )
    case "Prepend": return .prepend(try text(step, "prepend"))
    case "Lowercase": return .lowercase
    default:
      guard let form = TextNormalizer.NormalizationForm(rawValue: type) else {
        throw unsupported("the normalizer \(type)")
      }
      return .form(form)
    }
  }

  func preTokenizer() throws -> PreTokenizer {
    guard let step = self["pre_tokenizer"] else { return .sequence([]) }
    return try preTokenizer(step)
  }

  private func preTokenizer(_ step: StrictJSON) throws -> PreTokenizer {
    let type = try type(step, of: "pre_tokenizer")
    switch type {
    case "Sequence": return .sequence(try steps(step, "pretokenizers").map(preTokenizer))
    case "WhitespaceSplit": return .whitespaceSplit
    case "Metaspace":
      let scalars = try text(step, "replacement").unicodeScalars
      guard let replacement = scalars.first, scalars.count == 1 else {
        throw malformed("'replacement' is not one character")
      }
      // Older files have only `add_prefix_space`.
      let adds = try flag(step, "add_prefix_space", default: true)
      let name = step["prepend_scheme"]?.string ?? (adds ? "always" : "never")
      guard let scheme = PreTokenizer.PrependScheme(rawValue: name) else {
        throw unsupported("the prepend_scheme \(name)")
      }
      guard adds || scheme == .never else {
        throw malformed("'add_prefix_space' and 'prepend_scheme' contradict each other")
      }
      return .metaspace(
        replacement: replacement, scheme: scheme, split: try flag(step, "split", default: true))
    default: throw unsupported("the pre_tokenizer \(type)")
    }
  }

  /// The ids before and after a text.
  func template() throws -> (before: [Int32], after: [Int32]) {
    guard let step = self["post_processor"] else { return ([], []) }
    let type = try type(step, of: "post_processor")
    guard type == "TemplateProcessing" else { throw unsupported("the post_processor \(type)") }
    var (before, after, hasText): ([Int32], [Int32], Bool) = ([], [], false)
    for piece in try steps(step, "single") {
      if let sequence = piece["Sequence"] {
        guard sequence["id"]?.string == "A", !hasText else {
          throw unsupported("a template of more than one text")
        }
        hasText = true
        continue
      }
      guard let name = piece["SpecialToken"]?["id"]?.string,
        case .array(let ids)? = step["special_tokens"]?[name]?["ids"]
      else {
        throw malformed("the template has a token without id")
      }
      let numbers = try ids.map { id in
        guard let id = id.count.flatMap(Int32.init(exactly:)) else {
          throw malformed("the template has a token without id")
        }
        return id
      }
      if hasText { after += numbers } else { before += numbers }
    }
    guard hasText else { throw malformed("the template has no place for the text") }
    guard before.count + after.count <= 16 else { throw malformed("the template has more than 16 tokens") }
    return (before, after)
  }
}
