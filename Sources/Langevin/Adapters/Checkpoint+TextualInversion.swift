import LangevinJSON
import LangevinModels
import LangevinNN

extension Checkpoint {
  /// A CLIP text encoder that can learn tokens.
  private struct Encoder {
    let name: String
    let component: Component
    let config: CLIPTextConfig
    let tokenizerName: String
    let tokenizer: TokenizerSource
    var rows: [ExtendedTable.Rows] = []
    var added: [CLIPTokenizer.AddedToken] = []
    /// Of the next token that is added.
    var nextID: Int
    var known: CLIPTokenizer
  }

  /// The same with new tokens: the tokenizers know them, and the text encoders' tables have their vectors.
  ///
  /// Files of one token, such as those of each of Stable Diffusion XL's encoders, are taken together. Throws
  /// `AdapterError`, and what opening text encoders and tokenizers throws.
  public func adding(_ inversions: [TextualInversion]) throws -> Checkpoint {
    guard let first = inversions.first else { return self }
    var encoders = try textEncoders()
    guard !encoders.isEmpty else {
      throw AdapterError.noTextEncoder(path: first.url.path, pipeline: pipeline)
    }
    var tokens: [String] = []
    for inversion in inversions where !tokens.contains(inversion.token) { tokens.append(inversion.token) }
    for token in tokens { try Self.add(inversions.filter { $0.token == token }, to: &encoders) }
    var components: [String: Component] = [:]
    var tokenizers: [String: TokenizerSource] = [:]
    for encoder in encoders {
      components[encoder.name] = Component(
        encoder.component.className, config: encoder.component.config.replacing("vocab_size", encoder.nextID),
        weights: ExtendedTable(encoder.component.weights, adding: encoder.rows))
      tokenizers[encoder.tokenizerName] = .adding(encoder.added, to: encoder.tokenizer)
    }
    return replacing(components: components, tokenizers: tokenizers)
  }

  private func textEncoders() throws -> [Encoder] {
    let pairs = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
    return try pairs.compactMap { name, tokenizerName in
      guard contains(name), contains(tokenizerName) else { return nil }
      let component = try component(name)
      guard component.className.hasPrefix("CLIPTextModel") else { return nil }
      let config = try CLIPTextConfig(component.configuration)
      let source = try tokenizer(named: tokenizerName)
      return Encoder(
        name: name, component: component, config: config, tokenizerName: tokenizerName, tokenizer: source,
        nextID: config.vocabularySize, known: try source.load())
    }
  }

  /// One token's vectors, of one or several files.
  private static func add(_ files: [TextualInversion], to encoders: inout [Encoder]) throws {
    guard let token = files.first?.token, let path = files.first?.url.path else { return }
    var counts: [String: Int] = [:]
    for file in files {
      for (name, component) in file.tensors {
        let (count, width) = file.size(name)
        // Of several encoders of one width the first without vectors.
        let index = encoders.firstIndex {
          counts[$0.name] == nil && $0.config.hiddenSize == width && component ?? $0.name == $0.name
        }
        guard let index else {
          throw AdapterError.wrongWidth(
            path: file.url.path, name: name, got: width,
            needed: encoders.filter { component ?? $0.name == $0.name }.map(\.config.hiddenSize))
        }
        counts[encoders[index].name] = count
        encoders[index].rows.append((source: file.file, name: name))
      }
    }
    for index in encoders.indices {
      guard let count = counts[encoders[index].name] else {
        throw AdapterError.noVectors(path: path, token: token, encoder: encoders[index].name)
      }
      guard count == counts[encoders[0].name] else {
        throw AdapterError.differentCounts(path: path, token: token)
      }
      let added = CLIPTokenizer.AddedToken.vectors(of: token, count: count, from: encoders[index].nextID)
      if let known = added.first(where: { encoders[index].known.contains($0.content) }) {
        throw AdapterError.knownToken(path: path, token: known.content)
      }
      encoders[index].known = try encoders[index].known.adding(added)
      encoders[index].added += added
      encoders[index].nextID += count
    }
  }
}

extension CLIPTokenizer.AddedToken {
  /// What diffusers adds for a token of several vectors, whose ids begin with `first`: the token itself, which stands for
  /// all of them, and TOKEN_1, TOKEN_2, … for those behind the first.
  static func vectors(of token: String, count: Int, from first: Int) -> [CLIPTokenizer.AddedToken] {
    let ids = (0..<count).map { Int32(first + $0) }
    return ids.indices.map {
      CLIPTokenizer.AddedToken($0 == 0 ? token : "\(token)_\($0)", ids: $0 == 0 ? ids : [ids[$0]])
    }
  }
}

extension StrictJSON {
  /// An object with another value for a key; anything else as it is.
  func replacing(_ key: String, _ value: Int) -> StrictJSON {
    guard case .object(let members) = self else { return self }
    return .object(members.filter { $0.key != key } + [Member(key, .integer(value))])
  }
}
