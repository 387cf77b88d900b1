import ArgumentParser
import Foundation
import Langevin
import LangevinJSON
import LangevinTensor

/// A prompt of a run, with the settings that it has of its own.
struct PromptLine: Equatable {
  var prompt: String
  var settings = Settings()
  var seed: UInt64?

  /// What comes before the command line; nil leaves it to that.
  struct Settings: Hashable {
    var negative: String?
    var steps: Int?
    var guidance: Double?
    var sampler: String?
    var width, height: Int?
  }

  /// Those of a prompt file: a prompt a line, or where its name ends in `.jsonl` an object.
  ///
  /// Throws `CheckpointError` for a file that is missing, no text, or without prompts.
  static func read(_ path: String) throws -> [PromptLine] {
    guard FileManager.default.fileExists(atPath: path) else { throw CheckpointError.missingFile(path: path) }
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw CheckpointError.unreadable(path: path, reason: "it is no UTF-8 text")
    }
    let isJSON = path.lowercased().hasSuffix(".jsonl")
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated()
      .map { (number: $0.offset + 1, text: $0.element.trimmingCharacters(in: .whitespaces)) }
      .filter { !$0.text.isEmpty && (isJSON || !$0.text.hasPrefix("#")) }
    guard !lines.isEmpty else {
      throw CheckpointError.malformed(path: path, reason: "it has no prompt in it")
    }
    return try lines.map { line in
      guard isJSON else { return PromptLine(prompt: line.text) }
      do {
        return try PromptLine(json: line.text)
      } catch let error as LineError {
        throw CheckpointError.malformed(path: path, reason: "line \(line.number): \(error.reason)")
      }
    }
  }

  private struct LineError: Error { let reason: String }

  private static let fields = [
    "prompt", "negative_prompt", "seed", "steps", "guidance", "sampler", "width", "height",
  ]

  /// With the names that `langevin serve` has for them. Throws `LineError`.
  private init(json text: String) throws {
    let json: StrictJSON
    do {
      json = try StrictJSON(parsing: Array(text.utf8))
    } catch StrictJSON.ParseError.duplicateKey(let key) {
      throw LineError(reason: "it has '\(key)' twice")
    } catch {
      throw LineError(reason: "it is no JSON object")
    }
    guard case .object(let members) = json else { throw LineError(reason: "it is no JSON object") }
    if let key = members.map(\.key).first(where: { !Self.fields.contains($0) }) {
      let hint = Suggestion.text(for: key, among: Self.fields)
      throw LineError(
        reason: "there is no field '\(key)'\(hint); there are: \(Self.fields.joined(separator: ", "))")
    }
    func value<Value>(_ key: String, _ wanted: String, _ read: (StrictJSON) -> Value?) throws -> Value? {
      guard let member = json[key], member != .null else { return nil }
      guard let value = read(member) else {
        throw LineError(reason: "'\(key)' must be \(wanted), got \(member.text.shortened(to: 80))")
      }
      return value
    }
    func exact<Value>(_ parse: @escaping (String) -> Value?) -> (StrictJSON) -> Value? {
      { if case .number(let spelling) = $0 { parse(spelling) } else { nil } }
    }
    guard let prompt = try value("prompt", "a text", \.string) else {
      throw LineError(reason: "it has no 'prompt'")
    }
    self.prompt = prompt
    seed = try value("seed", "a whole number from 0 to 2^64 - 1", exact { UInt64($0) })
    settings.negative = try value("negative_prompt", "a text", \.string)
    settings.steps = try value("steps", "a whole number", exact { Int($0) })
    settings.guidance = try value("guidance", "a number", \.double)
    settings.sampler = try value("sampler", "a text", \.string)
    if let sampler = settings.sampler {
      do {
        _ = try SamplerOption(sampler)
      } catch { throw LineError(reason: "there is no sampler '\(sampler)'; \(error)") }
    }
    settings.width = try value("width", "a whole number", exact { Int($0) })
    settings.height = try value("height", "a whole number", exact { Int($0) })
  }

  /// Without settings.
  init(prompt: String) { self.prompt = prompt }
}

