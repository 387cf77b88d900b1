import Foundation
import LangevinModels

/// How a prompt's text is read.
public enum PromptSyntax: String, Sendable, CaseIterable {
  /// As diffusers does: every character is text, and what does not fit into the encoder is cut off.
  case plain
  /// As A1111's web UI does: `(word)` is 1.1 times as strong, `(word:1.3)` 1.3 times, `[word]` 1.1 times weaker, and
  /// they nest; `\(` is a parenthesis. What does not fit begins another chunk, as does the word `BREAK`.
  case a1111
}

/// A run of text of one weight.
struct WeightedText: Equatable {
  var text: String
  var weight: Double
}

extension WeightedText {
  /// A prompt as A1111's web UI reads it (`parse_prompt_attention`), in parts between the word BREAK.
  ///
  /// A bracket that is never closed counts to the end; one that was never opened is text. A backslash makes text of a
  /// bracket or a backslash behind it, and is dropped in front of anything else.
  ///
  /// Throws `GenerationError.badRequest` where more than `maximumDepth` brackets are open at once: time grows with it.
  static func parse(_ prompt: String) throws(GenerationError) -> [[WeightedText]] {
    var runs: [WeightedText] = []
    // Where runs within open brackets begin.
    var round: [Int] = []
    var square: [Int] = []
    func multiply(from start: Int, by factor: Double) {
      for index in start..<max(start, runs.count) { runs[index].weight *= factor }
    }
    var rest = prompt[...]
    while let character = rest.popFirst() {
      guard round.count + square.count <= maximumDepth else {
        throw .badRequest("more than \(maximumDepth) brackets of the prompt are open at once")
      }
      switch character {
      case "\\":
        if let next = rest.first, "()[]\\".contains(next) {
          runs.append(WeightedText(text: String(next), weight: 1))
          rest.removeFirst()
        }
      case "(": round.append(runs.count)
      case "[": square.append(runs.count)
      case ":":
        if let start = round.last, let (weight, after) = closingWeight(rest) {
          round.removeLast()
          multiply(from: start, by: weight)
          rest = after
        } else {
          runs.append(WeightedText(text: ":", weight: 1))
        }
      case ")" where !round.isEmpty: multiply(from: round.removeLast(), by: 1.1)
      case "]" where !square.isEmpty: multiply(from: square.removeLast(), by: 1 / 1.1)
      case ")", "]": runs.append(WeightedText(text: String(character), weight: 1))
      default:
        let text = String(character) + rest.prefix { !"\\()[]:".contains($0) }
        rest = rest.dropFirst(text.count - 1)
        for (index, part) in separated(text).enumerated() {
          if index > 0 { runs.append(.chunkEnd) }
          runs.append(WeightedText(text: part, weight: 1))
        }
      }
    }
    for start in round { multiply(from: start, by: 1.1) }
    for start in square { multiply(from: start, by: 1 / 1.1) }

    var parts: [[WeightedText]] = [[]]
    for run in runs {
      let last = parts.count - 1
      if run.text == chunkEnd.text {
        parts.append([])
      } else if parts[last].last?.weight == run.weight {
        // Words may go on across runs.
        parts[last][parts[last].count - 1].text += run.text
      } else if !run.text.isEmpty {
        parts[last].append(run)
      }
    }
    return parts
  }

  /// Brackets within each other: 1.1 to this power is 13,780.
  static let maximumDepth = 100

  /// No text that a user can write.
  private static let chunkEnd = WeightedText(text: "\u{0}BREAK", weight: 1)

  /// `1.3)`, with spaces around the number; and what follows.
  private static func closingWeight(_ text: Substring) -> (weight: Double, rest: Substring)? {
    let number = text.drop { $0.isWhitespace }
    let digits = number.prefix { "+-.0123456789".contains($0) }
    let end = number[digits.endIndex...].drop { $0.isWhitespace }
    guard end.first == ")", let weight = Double(digits) else { return nil }
    return (weight, end.dropFirst())
  }

