// The spellings of a tokenizer's JSON files.

/// `tokenizer.json`, as far as it decides anything here.
struct TokenizerDocument: Decodable {
  struct Model: Decodable {
    let type: String?
    let vocab: [String: Int32]
    let merges: [Merge]
    let wordEnd: String?
    let prefix: String?

    private enum CodingKeys: String, CodingKey {
      case type, vocab, merges
      case wordEnd = "end_of_word_suffix"
      case prefix = "continuing_subword_prefix"
    }
  }

  struct AddedToken: Decodable {
    let id: Int32
    let content: String
    let normalized: Bool
  }

  /// `"a b"`, or `["a", "b"]` in newer files.
  enum Merge: Decodable {
    case line(String)
    case pair(String, String)

    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      if let line = try? value.decode(String.self) {
        self = .line(line)
        return
      }
      let parts = try value.decode([String].self)
      guard parts.count == 2 else {
        throw DecodingError.dataCorruptedError(in: value, debugDescription: "a merge is a pair")
      }
      self = .pair(parts[0], parts[1])
    }
  }

  let model: Model
  let addedTokens: [AddedToken]?

  private enum CodingKeys: String, CodingKey {
    case model
    case addedTokens = "added_tokens"
  }
}

/// A bare string, or an object with flags.
struct SpecialToken: Decodable {
  let content: String
  let normalized: Bool

  init(content: String, normalized: Bool = false) {
    self.content = content
    self.normalized = normalized
  }

  private enum CodingKeys: String, CodingKey {
    case content, normalized
  }

  init(from decoder: any Decoder) throws {
    if let content = try? decoder.singleValueContainer().decode(String.self) {
      self.init(content: content)
      return
    }
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      content: try fields.decode(String.self, forKey: .content),
      normalized: try fields.decodeIfPresent(Bool.self, forKey: .normalized) ?? false)
  }
}

/// `special_tokens_map.json`, and a part of `tokenizer_config.json`.
struct SpecialTokens: Decodable {
  var start: SpecialToken?
  var end: SpecialToken?
  var unknown: SpecialToken?
  var padding: SpecialToken?

  private enum CodingKeys: String, CodingKey {
    case start = "bos_token"
    case end = "eos_token"
    case unknown = "unk_token"
    case padding = "pad_token"
  }

  /// These, and where they are silent the others.
  func over(_ others: SpecialTokens) -> SpecialTokens {
    SpecialTokens(
      start: start ?? others.start, end: end ?? others.end, unknown: unknown ?? others.unknown,
      padding: padding ?? others.padding)
  }
}

/// `tokenizer_config.json`, as far as it decides anything here.
struct TokenizerConfiguration: Decodable {
  let maximumLength: Double?
  /// By id, as decimal digits.
  let addedTokens: [Int32: SpecialToken]?
  let special: SpecialTokens

  private enum CodingKeys: String, CodingKey {
    case maximumLength = "model_max_length"
    case addedTokens = "added_tokens_decoder"
  }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    maximumLength = try fields.decodeIfPresent(Double.self, forKey: .maximumLength)
    let tokens = try fields.decodeIfPresent([String: SpecialToken].self, forKey: .addedTokens)
    addedTokens = try tokens.map { tokens in
      var result: [Int32: SpecialToken] = [:]
      for (key, token) in tokens {
        guard let id = Int32(key) else {
          throw DecodingError.dataCorruptedError(
            forKey: .addedTokens, in: fields, debugDescription: "'\(key)' is not an id")
        }
        result[id] = token
      }
      return result
    }
    special = try SpecialTokens(from: decoder)
  }
}