extension PromptLine.Settings {
  var isEmpty: Bool { self == PromptLine.Settings() }

  /// The options of a command line with them. Throws `ValidationError`.
  func options(_ options: GenerationOptions) throws -> GenerationOptions {
    var options = options
    if let negative { options.negative = negative }
    if let steps { options.steps = steps }
    if let guidance { options.guidance = guidance }
    if let width { options.width = width }
    if let height { options.height = height }
    if let sampler {
      let before = options.sampler
      options.sampler = try SamplerOption(sampler)
      // One that came with the other sampler's name goes with it.
      if let old = before?.spacing, options.spacing?.name == old.rawValue { options.spacing = nil }
      options.takeSpacingOfSampler()
    }
    return options
  }

  /// What a request has of them, which is of a command line without them. `options` are those with them.
  func apply(to request: inout GenerationRequest, _ options: GenerationOptions) {
    if let negative { request.negativePrompt = negative }
    if let steps { request.steps = steps }
    if let guidance { request.guidance = guidance }
    if let width { request.width = width }
    if let height { request.height = height }
    if sampler != nil {
      request.sampler = options.sampler?.sampler
      request.levels = options.levels
    }
  }
}

/// Pictures of a run that have all settings in common, seeds in a row, and follow each other.
struct Sheet {
  let settings: PromptLine.Settings
  /// With the settings.
  let options: GenerationOptions
  let prompts: Prompts
  /// Of its first image.
  let seed: UInt64
  /// By their numbers in the run.
  let images: Range<Int>

  /// Of all lines; picture k of the run has `seed` + k where its line has no seed. Throws `ValidationError`.
  static func all(_ lines: [PromptLine], _ prompts: Prompts, _ options: GenerationOptions, seed: UInt64)
    throws
    -> [Sheet]
  {
    let count = options.count
    func seedOf(_ line: Int) -> UInt64 { lines[line].seed ?? seed &+ UInt64(line * count) }
    guard !lines.isEmpty else {
      return [
        Sheet(
          settings: PromptLine.Settings(), options: options, prompts: prompts, seed: seed, images: 0..<count)
      ]
    }
    var starts = [0]
    for line in lines.indices.dropFirst() {
      let first = starts[starts.count - 1]
      if lines[line].settings != lines[first].settings
        || seedOf(line) != seedOf(first) &+ UInt64((line - first) * count)
      {
        starts.append(line)
      }
    }
    return try zip(starts, starts.dropFirst() + [lines.count]).map { first, end in
      let settings = lines[first].settings
      return Sheet(
        settings: settings, options: try settings.options(options), prompts: prompts.only(first..<end),
        seed: seedOf(first), images: first * count..<end * count)
    }
  }

  /// Of each of its images.
  var seeds: [UInt64] { (0..<images.count).map { seed &+ UInt64($0) } }

  /// The request, of a run's that has neither settings of lines nor the other sheets' prompts.
  func request(_ run: GenerationRequest) -> GenerationRequest {
    var request = run
    (request.prompts, request.seed) = (prompts.texts, seed)
    settings.apply(to: &request, options)
    return request
  }
}

/// A line of `generate --jsonl`: a picture that is there.
struct PictureLine {
  let file: String
  let seed: UInt64
  let prompt: String
  /// Of computing since the line before; nil for a picture that was there already.
  let seconds: Double?

  var text: String {
    StrictJSON.object([
      .init("file", .string(file)), .init("seed", .number("\(seed)")), .init("prompt", .string(prompt)),
      .init("drawn", .bool(seconds != nil)),
      .init("seconds", seconds.map { .real(($0 * 1000).rounded() / 1000) } ?? .null),
    ]).text
  }
}