  /// What is between the words BREAK.
  private static func separated(_ text: String) -> [String] {
    var parts: [String] = []
    var rest = text[...]
    var from = rest.startIndex
    func isWordCharacter(_ character: Character?) -> Bool {
      character.map { $0.isLetter || $0.isNumber || $0 == "_" } ?? false
    }
    while let found = rest[from...].range(of: "BREAK") {
      if isWordCharacter(rest[..<found.lowerBound].last) || isWordCharacter(rest[found.upperBound...].first) {
        from = found.upperBound
        continue
      }
      parts.append(String(rest[..<found.lowerBound]))
      rest = rest[found.upperBound...]
      from = rest.startIndex
    }
    return parts + [String(rest)]
  }
}

/// What a text encoder reads: sequences of its length, and how strong each token is.
struct PromptChunks {
  /// One token sequence a chunk, all of one length.
  var ids: [[Int32]] = []
  /// One a token; 1 for start, end and padding.
  var weights: [[Float]] = []
  /// Text that was left out.
  var truncated: String?

  var isWeighted: Bool { weights.contains { $0.contains { $0 != 1 } } }
}

extension CLIPTokenizer {
  /// A prompt as chunks of `length` tokens, at least one and at most `maximumChunks`.
  ///
  /// - Parameter length: at least 3.
  ///
  /// Throws `GenerationError.badRequest` for a prompt of more chunks or of too many brackets.
  func chunks(_ prompt: String, _ syntax: PromptSyntax, length: Int) throws(GenerationError) -> PromptChunks {
    switch syntax {
    case .plain:
      let sequence = self(prompt, length: length)
      return PromptChunks(
        ids: [sequence.ids], weights: [[Float](repeating: 1, count: length)], truncated: sequence.truncated)
    case .a1111: return try weightedChunks(prompt, length: length)
    }
  }

  /// A chunk without text.
  func emptyChunk(length: Int) -> [Int32] { self("", length: length).ids }

  /// As far back as this, a chunk that is full ends after its last comma.
  private static let commaReach = 20

  /// The denoiser looks at every one of them at every step.
  static let maximumChunks = 128

  private func tooLong(_ room: Int) -> GenerationError {
    .badRequest("the prompt makes more than \(Self.maximumChunks) chunks of \(room) tokens")
  }

  private func weightedChunks(_ prompt: String, length: Int) throws(GenerationError) -> PromptChunks {
    let room = length - 2
    let comma = encode(",").first
    var result = PromptChunks()
    var chunk: [(id: Int32, weight: Float)] = []
    var lastComma: Int?
    func close(_ tokens: [(id: Int32, weight: Float)]) {
      let padding = room - tokens.count
      result.ids.append(
        [startToken] + tokens.map(\.id) + [endToken] + [Int32](repeating: paddingToken, count: padding))
      result.weights.append([1] + tokens.map(\.weight) + [Float](repeating: 1, count: 1 + padding))
      (chunk, lastComma) = ([], nil)
    }
    for (index, part) in try WeightedText.parse(prompt).enumerated() {
      if index > 0 { close(chunk) }
      for run in part {
        for id in encode(run.text) {
          if id == comma {
            lastComma = chunk.count
          } else if chunk.count == room, let comma = lastComma, chunk.count - comma <= Self.commaReach {
            // What follows the last comma belongs together.
            let moved = Array(chunk[(comma + 1)...])
            close(Array(chunk[...comma]))
            chunk = moved
          }
          // An added token of several ids is not divided where a chunk can hold it.
          let count = min(idCount(from: id), room)
          if chunk.count + count > room { close(chunk) }
          chunk.append((id, Float(run.weight)))
        }
      }
    }
    if !chunk.isEmpty || result.ids.isEmpty { close(chunk) }
    guard result.ids.count <= Self.maximumChunks else { throw tooLong(room) }
    return result
  }
}
